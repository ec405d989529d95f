"""Adapters for torch modules and transformers: same answers, exact removal, padding, gradients, attention."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import salience
from salience.core import registry
from salience.core.errors import ConfigError, SalienceError, UnsupportedError
from salience.explain.adapters.reading import hide, shown, words_of
from salience.explain.model import BlackBox, WhiteBox
from salience.explain.rows import records

CLASSES = ["bad", "fair", "good"]
WORDS = ["pad", "unknown", "a", "good", "bad", "film", "!", ",", "not", "the", "great", "dull", "thing"]
VOCABULARY = {word: i for i, word in enumerate(WORDS) if i > 1}
TEXTS = ["a good , great film !", "dull", "the unheard bad thing , not good", "film"]


class Reads(nn.Module):
    """A small encoder whose padding is hidden by a mask of its own."""

    def __init__(self, outputs=3, pad=0):
        super().__init__()
        torch.manual_seed(0)
        self.pad, self.embedding = pad, nn.Embedding(len(WORDS), 8)
        self.position = nn.Embedding(32, 8)
        self.mix, self.head = nn.Linear(8, 8), nn.Linear(8, outputs)
        self.dropout = nn.Dropout(0.5)

    def forward(self, ids):
        mask = (ids != self.pad).unsqueeze(-1)
        x = self.embedding(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))
        x = self.dropout(torch.tanh(self.mix(x)))
        attention = (x.sum(-1, keepdim=True)).masked_fill(~mask, -torch.inf).softmax(1)
        return self.head((attention * x).sum(1))


def tokens(module=None, **options):
    reads = salience.TokenInput(VOCABULARY, neutral_id=1)
    return salience.from_torch(module or Reads().double(), reads, classes=CLASSES, **options)


def features(outputs=1):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, outputs)).double()
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 3)), columns=["x", "y", "z"])
    classes = CLASSES[:outputs] if outputs > 1 else None
    return salience.from_torch(module, salience.FeatureInput(frame), classes=classes), frame


def images(channels=1):
    torch.manual_seed(2)
    module = nn.Sequential(
        nn.Conv2d(channels, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 6 * 5, 3)
    ).double()
    reads = salience.ImageInput((8, 7), channels=channels, mean=0.5, std=0.25, grid=3)
    pictures = np.random.default_rng(3).integers(0, 255, (3, 8, 7, 3), dtype=np.uint8)
    cells = [p[..., 0] if channels == 1 else p for p in pictures]
    model = salience.from_torch(module, reads, classes=CLASSES)
    return model, pd.DataFrame({"image": pd.Series(cells, dtype=object)})


def tokenizer(names=("input_ids", "token_type_ids", "attention_mask")):
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "good",
        "##ness",
        "bad",
        "film",
        "great",
        "##ly",
        "not",
        "the",
        "!",
        ".",
    ]
    built = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    built.normalizer = normalizers.BertNormalizer()
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=built, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_input_names=list(names), model_max_length=32,
    )  # fmt: skip


SMALL = {
    "vocab_size": 15,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 40,
}


def bert(labels=3):
    pytest.importorskip("transformers")
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(4)
    config = BertConfig(**SMALL, num_labels=labels, initializer_range=0.5)
    return BertForSequenceClassification(config).double()


def hugging(columns=("text",), labels=3):
    return salience.from_huggingface(bert(labels), tokenizer(), columns=columns)


HUGGING_TEXTS = ["The goodness, greatly bad!", "film", "", "not good film ."]


def case(name):
    """Return an adapted model and canonical rows."""
    if name == "tokens":
        model = tokens()
        return model, model.frame(TEXTS)
    if name == "features":
        model, frame = features(3)
        return model, model.frame(frame.head(4))
    if name == "images":
        model, frame = images()
        return model, model.frame(frame)
    if name == "colours":
        model, frame = images(3)
        return model, model.frame(frame)
    columns = ("text",) if name == "bert" else ("premise", "claim")
    model = hugging(columns)
    return model, model.frame(pd.DataFrame(dict.fromkeys(columns, HUGGING_TEXTS)))


CASES = ["tokens", "features", "images", "colours", "bert", "pairs"]


@pytest.fixture(params=CASES)
def adapted(request):
    return case(request.param)


def sets_for(model, rows, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.random((5, len(model.units(row)))) < 0.5 for row in rows]


def test_both_protocols_are_served(adapted):
    assert isinstance(adapted[0], BlackBox)
    assert isinstance(adapted[0], WhiteBox)


def test_a_batch_gives_what_single_rows_give(adapted):
    model, frame = adapted
    together = model.outputs(frame)
    alone = np.concatenate([model.outputs(frame.iloc[[i]]) for i in range(len(frame))])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)


def test_sets_are_removed_as_rows_are(adapted):
    model, frame = adapted
    rows = records(model, frame)
    sets = sets_for(model, rows)
    for row, removed, found in zip(rows, sets, model.outputs_without(rows, sets), strict=True):
        units = model.units(row)
        parts = [model.remove(row, [units[i] for i in np.flatnonzero(gone)]) for gone in removed]
        changed = model.frame(pd.DataFrame({n: pd.Series([p[n] for p in parts], dtype=object) for n in row}))
        np.testing.assert_allclose(found, model.outputs(changed), rtol=0, atol=1e-12)


def test_removal_of_nothing_changes_nothing(adapted):
    model, frame = adapted
    rows = records(model, frame)
    none = [np.zeros((1, len(model.units(row))), dtype=bool) for row in rows]
    np.testing.assert_allclose(
        np.concatenate(model.outputs_without(rows, none)), model.outputs(frame), rtol=0, atol=1e-12
    )


def test_the_white_box_answers_as_the_black_box(adapted):
    model, frame = adapted
    model.eval()
    with torch.no_grad():
        batch = model.collate(model.prepare(frame))
        found = model.finish(model.forward_tokens(model.embed(batch)))
        empty = model.finish(model.forward_tokens(model.baseline(batch)))
    np.testing.assert_allclose(found.numpy(), model.outputs(frame), rtol=0, atol=1e-12)
    rows = records(model, frame)
    every = [np.ones((1, len(model.units(row))), dtype=bool) for row in rows]
    np.testing.assert_allclose(
        empty.numpy(), np.concatenate(model.outputs_without(rows, every)), rtol=0, atol=1e-12
    )


def test_gradients_are_those_of_finite_differences(adapted):
    model, frame = adapted
    model.eval()
    batch = model.collate(model.prepare(frame.iloc[:1]))
    (name, found), *_ = model.embed(batch).items()
    values = found.values.detach()

    def answer(x):
        return model.finish(model.forward_tokens({name: found.with_values(x)}))[0, -1]

    (gradient,) = torch.autograd.grad(answer(leaf := values.clone().requires_grad_(True)), leaf)
    direction = torch.randn(values.shape, dtype=values.dtype, generator=torch.Generator().manual_seed(0))
    step = 1e-5
    with torch.no_grad():
        slope = (answer(values + step * direction) - answer(values - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-5, abs=1e-9)


def test_integrated_gradients_add_up(adapted):
    model, frame = adapted
    for found in model.explain(frame, faithfulness=False):
        change = abs(found.output - found.baseline_output)
        assert abs(found.completeness_gap) <= 0.01 * change + 1e-6


def test_the_module_is_left_as_it_was(adapted):
    model, frame = adapted
    module = model.module
    module.train()
    before = copy.deepcopy(module.state_dict())
    model.explain(frame.iloc[:1], method="integrated_gradients")
    assert module.training
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("name", ["tokens", "features", "images", "bert"])
@pytest.mark.parametrize("method", [card.key for card in registry.cards("explainer")])
def test_every_explainer_works_or_says_why_not(method, name):
    model, frame = case(name)
    try:
        found = model.explain(frame.iloc[:1], method=method, faithfulness=False, memory_mb=4)[0]
    except SalienceError as refusal:
        assert refusal.fix
        return
    assert len(found.values) == len(model.units(records(model, frame)[0]))
    assert str(found.words())
    assert np.isfinite(found.values).any()
    again = salience.Explanation.from_json(found.to_json())
    np.testing.assert_array_equal(again.values, found.values)


# -- token ids -----------------------------------------------------------------------------------------


def test_outputs_are_the_modules_own():
    model, module = tokens(), Reads().double().eval()
    ids = torch.tensor([[2, 3, 7, 10, 5, 6], [11, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        expected = module(ids).numpy()
    np.testing.assert_allclose(model.outputs(model.frame(TEXTS[:2])), expected, rtol=0, atol=1e-12)


def test_a_removed_word_is_the_neutral_token_and_no_other_moves():
    model, module = tokens(), Reads().double().eval()
    row = {"text": "a good film"}
    with torch.no_grad():
        expected = module(torch.tensor([[2, 1, 5]])).numpy()[0]
    found = model.outputs_without([row], [np.array([[False, True, False]])])[0][0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_padding_may_have_any_id():
    module = Reads(pad=12).double()
    model = salience.from_torch(
        module, salience.TokenInput(VOCABULARY, pad_id=12, neutral_id=1), classes=CLASSES
    )
    frame = model.frame(TEXTS)
    alone = np.concatenate([model.outputs(frame.iloc[[i]]) for i in range(len(frame))])
    np.testing.assert_allclose(model.outputs(frame), alone, rtol=0, atol=1e-12)


def test_many_sets_are_cut_into_passes(monkeypatch):
    from salience.explain.adapters import tokens as file

    model = tokens()
    rows = [{"text": text} for text in TEXTS]
    sets = [np.random.default_rng(i).random((9, len(model.units(r)))) < 0.5 for i, r in enumerate(rows)]
    whole = model.outputs_without(rows, sets)
    monkeypatch.setattr(file, "BATCH_TOKENS", 16)
    for a, b in zip(whole, model.outputs_without(rows, sets), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_a_module_without_one_embedding_is_a_black_box():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.bag = nn.EmbeddingBag(len(WORDS), 3)

        def forward(self, ids):
            return self.bag(ids)

    class Counts(Reads):
        def forward(self, ids):
            return super().forward(ids) + (ids == 2).sum(1, keepdim=True)

    for module in (Bag(), Counts()):
        model = salience.from_torch(module, salience.TokenInput(VOCABULARY, neutral_id=1), classes=CLASSES)
        assert not isinstance(model, WhiteBox)
        assert np.isfinite(model.explain(TEXTS[:1])[0].values).all()
        with pytest.raises(UnsupportedError, match="can only be called"):
            model.explain(TEXTS[:1], method="integrated_gradients")


@pytest.mark.parametrize("answers", ["logits", "probabilities"])
def test_one_output_is_that_of_the_second_class(answers):
    module = Reads(outputs=1).double()
    wrapped = nn.Sequential(module, nn.Sigmoid()) if answers == "probabilities" else module
    reads = salience.TokenInput(VOCABULARY, neutral_id=1)
    model = salience.from_torch(wrapped, reads, classes=["no", "yes"], answers=answers)
    with torch.no_grad():
        expected = torch.sigmoid(module.eval()(torch.tensor([[2, 3]]))).item()
    found = model.predict_proba(model.outputs(model.frame(["a good"])))
    np.testing.assert_allclose(found, [[1 - expected, expected]], rtol=1e-9)
    assert isinstance(model, WhiteBox)


def test_a_function_can_say_how_the_module_is_called():
    class Masked(Reads):
        def forward(self, tokens, mask):
            assert bool((mask == (tokens != 0)).all())
            return {"logits": super().forward(tokens)}

    model = tokens(Masked().double(), forward=lambda module, ids, mask: module(ids, mask)["logits"])
    np.testing.assert_allclose(model.outputs(model.frame(TEXTS)), tokens().outputs(model.frame(TEXTS)))


@pytest.mark.parametrize(
    ("module", "classes", "answers", "says"),
    [
        (Reads(outputs=4), CLASSES, "logits", "expected \\(1, 3\\)"),
        (Reads(), None, "logits", "Name the 3 classes"),
        (Reads(), CLASSES, "probabilities", "no probabilities"),
        (nn.Linear(3, 3), CLASSES, "logits", "forward="),
        (nn.LSTM(1, 1), CLASSES, "logits", "forward="),
    ],
    ids=["outputs", "no classes", "no probabilities", "floats", "lstm"],
)
def test_what_a_module_cannot_do_is_said_at_once(module, classes, answers, says):
    with pytest.raises(ConfigError, match=says) as caught:
        salience.from_torch(
            module, salience.TokenInput(VOCABULARY, neutral_id=1), classes=classes, answers=answers
        )
    assert caught.value.code == "SAL-M003"


def test_nan_outputs_are_named():
    module = Reads().double()
    model = tokens(module)
    module.head.bias.data[1] = torch.nan
    with pytest.raises(ConfigError, match="fair"):
        model.outputs(model.frame(TEXTS))


def test_a_tokenizer_of_ones_own():
    def pieces(text):
        return [(99 % len(WORDS), i, i + 2) for i in range(0, len(text) - 1, 2)]

    model = salience.from_torch(Reads(), salience.TokenInput(pieces, neutral_id=1), classes=CLASSES)
    assert [u.label for u in model.units({"text": "ab cd"})] == ["ab", "cd"]
    wrong = salience.TokenInput(lambda text: [(1, 0, 99)])
    with pytest.raises(ConfigError, match="start, stop"):
        wrong.read(("short",))


def test_words_beyond_the_longest_row_are_no_units():
    reads = salience.TokenInput(VOCABULARY, neutral_id=1, max_length=2)
    model = salience.from_torch(Reads(), reads, classes=CLASSES)
    assert [u.label for u in model.units({"text": "a good film"})] == ["a", "good"]


def test_an_empty_text_is_one_neutral_token():
    model, module = tokens(), Reads().double().eval()
    with torch.no_grad():
        expected = module(torch.tensor([[1]])).numpy()
    np.testing.assert_allclose(model.outputs(model.frame(["", " "])), np.repeat(expected, 2, axis=0))
    assert model.explain([""])[0].values == ()


def test_hidden_words_are_found_again():
    marked = hide("a good film", [(2, 6)])
    assert shown(marked) == ("a good film", {(2, 6)})
    assert shown(hide(marked, [(7, 11)])) == ("a good film", {(2, 6), (7, 11)})
    assert shown("plain") == ("plain", frozenset())


def test_words_that_share_a_token_are_one_unit():
    unit, units = words_of("text", "don't stop, now", [(0, 3), (3, 5), (0, 0), (5, 11), (11, 15)])
    assert unit == [0, 0, -1, 1, 2]
    assert [u.label for u in units] == ["don't", "stop,", "now"]
    assert [u.locator for u in units] == [(0, 5), (6, 11), (12, 15)]


# -- numbers and images --------------------------------------------------------------------------------


def test_features_are_neutral_at_their_medians():
    model, frame = features()
    with torch.no_grad():
        expected = model.module(torch.tensor(frame.to_numpy())).numpy()
        neutral = model.module(torch.tensor(frame.median().to_numpy())[None]).numpy()
    np.testing.assert_allclose(model.outputs(model.frame(frame)), expected, atol=1e-12)
    found = model.explain(frame.head(1), method="leave_one_out")[0]
    assert found.baseline_output == pytest.approx(float(neutral[0, 0]))


def test_a_missing_number_is_neutral():
    model, frame = features()
    holes = frame.head(1).assign(y=np.nan)
    filled = frame.head(1).assign(y=frame["y"].median())
    np.testing.assert_allclose(model.outputs(model.frame(holes)), model.outputs(model.frame(filled)))


def test_neutral_values_of_ones_own():
    reads = salience.FeatureInput(["x", "y"], neutral={"y": 2.0})
    assert [c.baseline for c in reads.columns] == [0.0, 2.0]
    with pytest.raises(ConfigError, match="q"):
        salience.FeatureInput(["x"], neutral={"q": 1.0})


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_standardised(channels):
    model, frame = images(channels)
    pixels = np.stack([p.reshape(8, 7, channels) for p in frame["image"]]) / 255
    x = torch.tensor((pixels - 0.5) / 0.25).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = model.module(x).numpy()
    np.testing.assert_allclose(model.outputs(model.frame(frame)), expected, atol=1e-12)


def test_regions_cover_every_pixel_once():
    model, _ = images()
    assert model.reader.unit.shape == (56,)
    assert set(model.reader.unit) == set(range(9))


def test_a_missing_picture_has_no_units():
    model, _ = images()
    row = {"image": None}
    assert model.units(row) == ()
    frame = model.frame(pd.DataFrame({"image": pd.Series([None], dtype=object)}))
    assert np.isfinite(model.outputs(frame)).all()
    assert model.explain(frame)[0].values == ()


def test_image_options_are_checked():
    for options in ({"channels": 2}, {"grid": 9}, {"grid": 0}):
        with pytest.raises(ConfigError):
            salience.ImageInput(8, **options)


# -- transformers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [("text",), ("premise", "claim")], ids=["text", "pair"])
def test_outputs_are_those_of_transformers(columns):
    model, own = hugging(columns), bert().eval()
    inputs = tokenizer()(*[HUGGING_TEXTS for _ in columns], return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = own(**inputs).logits.numpy()
    frame = model.frame(pd.DataFrame(dict.fromkeys(columns, HUGGING_TEXTS)))
    np.testing.assert_allclose(model.outputs(frame), expected, rtol=0, atol=1e-10)


def test_pieces_are_joined_and_special_tokens_belong_to_no_word():
    model = hugging()
    reading = model.reading({"text": "The goodness, greatly bad!"})
    assert [u.label for u in reading.units] == ["The", "goodness", ",", "greatly", "bad", "!"]
    assert reading.unit.tolist() == [-4, 0, 1, 1, 2, 3, 3, 4, 5, -5]


def test_a_removed_word_is_masked_in_all_its_pieces():
    model = hugging()
    row = model.remove({"text": "goodness film"}, model.units({"text": "goodness film"})[:1])
    assert model.reading(row).ids.tolist() == [2, 4, 4, 8, 3]


def test_attention_maps_are_those_of_every_layer():
    model, own = hugging(), bert().eval()
    frame = model.frame(["not good film ."])
    own.set_attn_implementation("eager")
    with torch.no_grad():
        expected = own(**tokenizer()(list(frame["text"]), return_tensors="pt"), output_attentions=True)
        found = model.eval().attention(model.collate(model.prepare(frame)))["text"]
    assert list(found) == ["token2token_0", "token2token_1"]
    for ours, theirs in zip(found.values(), expected.attentions, strict=True):
        torch.testing.assert_close(ours, theirs.permute(0, 2, 3, 1), rtol=0, atol=1e-10)
    assert model.module.config._attn_implementation != "eager"
    weights = model.explain(frame, method="attention")[0]
    assert np.isfinite(weights.values).all()


def test_a_long_text_is_cut_to_what_the_model_reads():
    words = tokenizer()
    words.model_max_length = 10**30
    model = salience.from_huggingface(bert(), words)
    frame = model.frame(["good film " * 2500])
    assert len(model.reading(records(model, frame)[0]).ids) == SMALL["max_position_embeddings"] - 2
    assert np.isfinite(model.explain(frame, method="gradient_x_input", faithfulness=False)[0].values).all()


def test_one_label_is_a_regression():
    model = hugging(labels=1)
    assert model.schema.task == "regression"
    assert model.explain(["good film"])[0].quantity == "value"


@pytest.mark.parametrize("family", ["Roberta", "DistilBert", "GPT2"])
def test_other_families_are_white_boxes(family):
    transformers = pytest.importorskip("transformers")
    options = dict(SMALL, pad_token_id=0, bos_token_id=2, eos_token_id=3)
    if family == "DistilBert":
        options = {"vocab_size": 15, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
    if family == "GPT2":
        options |= {"n_positions": 40}
    config = getattr(transformers, f"{family}Config")(**options, num_labels=2)
    own = getattr(transformers, f"{family}ForSequenceClassification")(config).double().eval()
    words = tokenizer(("input_ids", "attention_mask"))
    model = salience.from_huggingface(own, words, classes=["no", "yes"])
    assert isinstance(model, WhiteBox)
    with torch.no_grad():
        expected = own(**words(HUGGING_TEXTS, return_tensors="pt", padding=True)).logits.numpy()
    np.testing.assert_allclose(model.outputs(model.frame(HUGGING_TEXTS)), expected, rtol=0, atol=1e-10)


def test_an_encoder_and_decoder_is_a_black_box():
    transformers = pytest.importorskip("transformers")
    config = transformers.BartConfig(
        vocab_size=15, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, pad_token_id=0, bos_token_id=2,
        eos_token_id=3, decoder_start_token_id=3, forced_eos_token_id=3,
    )  # fmt: skip
    own = transformers.BartForSequenceClassification(config)
    model = salience.from_huggingface(own, tokenizer(("input_ids", "attention_mask")))
    assert not isinstance(model, WhiteBox)
    assert np.isfinite(model.explain(["good film"])[0].values).all()


def test_what_cannot_be_explained_is_refused():
    several = bert()
    several.config.problem_type = "multi_label_classification"
    with pytest.raises(UnsupportedError, match="several labels"):
        salience.from_huggingface(several, tokenizer())
    with pytest.raises(UnsupportedError, match="fast tokenizer"):
        salience.from_huggingface(bert(), object())
    with pytest.raises(ConfigError, match="one or two columns"):
        salience.from_huggingface(bert(), tokenizer(), columns=("a", "b", "c"))


def test_a_separator_in_a_text_of_a_pair_is_refused():
    model = hugging(("premise", "claim"))
    with pytest.raises(UnsupportedError, match="separators"):
        model.units({"premise": "good [SEP] film", "claim": "bad"})
