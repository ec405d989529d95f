"""Read a folder of class-named folders of images, with or without folders for the splits above them."""

from pathlib import Path

import pandas as pd

from salience.core.errors import DataError
from salience.data.images import is_image_path
from salience.data.profile import SPLIT_NAMES
from salience.data.readers.options import Parsed

CARD = {
    "key": "image-folder",
    "kind": "reader",
    "title": "A folder of class-named folders of images",
    "entry": "read",
    "extensions": [],
    "summary": "cats/1.png, dogs/2.png; also train/cats/1.png, test/cats/3.png.",
    "kinds": ["image"],
}


def read(folder: Path, name: str) -> Parsed:
    """Return one row an image: ``image`` (path), ``label`` (name of its folder), ``split`` where given.

    Raises:
        DataError: no images in sub-folders (SAL-D016).
    """
    folders = _folders(folder)
    splits = [path for path in folders if path.name.lower() in SPLIT_NAMES]
    if splits and len(splits) == len(folders):
        rows = [
            (*row, SPLIT_NAMES[split.name.lower()]) for split in splits for row in _labelled(_folders(split))
        ]
        frame = pd.DataFrame(rows, columns=["image", "label", "split"])
    else:
        frame = pd.DataFrame(_labelled(folders), columns=["image", "label"])
    if len(frame) == 0:
        raise DataError(
            "The folder holds no table and no folders of images",
            f"{name}.",
            "Give a folder with one table, with train and test tables, or with one folder of images a class.",
            code="SAL-D016",
        )
    return Parsed(frame, [f"{len(frame):,} images in {frame['label'].nunique()} classes"], target="label")


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _labelled(classes: list[Path]) -> list[tuple[str, str]]:
    return [
        (str(path), folder.name)
        for folder in classes
        for path in sorted(folder.rglob("*"))
        if is_image_path(path.name) and path.is_file() and not path.name.startswith(".")
    ]
