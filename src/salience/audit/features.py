"""Columns → plain feature matrices for the classical baselines and the single-column models."""

from typing import Any

import numpy as np
import pandas as pd

from salience.data.images import load_image

WORDS = r"(?u)\b\w+\b|[!?]"
PIXELS = 8


class TextFeatures:
    """Turn one text column into TF-IDF of words and word pairs, ``!`` and ``?`` included.

    Args:
        pairs: also count pairs of neighbouring words.
        limit: largest number of features, the most frequent first.
    """

    def __init__(self, *, pairs: bool = True, limit: int = 200_000) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._empty = False
        self._vectorizer = TfidfVectorizer(
            sublinear_tf=True,
            min_df=2,
            ngram_range=(1, 2 if pairs else 1),
            token_pattern=WORDS,
            max_features=limit,
            dtype=np.float32,
        )

    def fit_transform(self, values: pd.Series) -> Any:
        """Fit on training values and return their sparse matrix; no columns if no word occurs twice."""
        try:
            return self._vectorizer.fit_transform(values)
        except ValueError:  # scikit-learn's only way to say that the vocabulary is empty
            self._empty = True
            return self.transform(values)

    def transform(self, values: pd.Series) -> Any:
        """Return the sparse matrix of new values."""
        from scipy.sparse import csr_matrix

        if self._empty:
            return csr_matrix((len(values), 0), dtype=np.float32)
        return self._vectorizer.transform(values)


class NumberFeatures:
    """Standardise numbers; a missing one becomes the training median and sets a flag."""

    def fit_transform(self, values: np.ndarray) -> np.ndarray:
        """Fit on training values ``(row, column)`` and return ``(row, 2 × column)``."""
        finite = np.where(np.isfinite(values), values, np.nan)
        known = np.isfinite(finite).any(axis=0)
        self._median = np.zeros(values.shape[1])
        self._median[known] = np.nanmedian(finite[:, known], axis=0)
        filled = np.where(np.isfinite(finite), finite, self._median)
        self._mean, self._std = filled.mean(axis=0), filled.std(axis=0)
        self._std[self._std == 0] = 1.0
        return self.transform(values)

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Return standardised numbers and missing flags."""
        missing = ~np.isfinite(values)
        filled = np.where(missing, self._median, values)
        return np.hstack([(filled - self._mean) / self._std, missing.astype(float)])


def pixels(value: Any) -> np.ndarray:
    """Return an image cell as 8 × 8 colours in [0, 1], flat; 0.5 if missing."""
    from PIL import Image

    if value is None:
        return np.full(PIXELS * PIXELS * 3, 0.5)
    small = load_image(value).resize((PIXELS, PIXELS), Image.Resampling.BOX)
    return np.asarray(small, dtype=float).ravel() / 255.0


def pixel_matrix(values: pd.Series) -> np.ndarray:
    """Return the pixels of an image column, one row an image."""
    return np.stack([pixels(value) for value in values])


def categories(frame: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Return category cells as strings, ``""`` for a missing one."""
    return frame[columns].astype(object).where(frame[columns].notna(), "").astype(str).to_numpy(dtype=object)


def by_kind(schema: Any) -> dict[str, list[str]]:
    """Return kind → names of the input columns of that kind."""
    groups: dict[str, list[str]] = {"text": [], "number": [], "category": [], "image": []}
    for column in schema.inputs:
        groups[column.kind].append(column.name)
    return groups


class LinearFeatures:
    """All input columns as one sparse matrix for a linear model."""

    def __init__(self, schema: Any) -> None:
        self._columns = by_kind(schema)

    def fit_transform(self, frame: pd.DataFrame) -> Any:
        """Fit on canonical training rows and return their sparse matrix."""
        from sklearn.preprocessing import OneHotEncoder

        self._text = {name: TextFeatures() for name in self._columns["text"]}
        self._number = NumberFeatures()
        self._onehot = OneHotEncoder(handle_unknown="ignore", dtype=np.float32)
        return self._join(frame, "fit_transform")

    def transform(self, frame: pd.DataFrame) -> Any:
        """Return the sparse matrix of new canonical rows."""
        return self._join(frame, "transform")

    def _join(self, frame: pd.DataFrame, step: str) -> Any:
        from scipy.sparse import csr_matrix, hstack

        columns = self._columns
        parts = [getattr(features, step)(frame[name]) for name, features in self._text.items()]
        if columns["category"]:
            parts.append(getattr(self._onehot, step)(categories(frame, columns["category"])))
        if columns["number"]:
            numbers = frame[columns["number"]].to_numpy(dtype=float)
            parts.append(csr_matrix(getattr(self._number, step)(numbers)))
        parts += [csr_matrix(pixel_matrix(frame[name]) - 0.5) for name in columns["image"]]
        return hstack(parts).tocsr()


class DenseFeatures:
    """All input columns as one dense matrix for boosted trees; ``categorical`` marks the coded categories.

    Text becomes its leading directions in TF-IDF space and its number of words.

    Args:
        schema: columns.
        directions: directions kept for each text column.
        seed: seed of the randomised decomposition.
    """

    MAX_CATEGORIES = 254

    def __init__(self, schema: Any, *, directions: int = 40, seed: int = 0) -> None:
        self._columns, self._directions, self._seed = by_kind(schema), directions, seed
        self.categorical: list[bool] = []

    def fit_transform(self, frame: pd.DataFrame) -> np.ndarray:
        """Fit on canonical training rows and return their matrix."""
        from sklearn.preprocessing import OrdinalEncoder

        self._text = {name: _TextDirections(self._directions, self._seed) for name in self._columns["text"]}
        self._codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
        matrix = self._join(frame, "fit_transform")
        native = [len(found) <= self.MAX_CATEGORIES for found in getattr(self._codes, "categories_", [])]
        self.categorical = native + [False] * (matrix.shape[1] - len(native))
        return matrix

    def transform(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the matrix of new canonical rows."""
        return self._join(frame, "transform")

    def _join(self, frame: pd.DataFrame, step: str) -> np.ndarray:
        columns, parts = self._columns, []
        if columns["category"]:
            parts.append(getattr(self._codes, step)(categories(frame, columns["category"])))
        if columns["number"]:
            numbers = frame[columns["number"]].to_numpy(dtype=float)
            if step == "fit_transform":  # the trees cannot bin a column without values
                self._filled = np.isfinite(numbers).sum(axis=0) >= min(20, max(len(numbers) // 4, 1))
            parts.append(np.where(self._filled, np.where(np.isfinite(numbers), numbers, np.nan), 0.0))
        parts += [getattr(features, step)(frame[name]) for name, features in self._text.items()]
        parts += [pixel_matrix(frame[name]) for name in columns["image"]]
        return np.hstack(parts)


class _TextDirections:
    def __init__(self, directions: int, seed: int) -> None:
        self._directions, self._seed, self._svd = directions, seed, None
        self._tfidf = TextFeatures(pairs=False, limit=20_000)

    def fit_transform(self, values: pd.Series) -> np.ndarray:
        from sklearn.decomposition import TruncatedSVD

        matrix = self._tfidf.fit_transform(values)
        directions = min(self._directions, min(matrix.shape) - 1)
        if directions >= 1:
            self._svd = TruncatedSVD(directions, n_iter=3, random_state=self._seed).fit(matrix)
        return self._dense(values, matrix)

    def transform(self, values: pd.Series) -> np.ndarray:
        return self._dense(values, self._tfidf.transform(values))

    def _dense(self, values: pd.Series, matrix: Any) -> np.ndarray:
        words = values.str.count(" ").to_numpy(dtype=float)[:, None] + 1
        return words if self._svd is None else np.hstack([words, self._svd.transform(matrix)])
