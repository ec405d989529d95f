import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.core.errors import ConfigError, IntegrityError
from salience.data import tokenizers
from salience.data.tokenizers import END_TEXT, BpeTokenizer, ByteTokenizer

LINES = ["the cat sat on the mat, the end", "naïve — 東京 the cat's mat", "  two  spaces\n\nand breaks\t"] * 4
BPE = BpeTokenizer.train(LINES, 320)
BOTH = pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE], ids=["byte", "bpe"])


@BOTH
@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_text_comes_back_and_bytes_are_counted(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode_array(text).tolist() == ids
    assert [part.tolist() for part in tokenizer.encode_batch([text, ""])] == [ids, []]
    assert tokenizer.byte_lengths[ids].sum() == len(text.encode())
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert all(0 <= i < tokenizer.vocab_size and i != tokenizer.end_id for i in ids)


@BOTH
@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_offsets_cover_the_text_in_order(tokenizer, text):
    ids, offsets = tokenizer.encode(text), tokenizer.offsets(text)
    assert len(ids) == len(offsets)
    covered = {place for start, stop in offsets for place in range(start, stop)}
    assert covered == set(range(len(text)))
    assert offsets == sorted(offsets)


@BOTH
def test_an_offset_holds_the_text_of_its_token(tokenizer):
    text = "the cat sat, twice"
    for token, (start, stop) in zip(tokenizer.encode(text), tokenizer.offsets(text), strict=True):
        assert tokenizer.token_text(token) == text[start:stop]


@BOTH
def test_the_end_cannot_be_written(tokenizer):
    assert tokenizer.end_id not in tokenizer.encode(f"a {END_TEXT} <|endoftext|> </s> \xff b")
    assert tokenizer.token_text(tokenizer.end_id) == END_TEXT
    assert tokenizer.token_bytes(tokenizer.end_id) == b""
    assert tokenizer.byte_lengths[tokenizer.end_id] == 0
    assert tokenizer.decode([tokenizer.end_id, *tokenizer.encode("a"), tokenizer.end_id]) == "a"


@BOTH
def test_half_a_surrogate_pair_becomes_a_mark(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert len(tokenizer.offsets("a\ud800b")) == len(tokenizer.encode("a\ud800b"))


@BOTH
def test_json_round_trip(tokenizer):
    again = tokenizers.from_json(json.loads(json.dumps(tokenizer.to_json())))
    text = "the cat — 東京 zzz"
    assert again.encode(text) == tokenizer.encode(text)
    assert (again.kind, again.vocab_size, again.end_id) == (
        tokenizer.kind,
        tokenizer.vocab_size,
        tokenizer.end_id,
    )
    assert np.array_equal(again.byte_lengths, tokenizer.byte_lengths)


def test_parts_of_characters_are_named_by_their_bytes():
    assert [ByteTokenizer().token_text(token) for token in ByteTokenizer().encode("é")] == [r"\xc3", r"\xa9"]
    assert ByteTokenizer().decode([0xC3]) == "\ufffd"


def test_frequent_words_become_one_token():
    assert len(BPE.encode(" the")) == 1
    assert len(BPE.encode(" the cat")) == 2
    assert len(BPE.encode("東京")) < len("東京".encode())
    assert BPE.vocab_size <= 320
    assert BPE.end_id == BPE.vocab_size - 1


def test_training_again_gives_the_same_tokens():
    assert BpeTokenizer.train(iter(LINES), 320).to_json() == BPE.to_json()


def test_a_tiny_text_makes_fewer_tokens_than_asked():
    assert BpeTokenizer.train(["ab"], 5000).vocab_size == 257


def test_every_byte_has_a_token():
    small = BpeTokenizer.train(["a"], 258)
    assert sorted(map(small.token_bytes, range(small.end_id))) == [bytes([i]) for i in range(256)]


def test_errors():
    with pytest.raises(ConfigError, match=r"Got 100, want 258.*SAL-C005"):
        BpeTokenizer.train(["a"], 100)
    with pytest.raises(ConfigError, match=r"Unknown tokenizer 'bite'. Did you mean 'byte'"):
        tokenizers.check_kind("bite")
    for data in ({}, {"kind": "bpe"}, {"kind": "bpe", "tokenizer": {"version": "1.0"}}, {"kind": "pickle"}):
        with pytest.raises(IntegrityError, match="The tokenizer is damaged"):
            tokenizers.from_json(data)
