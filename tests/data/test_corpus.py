"""Corpora from disk: reading, tokens, division, blocks and measures."""

import gzip
import io
import json
import math
import tracemalloc
import zlib
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.core.errors import ConfigError, DataError
from salience.data import corpus
from salience.data.corpora import measure, token_file
from salience.data.corpora.blocks import IGNORED, Blocks, Stream, divide, streams, texts, whole
from salience.data.corpora.token_file import BYTES, TOKENS, tokenize
from salience.data.corpus import Document, Piece, Reading, documents, pieces
from salience.data.tokenizers import BpeTokenizer, ByteTokenizer

BYTE = ByteTokenizer()
TWO = ["first text", "second, längerer text"]


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(corpus, "PIECE", 16)


def texts_of(source, **reading):
    return [document.text for document in documents(source, Reading(**reading))]


# reading


def test_forms_of_files(tmp_path):
    rows = [{"text": text, "other": 1} for text in TWO]
    lines = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "a.txt").write_text(TWO[0], encoding="utf-8")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(TWO[1].encode(), mtime=0))
    (tmp_path / "b.jsonl").write_text(lines + "\n\n", encoding="utf-8")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    pd.DataFrame(rows).to_parquet(tmp_path / "c.parquet")
    assert texts_of(tmp_path / "a.txt") == [TWO[0]]
    assert texts_of(str(tmp_path / "a.txt.gz")) == [TWO[1]]
    for name in ("b.jsonl", "b.jsonl.gz", "c.parquet"):
        assert texts_of(tmp_path / name) == TWO
    assert texts_of([tmp_path / "c.parquet", tmp_path / "a.txt"]) == [*TWO, TWO[0]]
    assert texts_of(TWO) == TWO


def test_folders_are_read_in_order_of_their_paths(tmp_path):
    for name in ("b.txt", "a/z.md", "a/.hidden.txt", ".git/c.txt", "picture.png", "notes.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = list(documents(tmp_path))
    assert found == [Document("a/z.md", "z.md", 1), Document("b.txt", "b.txt", 1)]


def test_documents_are_numbered_by_file(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("one\n\ntwo\nthree\n")
    found = [(d.file, d.number, d.text) for d in documents(tmp_path, Reading(separator="\n"))]
    assert found[:3] == [("a.txt", 1, "one"), ("a.txt", 2, "two"), ("a.txt", 3, "three")]
    assert found[3:] == [("b.txt", *rest) for _, *rest in found[:3]]


@pytest.mark.parametrize("separator", ["\n", "<|end|>", "aa"])
@settings(max_examples=80, deadline=None)
@given(st.lists(st.text("abé <|end\n ", max_size=50), max_size=5), st.integers(10, 40))
def test_separators_are_found_at_any_place(tmp_path_factory, separator, parts, piece):
    text = separator.join(parts)
    path = tmp_path_factory.mktemp("separators") / "x.txt"
    path.write_bytes(text.encode())
    wanted = [part.lstrip() for part in text.split(separator) if part.strip()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "PIECE", piece)
        if wanted:  # white space that fills a piece is lost at the start of a document
            found = texts_of(path, separator=separator)
            assert [text.lstrip() for text in found if text.strip()] == wanted
        else:
            with pytest.raises(DataError, match="SAL-D002"):
                texts_of(path, separator=separator)


@settings(max_examples=100, deadline=None)
@given(st.text("ab é東\n\t .,'s", min_size=1, max_size=200), st.integers(8, 40))
def test_cut_pieces_make_the_same_tokens(text, piece):
    if not text.strip():
        return
    bpe = BpeTokenizer.train([text], 300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "PIECE", piece)
        found = list(pieces([text]))
    assert "".join(p.text for p in found) == text
    assert [p.ends for p in found] == [False] * (len(found) - 1) + [True]
    exact = all(b.text[0] in corpus.LINE_BREAKS and not a.text[-1].isspace() for a, b in pairwise(found))
    if exact:
        assert [i for p in found for i in bpe.encode(p.text)] == bpe.encode(text)


def test_long_texts_are_cut_before_white_space(small_pieces):
    found = [p.text for p in pieces(["some words that are more than sixteen letters"])]
    assert len(found) > 2
    assert all(text.startswith(" ") for text in found[1:])
    assert [len(p.text) for p in pieces(["字" * 40])] == [16, 16, 8]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32"])
def test_byte_order_marks_are_read(tmp_path, small_pieces, encoding):
    text = "marked text — äöü, long enough for some pieces"
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert texts_of(tmp_path / "a.txt") == [text]


def test_other_encodings_are_named(tmp_path):
    (tmp_path / "a.txt").write_bytes("schön".encode("cp1252"))
    assert texts_of(tmp_path / "a.txt", encoding="cp1252") == ["schön"]


@pytest.mark.parametrize("offset", [3, 15, 16, 17, 40])
def test_bytes_that_are_not_text_are_named_with_their_offset(tmp_path, small_pieces, offset):
    data = bytearray(b"x" * 50)
    data[offset] = 0xE9
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(
        DataError, match=rf"a.txt: byte 0xe9 at offset {offset}\..*--encoding cp1252.*SAL-D008"
    ):
        texts_of(tmp_path / "a.txt")


def test_a_character_cut_off_at_the_end_is_named(tmp_path, small_pieces):
    (tmp_path / "a.txt").write_bytes(b"y" * 30 + "é".encode()[:1])
    with pytest.raises(DataError, match=r"byte 0xc3 at offset 30"):
        texts_of(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", b"", "The file is empty. a.txt. .*SAL-D002"),
        ("a.txt", b" \n \n", "SAL-D002"),
        ("a.txt", b"ab\0cd", "a.txt.*binary.*SAL-D009"),
        ("a.txt.gz", gzip.compress(b"hello" * 1000, mtime=0)[:-12], "a.txt.gz.*SAL-D011"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', "a.jsonl, line 2.*SAL-D013"),
        ("a.jsonl", b'[{"text": "a"}]', "no JSON object. a.jsonl, line 1.*SAL-D013"),
        ("a.jsonl", b'{"text": "a"}\n{"words": "b"}', "no column 'text'. a.jsonl, line 2.*SAL-D026"),
        ("a.jsonl", b'{"body": "a", "title": "b"}', "Which column.*'body', 'title'.*--column.*SAL-D026"),
        ("a.jsonl", b'{"text": 3}', "line 1, column 'text' holds 3.*SAL-D032"),
        ("a.parquet", b"PAR1 and then nothing", "a.parquet.*SAL-D014"),
        ("picture.bin", b"\x89PNG\r\n\x1a\n", "byte 0x89 at offset 0.*SAL-D008"),
    ],
)  # fmt: skip
def test_errors_name_place_and_cure(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=said):
        texts_of(tmp_path / name)


def test_errors_of_paths_and_options(tmp_path):
    with pytest.raises(DataError, match=r"nothing.txt: no such file.*SAL-D001"):
        texts_of(tmp_path / "nothing.txt")
    with pytest.raises(DataError, match=r"holds no text.*0 files.*SAL-D016"):
        texts_of(tmp_path)
    with pytest.raises(DataError, match=r"the given texts.*SAL-D002"):
        texts_of(["", "  "])
    with pytest.raises(DataError, match=r"Unknown encoding 'utf-99'.*SAL-D008"):
        Reading(encoding="utf-99")
    with pytest.raises(ConfigError, match="The separator is empty"):
        Reading(separator="")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ConfigError, match=r"no columns. a.txt, column 'x'"):
        texts_of(tmp_path / "a.txt", column="x")


def test_columns_are_chosen_or_found(tmp_path):
    frame = pd.DataFrame({"title": ["a", None], "content": ["b", "c"]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert texts_of(tmp_path / "a.parquet") == ["b", "c"]
    assert texts_of(tmp_path / "a.parquet", column="title") == ["a"]
    with pytest.raises(DataError, match=r"no column 'contents'. a.parquet. Did you mean 'content'"):
        texts_of(tmp_path / "a.parquet", column="contents")
    frame[["title"]].to_json(tmp_path / "b.jsonl", orient="records", lines=True)
    assert texts_of(tmp_path / "b.jsonl") == ["a"]


# tokens


def test_array_has_an_end_before_between_and_after_documents():
    found = tokenize(TWO, BYTE)
    first, second = (list(text.encode()) for text in TWO)
    assert found.ids.tolist() == [255, *first, 255, *second, 255]
    assert found.ids.dtype == np.uint8
    assert found.starts.tolist() == [1, 2 + len(first)]
    assert (
        found.documents[:, TOKENS].tolist() == found.documents[:, BYTES].tolist() == [len(first), len(second)]
    )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.text("abé ", max_size=6), st.booleans()), min_size=1, max_size=12),
    st.integers(0, 20),
    st.integers(1, 5),
)
def test_documents_are_counted_over_groups_of_pieces(parts, characters, most):
    found = [Piece(text, ends or i + 1 == len(parts)) for i, (text, ends) in enumerate(parts)]
    wanted, is_open = [], False
    for piece in found:
        wanted = [*wanted[:-1], wanted[-1] + piece.text] if is_open else [*wanted, piece.text]
        is_open = not piece.ends
    for tokenizer in (BYTE, BpeTokenizer.train(["aba ab"], 260)):
        ids, counts = io.BytesIO(), io.BytesIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(token_file, "GROUP", characters)
            patch.setattr(token_file, "MOST_PIECES", most)
            token_file._write(iter(found), tokenizer, ids, counts)
        table = np.frombuffer(counts.getvalue(), np.int64).reshape(-1, 2)
        tokens = np.frombuffer(ids.getvalue(), token_file.token_type(tokenizer.vocab_size))
        ends = np.flatnonzero(tokens == tokenizer.end_id)
        assert [tokenizer.decode(tokens[a:b]) for a, b in pairwise(ends)] == wanted
        assert table[:, BYTES].tolist() == [len(text.encode()) for text in wanted]
        assert table[:, TOKENS].tolist() == (np.diff(ends) - 1).tolist()


@pytest.mark.parametrize(
    ("size", "kind"), [(256, np.uint8), (257, np.uint16), (65536, np.uint16), (65537, np.uint32)]
)
def test_smallest_type_that_holds_the_ids(size, kind):
    assert token_file.token_type(size) == kind


@pytest.fixture
def on_disk(monkeypatch):
    monkeypatch.setattr(token_file, "SMALL", -1)


def test_files_are_tokenised_once(tmp_path, monkeypatch, on_disk):
    path, cache = tmp_path / "a.txt", tmp_path / "cache"
    path.write_text("some text that is kept\nas tokens")
    first = tokenize(path, BYTE, cache=cache)
    assert isinstance(first.ids, np.memmap)
    assert first.digest == tokenize(path, BYTE).digest
    assert np.array_equal(first.ids, tokenize(path, BYTE).ids)
    with monkeypatch.context() as patch:
        patch.setattr(corpus, "pieces", None)
        again = tokenize(path, BYTE, cache=cache)
    assert np.array_equal(again.ids, first.ids)
    assert np.array_equal(again.documents, first.documents)
    assert len(list(cache.iterdir())) == 1
    assert len(tokenize(path, BYTE, Reading(separator="\n"), cache).documents) == 2
    bpe = BpeTokenizer.train(["some text"] * 3, 260)
    assert len(tokenize(path, bpe, cache=cache).ids) < len(first.ids)
    path.write_text("other text, which has another length")
    assert bytes(tokenize(path, BYTE, cache=cache).ids[1:6]) == b"other"
    assert len(list(cache.iterdir())) == 4


def test_a_failure_leaves_nothing_in_the_cache(tmp_path, on_disk):
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n{"text": 3}')
    with pytest.raises(DataError, match="SAL-D032"):
        tokenize(tmp_path / "a.jsonl", BYTE, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_process_may_have_been_faster(tmp_path, monkeypatch, on_disk):
    (tmp_path / "a.txt").write_text("text")
    write = token_file._write_folder

    def twice(found, tokenizer, folder):
        write(found, tokenizer, folder)
        monkeypatch.setattr(token_file, "_write_folder", write)
        tokenize(tmp_path / "a.txt", BYTE, cache=tmp_path / "cache")

    monkeypatch.setattr(token_file, "_write_folder", twice)
    assert bytes(tokenize(tmp_path / "a.txt", BYTE, cache=tmp_path / "cache").ids) == b"\xfftext\xff"
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_memory_does_not_grow_with_the_corpus(tmp_path, on_disk):
    peaks = []
    for size in (4, 16):
        path = tmp_path / f"{size}.txt"
        path.write_text("a line of text that comes again and again\n" * (size * 25_000))
        assert path.stat().st_size > size << 20
        tracemalloc.start()
        found = tokenize(path, BYTE, cache=tmp_path / "cache")
        row = Blocks(whole(found), 64)[size * 10_000]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert b"text that" in row.astype(np.uint8).tobytes()
    assert peaks[1] < peaks[0] + (1 << 20)


# division and blocks


def numbered(count, letters="x"):
    return [f"document {i} {letters * (i % 9)}" for i in range(count)]


def test_validation_documents_are_a_share_and_disjoint():
    found = tokenize(numbered(100), BYTE)
    sizes = found.documents[:, BYTES]
    division = divide(sizes, 0.2, seed=3)
    train, held = streams(found, division, BYTE.byte_lengths)
    parts = [BYTE.decode(stream.read(0, len(stream))) for stream in (train, held)]
    wanted = [
        "".join(t for t, h in zip(numbered(100), division.held, strict=True) if h == side)
        for side in (False, True)
    ]
    assert parts == wanted
    assert 0.17 < sizes[division.held].sum() / sizes.sum() < 0.23
    assert np.array_equal(division.held, divide(sizes, 0.2, seed=3).held)
    assert not np.array_equal(division.held, divide(sizes, 0.2, seed=4).held)
    for stream in (train, held):
        assert stream.read(0, 1)[0] == stream.read(len(stream) - 1, len(stream))[0] == BYTE.end_id


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_few_documents_are_cut_at_a_place(share, kind):
    text = ["hello world, this is a text of one document. " * 5, "and a second one"]
    tokenizer = BYTE if kind == "byte" else BpeTokenizer.train(text, 300)
    found = tokenize(text, tokenizer)
    total = int(found.documents[:, BYTES].sum())
    train, held = streams(found, divide(found.documents[:, BYTES], share, 0), tokenizer.byte_lengths)
    first, last = (tokenizer.decode(s.read(0, len(s))) for s in (train, held))
    assert first + last == "".join(text)
    assert abs(len(last) - share * total) <= max(tokenizer.byte_lengths)
    assert len(first) >= total - round(share * total)  # a token across the cut is for training
    assert held.read(0, 1)[0] == tokenizer.end_id


def test_no_share_holds_nothing_out():
    found = tokenize(numbered(30), BYTE)
    train, held = streams(found, divide(found.documents[:, BYTES], 0.0, 0), BYTE.byte_lengths)
    assert (len(train), len(held)) == (len(found.ids), 0)


def test_documents_larger_than_the_share_are_for_training():
    sizes = np.array([100_000, *[100] * 300, 90_000])
    for seed in range(5):
        held = divide(sizes, 0.1, seed).held
        assert not held[[0, -1]].any()
        assert sizes[held].sum() == 22_000
    assert divide(sizes[-30:], 0.1, 0).cut is None
    assert divide(sizes[-10:], 0.1, 0).cut == 90_900 - 9_090
    assert divide(np.full(25, 1000), 0.01, 0).cut == 24_750


def test_a_large_corpus_holds_out_no_more_than_a_limit():
    sizes = np.full(1000, 1_000_000)
    assert divide(sizes, 0.1, 0).held.sum() == 2
    assert divide(np.array([10**10]), 0.1, 0).cut == 10**10 - 2_000_000


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), min_size=1, max_size=6),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_a_stream_reads_as_if_its_spans_were_joined(spans, start, length):
    found = tokenize(["0123456789" * 5], BYTE)
    stream = Stream(found, np.array([[a, a + n] for a, n in spans], np.int64))
    joined = np.concatenate([found.ids[a : a + n] for a, n in spans])
    assert len(stream) == len(joined)
    assert stream.read(start, start + length).tolist() == joined[start : start + length].tolist()
    if length:
        part = stream.first(length)
        assert part.read(0, 10**6).tolist() == joined[:length].tolist()


@pytest.mark.parametrize("context", [1, 7, 16, 1000])
def test_every_token_is_predicted_once_from_the_one_before(context):
    stream = whole(tokenize(numbered(25), BYTE))
    blocks = Blocks(stream, context)
    everything = stream.read(0, len(stream)).astype(np.int64)
    rows = np.arange(len(blocks))
    inputs, targets = np.concatenate([blocks[i] for i in rows]), blocks.targets[rows].ravel()
    known = targets != IGNORED
    assert np.array_equal(inputs[known], everything[:-1])
    assert np.array_equal(targets[known], everything[1:])
    assert known[: known.sum()].all()
    assert blocks.lengths.tolist() == [context] * len(blocks)
    assert blocks.targets[rows[:0]].shape == (0, context)
    with pytest.raises(IndexError):
        blocks[len(blocks)]


def test_digests_tell_what_is_read():
    found, other = tokenize(numbered(30), BYTE), tokenize(numbered(30, "y"), BYTE)
    train, held = streams(found, divide(found.documents[:, BYTES], 0.2, 0), BYTE.byte_lengths)
    blocks = [Blocks(train, 8), Blocks(held, 8), Blocks(train, 9), Blocks(whole(other), 8)]
    digests = [b.digest for b in blocks] + [b.targets.digest for b in blocks]
    assert len(set(digests)) == 8
    assert Blocks(train, 8).digest == blocks[0].digest


def test_text_to_learn_sub_words_from_is_that_of_the_stream(monkeypatch):
    found = tokenize(numbered(40), BYTE)
    train, _ = streams(found, divide(found.documents[:, BYTES], 0.3, 0), BYTE.byte_lengths)
    assert "".join(texts(train, 0)) == BYTE.decode(train.read(0, len(train)))
    monkeypatch.setattr("salience.data.corpora.blocks.PIECE", 20)
    monkeypatch.setattr("salience.data.corpora.blocks.MOST_PIECES", 5)
    sample = list(texts(train, 0))
    assert 60 < sum(map(len, sample)) <= 100
    assert sample == list(texts(train, 0)) != list(texts(train, 1))


# measures


def test_counts_of_tokens():
    stream = whole(tokenize(TWO, BYTE))
    counts = measure.token_counts(stream, 256)
    assert counts[255] == 3
    assert counts[ord("t")] == sum(text.count("t") for text in TWO)


def units_of(part):
    documents_ = [np.array([*text.encode(), 255]) for text in TWO]
    scores = [np.linspace(-3, -1, len(d), dtype=np.float32) for d in documents_]
    counts = measure.token_counts(whole(tokenize(TWO, BYTE)), 256)
    return documents_, scores, counts, measure.Meter(BYTE, counts, part).units(documents_, scores)


@pytest.mark.parametrize("part", [None, 1, 4, 100])
def test_sums_by_unit(part):
    ids, scores, counts, units = units_of(part)
    step = part or 1000
    starts = [(d, s) for d in range(2) for s in range(0, len(ids[d]), step)]
    assert units.tokens.tolist() == [len(ids[d][s : s + step]) for d, s in starts]
    assert units.bytes.tolist() == [int((ids[d][s : s + step] != 255).sum()) for d, s in starts]
    assert units.characters.sum() == sum(map(len, TWO))
    np.testing.assert_allclose(units.nats, [-scores[d][s : s + step].sum() for d, s in starts], rtol=1e-6)
    share = (counts + 1) / (counts + 1).sum()
    by_hand = [-np.log(share[ids[d][s : s + step]]).sum() for d, s in starts]
    np.testing.assert_allclose(units.unigram_nats, by_hand)


def test_summary_by_hand():
    ids, scores, _, units = units_of(4)
    packed = measure.zlib_bytes(text.encode() for text in TWO)
    assert packed == len(zlib.compress("".join(TWO).encode(), 9))
    found = measure.summary(units, packed, seed=0)
    nats = -float(np.concatenate(scores).sum())
    size, letters = len("".join(TWO).encode()), len("".join(TWO))
    assert (found["tokens"], found["bytes"], found["characters"]) == (sum(map(len, ids)), size, letters)
    assert found["perplexity"]["value"] == pytest.approx(math.exp(nats / sum(map(len, ids))), rel=1e-5)
    assert found["bits_per_byte"]["value"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert found["bits_per_character"]["value"] == pytest.approx(nats / math.log(2) / letters, rel=1e-5)
    low, high = found["bits_per_byte"]["interval"]
    assert low < found["bits_per_byte"]["value"] < high
    assert found["baselines"]["zlib"]["bits_per_byte"]["value"] == 8 * packed / size
    assert measure.summary(units_of(None)[3], packed, seed=0)["perplexity"]["interval"] is not None


def test_one_unit_has_no_interval():
    one = measure.Units(*(np.ones(1) for _ in range(5)))
    assert measure.summary(one, 1, seed=0)["perplexity"]["interval"] is None
