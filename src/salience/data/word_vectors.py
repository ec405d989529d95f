"""Word vectors: fitted on the training texts, or read from a file."""

import gzip
from pathlib import Path

import numpy as np

from salience.core.errors import DataError

SEPARATOR = -1


def fit_word_vectors(
    texts: list[np.ndarray], size: int, dim: int, *, window: int = 5, seed: int = 0
) -> np.ndarray:
    """Fit word vectors by truncated SVD of positive pointwise mutual information.

    Args:
        texts: word indices of each training text.
        size: number of words.
        dim: size of a vector.
        window: words to each side that count as context, weighted by 1/distance.
        seed: seed of the randomised SVD.

    Returns:
        float32 array ``(size, dim)`` with unit root mean square a row; words without context are zero.

    Source:
        Levy, Goldberg, Dagan 2015: shifted-free PPMI with context distribution smoothing 0.75, symmetric
        split of the singular values.
    """
    from scipy.sparse import csr_matrix, diags
    from sklearn.utils.extmath import randomized_svd

    counts = _cooccurrence(texts, size, window)
    rows = np.asarray(counts.sum(axis=1)).ravel()
    smooth = rows**0.75
    used = rows > 0
    left = np.divide(1.0, rows, out=np.zeros(size), where=used)
    right = np.divide(smooth.sum(), smooth, out=np.zeros(size), where=used)
    pmi = csr_matrix(diags(left) @ counts @ diags(right))
    pmi.data = np.maximum(np.log(np.maximum(pmi.data, 1e-12)), 0.0)
    pmi.eliminate_zeros()
    vectors = np.zeros((size, dim), dtype=np.float32)
    if pmi.nnz:
        rank = min(dim, size - 1)
        u, s, _ = randomized_svd(pmi, rank, n_iter=3, random_state=seed)
        vectors[:, :rank] = u * np.sqrt(s)
    return _unit_rms(vectors)


def _cooccurrence(texts: list[np.ndarray], size: int, window: int):
    from scipy.sparse import coo_matrix, csr_matrix

    gap = np.full(window, SEPARATOR)
    stream = np.concatenate([part for text in texts for part in (text, gap)]) if texts else gap
    total = csr_matrix((size, size))
    for distance in range(1, window + 1):
        a, b = stream[:-distance], stream[distance:]
        both = (a >= 0) & (b >= 0)
        weight = np.full(int(both.sum()), 1.0 / distance)
        total = total + coo_matrix((weight, (a[both], b[both])), shape=(size, size)).tocsr()
    return total + total.T


def _unit_rms(vectors: np.ndarray) -> np.ndarray:
    """Scale each row; rows that are rounding noise of the SVD (words without context) become zero."""
    norm = np.sqrt((vectors**2).mean(axis=1, keepdims=True))
    real = norm > 1e-3 * norm.max(initial=0.0)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=real)


def read_word_vectors(path: Path | str, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read the vectors of given words from a file.

    Args:
        path: a text file (``word v1 v2 …`` a line, optionally gzipped, with or without a header line of counts),
            or an ``.npz`` with ``vectors`` and either ``words`` or a ``words.txt[.gz]`` beside it.
        words: the words that are wanted.

    Returns:
        float32 array ``(word, dim)`` and a Boolean array that says which words were found.

    Raises:
        DataError: the file is absent or of another form.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(
            "The word vectors cannot be read", f"{path} does not exist.", "Check the path.", code="SAL-D050"
        )
    found = _from_npz(path, words) if path.suffix == ".npz" else _from_text(path, words)
    if not found:
        raise DataError(
            "The word vectors hold none of the words",
            f"{path}, {len(words)} words wanted.",
            "Check the language and case.",
            code="SAL-D051",
        )
    dim = len(next(iter(found.values())))
    vectors, known = np.zeros((len(words), dim), np.float32), np.zeros(len(words), bool)
    for i, word in enumerate(words):
        if word in found:
            vectors[i], known[i] = found[word], True
    return vectors, known


def _from_npz(path: Path, words: list[str]) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        if "vectors" not in archive:
            raise DataError(
                "The word vectors have no array 'vectors'",
                str(path),
                "Save with np.savez(path, vectors=…, words=…).",
                code="SAL-D052",
            )
        vectors = archive["vectors"]
        names = archive["words"].tolist() if "words" in archive else _names_beside(path)
    if len(names) != len(vectors):
        raise DataError(
            "Words and vectors differ in number",
            f"{path}: {len(names)} words, {len(vectors)} vectors.",
            "",
            code="SAL-D052",
        )
    wanted = set(words)
    return {name: vectors[i].astype(np.float32) for i, name in enumerate(names) if name in wanted}


def _names_beside(path: Path) -> list[str]:
    for name, opener in (("words.txt.gz", gzip.open), ("words.txt", open)):
        if (path.parent / name).exists():
            with opener(path.parent / name, "rt", encoding="utf-8") as file:
                return file.read().splitlines()
    raise DataError(
        "The word vectors have no words",
        str(path),
        "Add an array 'words' or a words.txt beside the file.",
        code="SAL-D052",
    )


def _from_text(path: Path, words: list[str]) -> dict[str, np.ndarray]:
    wanted, found, dim = set(words), {}, 0
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            word, *numbers = line.rstrip().split(" ")
            if number == 1 and len(numbers) == 1:  # header: word count and dimension
                continue
            dim = dim or len(numbers)
            if len(numbers) != dim:
                raise DataError(
                    "A word vector has another length",
                    f"{path}, line {number}: {len(numbers)} numbers, want {dim}.",
                    "",
                    code="SAL-D052",
                )
            if word in wanted:
                found[word] = _numbers(numbers, path, number)
    return found


def _numbers(texts: list[str], path: Path, number: int) -> np.ndarray:
    try:
        return np.array(texts, dtype=np.float32)
    except ValueError:
        raise DataError(
            "A word vector is not made of numbers", f"{path}, line {number}.", "", code="SAL-D052"
        ) from None
