"""Read a data set of the Hugging Face hub by its name, where the hub is reachable."""

from salience.core.errors import DataError
from salience.core.extras import require
from salience.data.readers import frame
from salience.data.readers.options import Parsed

CARD = {
    "key": "hugging-face",
    "kind": "reader",
    "title": "A data set of the Hugging Face hub",
    "entry": "read",
    "extensions": [],
    "extras": ["hf"],
    "summary": "hf:owner/name",
}


def read(name: str) -> Parsed:
    """Return all splits of ``owner/name`` as one table.

    Raises:
        MissingExtraError: the extra is not installed.
        DataError: the hub cannot be reached or has no such data set (SAL-D001).
    """
    datasets = require("datasets")
    try:
        loaded = datasets.load_dataset(name)
    except Exception as error:
        raise DataError(
            f"The data set hf:{name} cannot be loaded",
            str(error)[:160],
            "Check the name and the connection, or give a file.",
            code="SAL-D001",
        ) from None
    return frame.read(loaded, f"hf:{name}")
