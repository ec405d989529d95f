"""Word-level text encoders: unknown words, columns, hidden words, limits, and word vectors."""

import gzip

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from salience.core.errors import DataError
from salience.data.vocabulary import PAD, UNKNOWN, Vocabulary
from salience.data.word_vectors import _cooccurrence, fit_word_vectors, read_word_vectors
from salience.models.word_encoder import WordEncoder

FRAME = pd.DataFrame(
    {"title": ["Great dress", "", "great top"], "review": ["Fits great .", "Poor fit", "poor"]}
)


class Sum(nn.Module):
    def forward(self, x, mask):
        kept = x * mask.unsqueeze(-1)
        return kept, kept.sum(1)

    def attention(self, x, mask):
        return {}


class SumEncoder(WordEncoder):
    def build_network(self, dim_in):
        self.dim = dim_in
        return Sum()


def fitted(frame=FRAME, **args):
    encoder = SumEncoder(["title", "review"], **{"embedding_dim": 4, "min_count": 1, **args})
    encoder.fit(frame, np.zeros(len(frame)), torch.Generator().manual_seed(0))
    return encoder


def embedded(encoder, title, review):
    batch = encoder.collate(encoder.prepare(pd.DataFrame({"title": [title], "review": [review]})))
    return encoder.embed(batch)


def test_vocabulary_counts_lower_case_words_and_ranks_ties_by_alphabet():
    encoder = fitted()
    assert encoder.vocabulary.words == ["great", "poor", ".", "dress", "fit", "fits", "top"]
    assert fitted(min_count=2).vocabulary.words == ["great", "poor"]
    assert Vocabulary.fit([["b", "a", "b"]], min_count=1, max_size=1).words == ["b"]


def test_unknown_words_and_padding_are_zero_before_the_column_mark():
    encoder = fitted().eval()
    tokens = embedded(encoder, "great zebra", "")
    assert bool(tokens.values[0, 0].any()) and not bool(tokens.values[0, 1].any())
    assert not bool(encoder.embedding.weight[[PAD, UNKNOWN]].any())
    with torch.no_grad():
        encoder.embedding.weight[UNKNOWN] = 7.0  # what training might write there is never read
    assert not bool(embedded(encoder, "zebra", "").values.any())


def test_each_column_adds_its_own_mark():
    encoder = fitted().eval()
    with torch.no_grad():
        encoder.column.copy_(torch.tensor([[1.0] * 4, [2.0] * 4]))
    tokens = embedded(encoder, "great", "great")
    torch.testing.assert_close(tokens.values[0, 1] - tokens.values[0, 0], torch.ones(4))
    neutral = encoder.baseline(encoder.collate(encoder.prepare(FRAME.iloc[:1])))
    torch.testing.assert_close(neutral.values[0, :, 0], torch.tensor([1.0, 1.0, 2.0, 2.0, 2.0]))


def test_training_hides_the_asked_share_of_words_and_evaluation_none():
    encoder = fitted(word_dropout=0.3)
    frame = pd.DataFrame({"title": ["great " * 100] * 40, "review": [""] * 40})
    batch = encoder.collate(encoder.prepare(frame))
    torch.manual_seed(0)
    hidden = ~encoder.train().embed(batch).values.detach().any(-1)
    assert 0.27 < float(hidden.float().mean()) < 0.33
    assert not bool((~encoder.eval().embed(batch).values.detach().any(-1)).any())


def test_the_limit_counts_words_of_each_column_and_units_match_the_kind():
    encoder = fitted(max_tokens=2).eval()
    row = {"title": "one two three", "review": "four, five six"}
    units = encoder.units(row)
    assert [(u.column, u.label, u.locator) for u in units] == [
        ("title", "one", (0, 3)),
        ("title", "two", (4, 7)),
        ("review", "four", (0, 4)),
        ("review", ",", (4, 5)),
    ]
    tokens = embedded(encoder, **row)
    assert tokens.unit[0].tolist() == [0, 1, 2, 3]


def test_capital_letters_that_grow_in_lower_case_keep_their_place():
    encoder = fitted()
    row = {"title": "İstanbul GREAT", "review": "ΣΑΣ"}
    example = encoder.prepare(pd.DataFrame([row]))[0]
    assert len(example[0]) == len(encoder.units(row)) == 3
    assert example[0][1] == encoder.vocabulary.index["great"]


def test_frozen_word_vectors_get_no_gradient():
    encoder = fitted(trainable=False)
    encoder.encode(encoder.embed(encoder.collate(encoder.prepare(FRAME))))[1].sum().backward()
    assert encoder.embedding.weight.grad is None and encoder.column.grad is not None


def test_vectors_from_a_file_are_used_and_set_the_dimension(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("great 1 2 3\npoor 4 5 6\nzebra 7 8 9\n", encoding="utf-8")
    encoder = fitted(vectors=str(path), embedding_dim=50)
    table = {w: encoder.embedding.weight[i].tolist() for w, i in encoder.vocabulary.index.items()}
    assert table["great"] == [1, 2, 3] and table["poor"] == [4, 5, 6]
    assert encoder.state()["embedding_dim"] == 3 and np.isfinite(table["dress"]).all()


def write(path, form):
    lines = ["king 1 2", "queen 3 4", "ant 5 6"]
    if form == "header":
        lines.insert(0, "3 2")
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("form", ["plain", "header"])
@pytest.mark.parametrize("name", ["v.txt", "v.txt.gz", "v.vec"])
def test_text_files_are_read_with_and_without_header(tmp_path, name, form):
    write(tmp_path / name, form)
    vectors, known = read_word_vectors(tmp_path / name, ["queen", "cat", "ant"])
    assert known.tolist() == [True, False, True]
    assert vectors.tolist() == [[3, 4], [0, 0], [5, 6]] and vectors.dtype == np.float32


@pytest.mark.parametrize("beside", ["inside", "words.txt", "words.txt.gz"])
def test_npz_files_hold_words_or_have_them_beside(tmp_path, beside):
    names, arrays = ["king", "queen"], {"vectors": np.array([[1.0, 2.0], [3.0, 4.0]])}
    if beside == "inside":
        arrays["words"] = np.array(names)
    elif beside == "words.txt":
        (tmp_path / beside).write_text("\n".join(names))
    else:
        (tmp_path / beside).write_bytes(gzip.compress("\n".join(names).encode()))
    np.savez(tmp_path / "v.npz", **arrays)
    vectors, known = read_word_vectors(tmp_path / "v.npz", ["queen", "ant"])
    assert vectors.tolist() == [[3, 4], [0, 0]] and known.tolist() == [True, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("king 1 2\nqueen 3\n", "line 2: 1 numbers, want 2"),
        ("king 1 two\n", "not made of numbers"),
        ("zebra 1 2\n", "none of the words"),
    ],
)
def test_bad_text_files_say_where(tmp_path, content, message):
    path = tmp_path / "v.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_word_vectors(path, ["king", "queen"])


def test_other_bad_files_say_what_is_missing(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_word_vectors(tmp_path / "no.txt", ["a"])
    np.savez(tmp_path / "a.npz", other=np.zeros(2))
    with pytest.raises(DataError, match="no array 'vectors'"):
        read_word_vectors(tmp_path / "a.npz", ["a"])
    np.savez(tmp_path / "b.npz", vectors=np.zeros((2, 2)))
    with pytest.raises(DataError, match="no words"):
        read_word_vectors(tmp_path / "b.npz", ["a"])
    np.savez(tmp_path / "c.npz", vectors=np.zeros((2, 2)), words=np.array(["a"]))
    with pytest.raises(DataError, match="1 words, 2 vectors"):
        read_word_vectors(tmp_path / "c.npz", ["a"])


def test_words_of_one_topic_are_nearest_neighbours():
    rng = np.random.default_rng(0)
    topics = [np.arange(2, 10), np.arange(10, 18)]
    texts = [rng.choice(topics[i % 2], 12) for i in range(200)]
    vectors = fit_word_vectors(texts, 18, 6)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = (vectors @ vectors.T) / np.maximum(norms @ norms.T, 1e-12)
    np.fill_diagonal(cosine, -np.inf)
    for word in range(2, 18):
        assert cosine[word].argmax() in topics[int(word >= 10)]
        same, other = topics[int(word >= 10)], topics[int(word < 10)]
        assert cosine[word][same[same != word]].mean() > cosine[word][other].mean() + 0.3
    np.testing.assert_allclose(np.sqrt((vectors[2:] ** 2).mean(axis=1)), 1, rtol=1e-4)
    assert not vectors[:2].any()


def test_fitted_vectors_are_the_same_for_the_same_seed():
    texts = [np.random.default_rng(i).integers(0, 30, 20) for i in range(40)]
    first, second = fit_word_vectors(texts, 30, 5, seed=1), fit_word_vectors(texts, 30, 5, seed=1)
    np.testing.assert_array_equal(first, second)


def test_cooccurrence_is_weighted_by_distance_and_stops_at_the_end_of_a_text():
    texts = [np.array([0, 1, 2]), np.array([3, 3])]
    counts = _cooccurrence(texts, 4, 2).toarray()
    wanted = np.array([[0, 1, 0.5, 0], [1, 0, 1, 0], [0.5, 1, 0, 0], [0, 0, 0, 2]])
    np.testing.assert_allclose(counts, wanted)


def test_texts_without_pairs_give_zero_vectors():
    assert not fit_word_vectors([np.array([0]), np.array([], dtype=int)], 3, 2).any()
    assert not fit_word_vectors([], 2, 5).any()
