"""Sentences of four sorts with the mean valence that people gave them."""

from pathlib import Path

import pandas as pd

from salience.core.errors import IntegrityError
from salience.data.datasets.download import Package, archive, member, tar_members

CARD = {
    "key": "rated-sentences",
    "kind": "dataset",
    "title": "Sentences rated by people for valence",
    "entry": "load",
    "summary": "How positive is a sentence, from −4 to 4? Film and product reviews, newspaper editorials, tweets.",
    "target": "valence",
    "task": "regression",
    "kinds": ["text", "category"],
    "group": "document_id",
    "rows": 23703,
    "paper": "Hutto and Gilbert, VADER: a parsimonious rule-based model for sentiment analysis, ICWSM 2014",
    "year": 2014,
    "source": "vaderSentiment source distribution, additional_resources",
    "url": "https://github.com/cjhutto/vaderSentiment",
    "licence": "MIT",
    "package": "vaderSentiment",
    "version": "3.3.2",
    "sha256": "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
}
MEMBER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
SORTS = {
    "amazonReviewSnippets": "product review",
    "movieReviewSnippets": "film review",
    "nytEditorialSnippets": "newspaper",
    "tweets": "tweet",
}


def load(cache: Path | str | None = None) -> pd.DataFrame:
    """Return one row a sentence: ``document_id``, ``text``, ``sort`` and ``valence``.

    Valence is the mean of at least 20 raters, from −4 to 4. Sentences of one review or article share their
    ``document_id``, for a grouped split.

    Args:
        cache: folder of archives; by default ``SALIENCE_CACHE`` or the user's cache.

    Raises:
        IntegrityError: a line is not of the form id, valence, text (SAL-I002).
    """
    inner = member(archive(Package.of(CARD, wheel=False), cache), MEMBER)
    rows = []
    for name, data in tar_members(inner, "_GroundTruth.txt"):
        sort = SORTS[Path(name).name.removesuffix("_GroundTruth.txt")]
        rows += [_row(line, sort) for line in data.decode("utf-8").split("\n") if line.strip()]
    return pd.DataFrame(rows, columns=["document_id", "text", "sort", "valence"])


def _row(line: str, sort: str) -> tuple[str, str, str, float]:
    try:
        identifier, valence, text = line.split("\t", 2)
        document = f"{sort.split()[0]}-{identifier.split('_')[0]}"
        return document, text.strip(), sort, float(valence)
    except ValueError:
        raise IntegrityError(
            "A line of rated-sentences cannot be read", line[:80], "Fetch it again.", code="SAL-I002"
        ) from None
