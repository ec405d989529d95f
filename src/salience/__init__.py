"""salience: attention models that explain themselves, and measure whether the explanation is true.

Public names are loaded when first used, so that ``import salience`` stays fast and free of torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "Predictor": "salience.api",
    "load": "salience.api",
    "LanguageModel": "salience.language",
    "run": "salience.pipeline",
    "read": "salience.data.readers",
    "Schema": "salience.data.schema",
    "Explanation": "salience.explain.explanation",
    "adopt": "salience.explain.adopt",
    "from_torch": "salience.explain.adapters",
    "from_huggingface": "salience.explain.adapters",
    "from_sklearn": "salience.explain.adapters",
    "from_callable": "salience.explain.adapters",
    "TokenInput": "salience.explain.adapters",
    "FeatureInput": "salience.explain.adapters",
    "ImageInput": "salience.explain.adapters",
    "Finding": "salience.core.finding",
    "Report": "salience.report.report",
    "SalienceError": "salience.core.errors",
    "SalienceClassifier": "salience.sklearn",
    "SalienceRegressor": "salience.sklearn",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'salience' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
