"""Questions about simple shapes: an image and a text together."""

import json
from pathlib import Path

import pandas as pd

from salience.data.datasets.download import Package, archive, zip_members

CARD = {
    "key": "easy-vqa",
    "kind": "dataset",
    "title": "easy-VQA: questions about shapes",
    "entry": "load",
    "summary": "Answer a question about a picture of one coloured shape: 13 answers.",
    "target": "answer",
    "task": "classification",
    "kinds": ["text", "image"],
    "rows": 48248,
    "year": 2019,
    "source": "easy-vqa package",
    "url": "https://github.com/vzhou842/easy-VQA",
    "licence": "MIT",
    "package": "easy-vqa",
    "version": "1.0",
    "sha256": "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
}
FOLDER = "easy_vqa/data/"


def load(cache: Path | str | None = None) -> pd.DataFrame:
    """Return one row a question: ``question``, ``image`` (bytes of a 64 × 64 PNG), ``answer``, ``split``.

    The split is the published one: 38,575 questions over 4,000 images, and 9,673 over 1,000.

    Args:
        cache: folder of archives; by default ``SALIENCE_CACHE`` or the user's cache.
    """
    path = archive(Package.of(CARD), cache)
    questions = zip_members(path, FOLDER, "questions.json")
    images = zip_members(path, FOLDER, ".png")
    rows = [
        (question, images[f"{split}/images/{number}.png"], answer, split)
        for split in ("train", "test")
        for question, answer, number in json.loads(questions[f"{split}/questions.json"])
    ]
    return pd.DataFrame(rows, columns=["question", "image", "answer", "split"])
