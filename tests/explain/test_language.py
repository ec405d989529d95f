"""Explanations of language models, on hand-set models whose answers are known and on the real ones."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from salience.core import registry
from salience.core.errors import ConfigError, UnsupportedError
from salience.data.tokenizers import ByteTokenizer
from salience.explain.engine import explain
from salience.explain.explanation import Explanation
from salience.explain.faithfulness import measure
from salience.explain.language import LanguageView, explain_language, mixing
from salience.explain.language.reading import CONTEXT, read, token_spans, without, word_spans
from salience.explain.words import check
from salience.testing.explainers import CHECKS, LANGUAGE, built, checks_for
from salience.testing.language_toy import WEIGHTS, ToyLanguageModel, toy_contexts, toy_tokenizer

torch.set_num_threads(1)
TOKENIZER = toy_tokenizer()
CARDS = {
    card.key: card
    for card in registry.cards("explainer")
    if not card.get("selects")  # language models read every word
}
CASES = [(key, name) for key, card in CARDS.items() for name in checks_for(card.fields)]
KNOWING = [key for key, card in CARDS.items() if card.fields["exact_linear"]]
CONTEXTS = ["she , the crown of the sceptre not", "throne the crown", "the barks of throne , not the crown"]


def toy(rule="linear"):
    return ToyLanguageModel(TOKENIZER, rule)


def real(key, **changes):
    torch.manual_seed(0)
    architecture = registry.load("language_model", key)
    sizes = {"vocab_size": 256, "dim": 16, "num_layers": 2, "num_heads": 2, "glu_dim": 24, "init_std": 0.3}
    return architecture(architecture.Config(**sizes | changes)).double().eval()


def frame(texts):
    return pd.DataFrame({CONTEXT: pd.Series(texts, dtype=object)})


def values(explanation):
    return {unit.label: value for unit, value in zip(explanation.units, explanation.values, strict=True)}


# -- the family of explainers -------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "name"), CASES, ids=[f"{k}-{n}" for k, n in CASES])
def test_explainer_passes_on_language_models(key, name):
    CHECKS[name](built(CARDS[key]), CARDS[key].fields, LANGUAGE)


def test_a_model_that_reads_every_word_has_no_rationale():
    with pytest.raises(UnsupportedError, match=r"rationale|select|read"):
        explain_language(toy(), TOKENIZER, CONTEXTS, method="rationale", faithfulness=False)


@pytest.mark.parametrize("method", KNOWING)
def test_exactly_the_words_that_matter_are_found(method):
    found = explain_language(
        toy(), TOKENIZER, CONTEXTS, target=" king", contrast=" dog", method=method, faithfulness=False
    )
    for explanation in found:
        for word, value in values(explanation).items():
            adds = WEIGHTS[word]
            assert value == pytest.approx(adds.get(" king", 0.0) - adds.get(" dog", 0.0), abs=1e-9)


@pytest.mark.parametrize(
    "method", [key for key in KNOWING if "shapley" not in key]
)  # without it another is last
def test_of_a_bigram_model_only_the_last_word_matters(method):
    found = explain_language(toy("bigram"), TOKENIZER, CONTEXTS[1:], method=method, faithfulness=False)
    for explanation in found:
        assert explanation.target == "king"
        assert [bool(abs(v) > 1e-9) for v in explanation.values] == [
            i == len(explanation.units) - 1 for i in range(len(explanation.units))
        ]


@pytest.mark.parametrize("method", ["integrated_gradients", "leave_one_out"])
def test_of_a_copy_model_the_word_and_its_earlier_pair_matter(method):
    context = "the crown barks , throne not crown"  # "barks" came after "crown" before
    found = explain_language(
        toy("copy"), TOKENIZER, [context], contrast=" dog", method=method, faithfulness=False
    )[0]
    assert found.target == "barks rather than dog"
    matters = [unit.label for unit, value in zip(found.units, found.values, strict=True) if abs(value) > 1e-9]
    assert matters == ["crown", "barks", "crown"]


# -- targets ------------------------------------------------------------------------------------------


def test_a_contrast_turns_its_sign_when_the_two_change_places():
    there, back = (
        explain_language(toy("nonlinear"), TOKENIZER, CONTEXTS, target=a, contrast=b, faithfulness=False)
        for a, b in ((" king", " queen"), (" queen", " king"))
    )
    for one, other in zip(there, back, strict=True):
        np.testing.assert_allclose(one.values, np.negative(other.values), atol=1e-12)
        assert one.output == pytest.approx(-other.output)
        assert one.target == "king rather than queen"


def test_a_target_is_the_log_odds_and_a_contrast_the_difference_of_logits():
    model = toy("nonlinear")
    view = LanguageView(model, TOKENIZER)
    logits = view.outputs(frame(CONTEXTS[:1]))[0]
    king, queen = (TOKENIZER.encode(text)[0] for text in (" king", " queen"))
    others = np.delete(logits, king)
    odds = explain_language(model, TOKENIZER, CONTEXTS[:1], target=" king", faithfulness=False)[0]
    assert odds.output == pytest.approx(logits[king] - np.log(np.exp(others).sum()))
    pair = explain_language(
        model, TOKENIZER, CONTEXTS[:1], target=" king", contrast=" queen", faithfulness=False
    )[0]
    assert pair.output == pytest.approx(logits[king] - logits[queen])


def test_a_continuation_is_the_sum_of_its_log_probabilities():
    model, text = real("transnormer"), " to be"
    tokenizer, context = ByteTokenizer(), "whether it is nobler"
    found = explain_language(model, tokenizer, [context], continuation=text, faithfulness=False)[0]
    expected, ids = 0.0, [tokenizer.end_id, *tokenizer.encode(context)]
    for token in tokenizer.encode(text):
        with torch.no_grad():
            expected += float(model(torch.tensor([ids]))[0, -1].log_softmax(-1)[token])
        ids.append(token)
    assert found.output == pytest.approx(expected)
    assert found.quantity == "log-probability"
    assert found.prediction == pytest.approx(expected)
    single = explain_language(model, tokenizer, [context], target=text, faithfulness=False)[0]
    assert single.values == found.values


def test_two_continuations_are_told_apart_by_their_difference():
    model, tokenizer = real("transnormer"), ByteTokenizer()
    one, other, both = (
        explain_language(model, tokenizer, ["whether"], continuation=a, contrast=b, faithfulness=False)[0]
        for a, b in ((" tis", None), (" it", None), (" tis", " it"))
    )
    assert both.output == pytest.approx(one.output - other.output)
    assert both.target == "tis rather than it"


def test_equal_looking_tokens_are_named_apart():
    found = explain_language(
        toy(), TOKENIZER, CONTEXTS[:1], target=" king", contrast="king", faithfulness=False
    )[0]
    assert found.target == "␣king rather than king"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": " king", "continuation": " king"}, "exclude each other"),
        ({"target": " king", "contrast": " king"}, "two different texts"),
        ({"contrast": " king of"}, "needs a target"),
        ({"contrast": " king", "method": "random"}, "two different tokens"),
        ({"continuation": ""}, "no tokens"),
        ({"units": "word"}, "Unknown units"),
        ({"baseline": "spaces"}, "Unknown baseline"),
        ({"removal": "mask"}, "Unknown removal"),
    ],
)
def test_questions_without_a_meaning_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        explain_language(toy(), TOKENIZER, ["throne"], faithfulness=False, **options)


# -- measurements -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["transnormer", "transformer"])
@pytest.mark.parametrize("question", [{}, {"continuation": " sleep"}])
def test_integrated_gradients_add_up_on_real_models(key, question):
    found = explain_language(
        real(key), ByteTokenizer(), ["To be,\nor not to be", "that is"], faithfulness=False, **question
    )
    for explanation in found:
        change = explanation.output - explanation.baseline_output
        gap = sum(explanation.values) - change
        assert gap == pytest.approx(explanation.completeness_gap)
        assert abs(gap) <= 0.01 * max(abs(change), 0.1 * np.abs(explanation.values).sum()) + 1e-5


@pytest.mark.parametrize("key", ["transnormer", "transformer"])
@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_x_input", "leave_one_out", "attention"])
@pytest.mark.parametrize("question", [{}, {"continuation": " so", "contrast": " no"}])
def test_contexts_of_different_length_change_nothing(key, method, question):
    model, tokenizer = real(key), ByteTokenizer()
    texts = ["to", "", "whether 'tis nobler", "in the\nmind "]
    together = explain_language(model, tokenizer, texts, method=method, faithfulness=False, **question)
    for text, batched in zip(texts, together, strict=True):
        alone = explain_language(model, tokenizer, [text], method=method, faithfulness=False, **question)[0]
        np.testing.assert_allclose(batched.values, alone.values, atol=1e-9)


@pytest.mark.parametrize("question", [{}, {"continuation": " king"}])
def test_the_truth_is_supported_and_random_numbers_are_not(question):
    texts = toy_contexts(12, 3)[CONTEXT].tolist()
    found = explain_language(toy(), TOKENIZER, texts, method="leave_one_out", **question)
    control = explain_language(toy(), TOKENIZER, texts, method="random", **question)
    ours, theirs = (np.mean([e.faithfulness.difference for e in part]) for part in (found, control))
    assert ours > theirs + 0.02
    inverse = [replace(e, values=tuple(-v for v in e.values)) for e in found if len(e.units) > 4]
    view = LanguageView(toy(), TOKENIZER, continuations=list(question.values()))
    assert {m.verdict for m in measure(view, inverse)} <= {"not supported", "doubtful"}
    assert sum(e.faithfulness.verdict == "supported" for e in found) >= 6


def test_logits_are_made_at_the_last_position_only():
    model, rows = real("transnormer"), []
    head = model.lm_head.forward
    model.lm_head.forward = lambda x: rows.append(x.shape[1]) or head(x)
    explain_language(model, ByteTokenizer(), ["to be or not", "so"], faithfulness=False)
    assert set(rows) == {1}
    rows.clear()
    explain_language(model, ByteTokenizer(), ["to be or not"], continuation=" to be", faithfulness=False)
    assert set(rows) == {len(" to be")}


def test_a_small_memory_budget_changes_calls_not_numbers():
    large, small = (
        explain_language(toy("nonlinear"), TOKENIZER, CONTEXTS, memory_mb=m, method="leave_one_out")
        for m in (256, 0.05)
    )
    for a, b in zip(large, small, strict=True):
        np.testing.assert_allclose(a.values, b.values, atol=1e-12)
        assert a.faithfulness.comprehensiveness == pytest.approx(b.faithfulness.comprehensiveness)


def test_the_model_is_left_as_it_was_found():
    model = real("transnormer")
    model.layers[1].train()
    before = [module.training for module in model.modules()]
    explain_language(model, ByteTokenizer(), ["to be"], continuation=" so")
    mixing(model, ByteTokenizer(), "to be")
    assert [module.training for module in model.modules()] == before
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_long_continuation_counts_for_memory():
    model, tokenizer, largest = real("transnormer"), ByteTokenizer(), []
    features = model.features
    for text in (" so", " so" * 60):
        rows = []
        model.features = lambda x, rows=rows, **options: rows.append(len(x)) or features(x, **options)
        explain_language(model, tokenizer, ["to be"], continuation=text, memory_mb=2, faithfulness=False)
        largest.append(max(rows))
    assert largest[1] < largest[0]


def test_the_common_interface_knows_the_predicted_token():
    found = explain(LanguageView(toy(), TOKENIZER), frame(CONTEXTS[1:2]), method="leave_one_out")[0]
    assert (found.target, found.prediction, found.target_column) == ("king", "king", "next token")


# -- words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question",
    [{}, {"target": " king"}, {"target": " king", "contrast": " dog"}, {"continuation": " king"}],
)
@pytest.mark.parametrize("method", sorted(CARDS))
def test_every_sentence_is_true(method, question):
    contexts = [*CONTEXTS, "", "the\n\ncrown ,  \n", "crown"]
    for explanation in explain_language(toy(), TOKENIZER, contexts, method=built(CARDS[method]), **question):
        assert check(explanation.words(), explanation) == []
        again = Explanation.from_json(explanation.to_json())
        assert str(again.words()) == str(explanation.words())


def test_sentences_of_the_next_token():
    found = explain_language(toy(), TOKENIZER, ["the crown"], target=" king", faithfulness=False)[0]
    text = str(found.words())
    assert text.startswith("The model expects “king” next, with probability 0.")
    assert "What speaks most for “king” is the word “crown”" in text


def test_sentences_of_a_continuation():
    found = explain_language(toy(), TOKENIZER, ["she , the crown"], continuation=" king of")[0]
    text = str(found.words())
    assert text.startswith("The model gives “king of” the log-probability −")
    assert "What makes “king of” less likely is the word “she”" in text
    assert "the log-probability of “king of” by" in text


# -- units --------------------------------------------------------------------------------------------


TEXTS = ["", " ", "\n", "It don't fit.", "a\n\n  b ", "KING:\nWell-made, \n", "naïve 漢字👍🏽 é\t!"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("units", ["words", "tokens"])
def test_units_share_out_the_text(text, units):
    reading = read(text, ByteTokenizer(), units)
    assert "".join(text[a:b] for a, b in reading.spans) == text
    assert len(reading.unit) == len(text.encode())
    assert set(reading.unit) == set(range(len(reading.units)))
    for unit, (start, stop) in zip(reading.units, reading.spans, strict=True):
        first, last = unit.locator
        assert start <= first < last <= stop
        assert text[start:first].strip() == ""
        assert unit.label == text[first:last] or not text[first:last].strip()


def test_white_space_goes_with_the_word_after_it_and_line_breaks_stand_alone():
    text = "a b \n  c  "
    assert [text[a:b] for a, b in word_spans(text)] == ["a", " b", " \n", "  c", "  "]
    assert [u.label for u in read(text, ByteTokenizer(), "words").units] == ["a", "b", "⏎", "c", "␣"]


def test_tokens_inside_a_character_are_one_unit():
    assert token_spans([(0, 1), (0, 1), (1, 3), (2, 4), (4, 4)]) == [(0, 1), (1, 4)]
    assert len(read("é漢", ByteTokenizer(), "tokens").units) == 2


def test_a_word_of_several_tokens_is_one_unit():
    found = explain_language(toy(), TOKENIZER, ["the sceptre"], target=" king", faithfulness=False)
    tokens = explain_language(
        toy(), TOKENIZER, ["the sceptre"], target=" king", units="tokens", faithfulness=False
    )
    assert "is the word “sceptre”" in str(found[0].words())
    assert "is the word “sceptre”" in str(tokens[0].words())
    assert "is the piece “scept”" in str(replace(tokens[0], values=(0.0, 1.0, 0.0)).words())
    assert [u.label for u in found[0].units] == ["the", "sceptre"]
    assert [u.label for u in tokens[0].units] == ["the", "scept", "re"]
    assert found[0].values[1] == pytest.approx(sum(tokens[0].values[1:]))


def test_removed_words_take_their_space_along_and_others_do_not_grow_together():
    view = LanguageView(real("transnormer"), ByteTokenizer())
    row = {CONTEXT: "a well-made\nking, he"}
    units = view.units(row)

    def left(*labels):
        return view.remove(row, [u for u in units if u.label in labels])[CONTEXT]

    assert left() == row[CONTEXT]
    assert left("made") == "a well-\nking, he"
    assert left("-", "⏎") == "a well made king, he"
    assert left(*(u.label for u in units)) == ""
    assert without("ab cd", [(2, 5)], " ") == "ab   "
    blank = LanguageView(real("transnormer"), ByteTokenizer(), removal="blank")
    assert len(blank.remove(row, units[1:3])[CONTEXT]) == len(row[CONTEXT])


def test_a_tokenizer_that_does_not_know_its_places_is_refused():
    tokenizer = toy_tokenizer()
    tokenizer.offsets = lambda text: []
    with pytest.raises(ConfigError, match="where its tokens are"):
        explain_language(toy(), tokenizer, ["the crown"])


# -- effective weights --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["chunk", "quadratic"])
def test_effective_weights_rebuild_the_output_of_every_layer(mode):
    model, tokenizer = real("transnormer", num_layers=3, lrpe_layers=(0, 1), mode=mode), ByteTokenizer()
    kept, hooks = [], []
    for layer in model.layers:
        mixer = layer.token_mixer
        hooks.append(mixer.qkvu_proj.register_forward_hook(lambda m, i, out: kept.append(out)))
        hooks.append(mixer.norm.register_forward_pre_hook(lambda m, i: kept.append(i[0])))
    found = mixing(model, tokenizer, "To be, or not to be: that is")
    for hook in hooks:
        hook.remove()
    for layer, (projected, before_norm) in enumerate(zip(kept[::2], kept[1::2], strict=True)):
        value = projected.chunk(4, dim=-1)[2][0].unflatten(-1, (2, 8))  # token head dim
        rebuilt = torch.einsum("hs,she->he", torch.from_numpy(found.token_weights[layer]), value)
        torch.testing.assert_close(rebuilt.flatten(), before_norm[0, -1], atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("key", ["transnormer", "transformer"])
def test_weights_of_the_last_query_are_a_row_of_the_whole_map(key):
    model, tokenizer, text = real(key), ByteTokenizer(), "To be, or not"
    ids = torch.tensor([[tokenizer.end_id, *tokenizer.encode(text)]])
    with torch.no_grad():
        _, maps = model.forward_embedded(model.embed(ids), need_weights=True)
    found = mixing(model, tokenizer, text)
    np.testing.assert_allclose(found.token_weights, torch.stack([m[0, :, -1] for m in maps]), atol=1e-12)
    unit = np.array(read(text, tokenizer, "words").unit)
    for position in range(len(found.units)):
        pooled = found.token_weights[:, :, 1:][:, :, unit == position].sum(-1)
        np.testing.assert_allclose(found.weights[:, :, position], pooled, atol=1e-12)


def test_weights_are_told_by_layer_and_head():
    found = mixing(real("transnormer"), ByteTokenizer(), "To be,\nor not <to> be")
    table = found.to_frame()
    assert len(table) == found.weights.size
    assert table.groupby(["layer", "head"])["share"].sum().to_numpy() == pytest.approx(1.0)
    explanation = found.explanation(1, 0)
    assert explanation.values == tuple(found.weights[1, 0])
    assert check(explanation.words(), explanation) == []
    text = str(explanation.words())
    assert "layer 1, head 0" in text
    assert "one layer is only a part of the model" in text
    assert "layer 0, head 1:" in str(found)
    assert "<to>" not in found.to_html()
    assert found.to_html().count("head 1") == 2
    with pytest.raises(ConfigError, match="no such head"):
        found.explanation(2, 0)


class Largest(TorchDispatchMode):
    """Remember the size of the largest tensor that an operation makes."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        made = result if isinstance(result, tuple | list) else [result]
        self.numel = max([self.numel, *(t.numel() for t in made if isinstance(t, torch.Tensor))])
        return result


def test_no_token_by_token_matrix_is_made_for_a_long_context():
    model, largest = real("transnormer").float(), []
    for tokens in (400, 4000):
        with Largest() as mode:
            found = mixing(model, ByteTokenizer(), ("to be or not " * 1000)[:tokens])
        assert found.token_weights.shape[-1] == tokens + 1
        largest.append(mode.numel)
    assert largest[1] < 12 * largest[0]
    assert largest[1] < 4000**2 / 20
