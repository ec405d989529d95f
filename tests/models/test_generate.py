"""Generation: choices, batches, stop strings, streaming, caches."""

import pytest
import torch
from torch import nn

from salience.core.errors import ConfigError
from salience.models.language_models.base import LanguageModel, LanguageModelConfig
from salience.models.language_models.generate import Sampling, generate, prefill, stream
from salience.models.language_models.transformer import Transformer
from salience.models.language_models.transnormer import TransNormer

MODELS = [TransNormer, Transformer]
PROMPTS = [[1, 2, 3], [5, 6, 7, 8, 9, 10, 1, 2, 3, 4, 5], [7]]
WAYS = [
    {},
    {"temperature": 1.0},
    {"temperature": 0.7, "top_k": 4},
    {"temperature": 1.5, "top_p": 0.6},
    {"temperature": 1.0, "top_k": 5, "top_p": 0.8},
]


def decode(ids):
    return bytes(ids).decode("utf-8", errors="replace")


def small(entry):
    torch.manual_seed(0)
    model = entry(entry.Config(vocab_size=11, dim=12, num_layers=2, num_heads=2, glu_dim=16)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10 if parameter.dim() == 2 else 1)
    return model


class Reciter(LanguageModel):
    """Go on with the text ``TEXT`` from the byte place that the last token, a place in it, names."""

    def __init__(self, text):
        self.text = text.encode()
        super().__init__(LanguageModelConfig(vocab_size=len(self.text) + 1, num_layers=1))
        self.lm_head = nn.Identity()

    def token_mixer(self, layer):
        return nn.Identity()

    def embed(self, ids):
        return nn.functional.one_hot((ids + 1).clamp(max=self.vocab_size - 1), self.vocab_size).float()

    def features(self, x, **options):
        return x, []

    def decode(self, places):
        return bytes(self.text[place] for place in places if place < len(self.text)).decode(errors="replace")


def recite(text, **options):
    model = Reciter(text)
    options = {"max_new_tokens": 40, "decode": model.decode, "end_id": len(model.text)} | options
    return generate(model, [[-1]], **options)[0], model, options


@pytest.mark.parametrize("entry", MODELS)
@torch.no_grad()
def test_greedy_is_the_most_likely_token_of_a_reading_without_cache(entry):
    model = small(entry)
    ids = torch.tensor([PROMPTS[1]])
    found = generate(model, ids, max_new_tokens=12)[0]
    for token in found.ids:
        assert token == model(ids)[0, -1].argmax()
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    assert (found.reason, found.text, len(found.ids)) == ("length", None, 12)


@pytest.mark.parametrize("entry", MODELS)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_batch_of_different_lengths_equals_each_alone(entry, way):
    model = small(entry)
    options = {"max_new_tokens": 15, "decode": decode, "end_id": 4, "stop": ["\x06\x07", "\x01"], **way}
    together = generate(model, PROMPTS, seed=3, **options)
    alone = [generate(model, [p], seed=3 + i, **options)[0] for i, p in enumerate(PROMPTS)]
    assert together == alone


@pytest.mark.parametrize("entry", MODELS)
def test_rows_that_have_ended_do_not_disturb_the_others(entry):
    model = small(entry)
    whole = generate(model, PROMPTS, max_new_tokens=15, temperature=1.0)
    end = next(t for t in whole[0].ids[1:3] if t not in whole[1].ids[:2])
    found = generate(model, PROMPTS, max_new_tokens=15, temperature=1.0, end_id=end)
    for before, after in zip(whole, found, strict=True):
        ended = end in before.ids
        kept = before.ids[: before.ids.index(end) + 1] if ended else before.ids
        assert after.ids == kept
        assert after.reason == ("end" if ended else "length")


def test_prompts_may_be_a_padded_tensor():
    model = small(TransNormer)
    lists = generate(model, PROMPTS[:2], max_new_tokens=5)
    for side in ("left", "right"):
        ids, mask = torch.zeros(2, 11, dtype=torch.long), torch.zeros(2, 11)
        for row, prompt in enumerate(PROMPTS[:2]):
            place = slice(11 - len(prompt), 11) if side == "left" else slice(0, len(prompt))
            ids[row, place], mask[row, place] = torch.tensor(prompt), 1
        assert generate(model, ids, attention_mask=mask, max_new_tokens=5) == lists


@pytest.mark.parametrize("entry", MODELS)
@torch.no_grad()
def test_prompts_are_read_in_pieces(entry):
    model = small(entry)
    whole, cache = prefill(model, PROMPTS)
    pieces, other = prefill(model, PROMPTS, piece=3)
    torch.testing.assert_close(pieces, whole)
    assert cache.position.tolist() == other.position.tolist() == [3, 11, 1]


def choose(logits, seed=0, draws=4000, **options):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.tensor(logits).expand(draws, -1)
    return Sampling(**options).choose(rows, [generator] * draws)


def test_samples_have_the_probabilities_of_the_softmax():
    logits = [0.0, 1.0, 2.0, -1.0]
    for temperature in (0.5, 1.0, 2.0):
        shares = torch.bincount(choose(logits, temperature=temperature), minlength=4) / 4000
        wanted = (torch.tensor(logits) / temperature).softmax(0)
        torch.testing.assert_close(shares, wanted, atol=0.03, rtol=0)


def test_top_k_and_top_p_keep_the_most_likely_in_proportion():
    probabilities = torch.tensor([0.1, 0.4, 0.2, 0.3])
    logits = probabilities.log().tolist()
    for options, kept in (
        ({"top_k": 2}, [1, 3]),
        ({"top_p": 0.65}, [1, 3]),
        ({"top_p": 0.75}, [1, 2, 3]),
        ({"top_k": 3, "top_p": 1.0}, [1, 2, 3]),
        ({"top_k": 99}, [0, 1, 2, 3]),
    ):
        shares = torch.bincount(choose(logits, temperature=1.0, **options), minlength=4) / 4000
        wanted = torch.zeros(4)
        wanted[kept] = probabilities[kept] / probabilities[kept].sum()
        torch.testing.assert_close(shares, wanted, atol=0.03, rtol=0)
        assert not shares[wanted == 0].any()


def test_one_candidate_is_greedy():
    logits = [0.3, 0.1, 0.9]
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}):
        assert set(choose(logits, draws=50, **{"temperature": 1.0} | options).tolist()) == {2}


def test_seeds_repeat_and_differ_between_rows():
    model = small(TransNormer)
    first, again, other = (
        generate(model, [[1]] * 3, max_new_tokens=20, temperature=1.0, seed=seed) for seed in (0, 0, 7)
    )
    assert first == again != other
    assert len({tuple(row.ids) for row in first}) == 3


def test_stop_strings_end_the_text_before_them():
    for stop, text in (
        ("!", "Ay, Gwenaël"),
        (["ë", "!"], "Ay, Gwena"),
        (["wen", "Gwen"], "Ay, "),
        (["?"], None),
    ):
        found, model, _ = recite("Ay, Gwenaël! Go.", stop=stop)
        assert found.text == ("Ay, Gwenaël! Go." if text is None else text)
        assert found.reason == ("end" if text is None else "stop")
        assert model.decode(found.ids).startswith(found.text)


def test_text_stops_at_the_length():
    found, _, _ = recite("Ay, Gwenaël! Go.", max_new_tokens=5)
    assert (found.text, found.reason, found.ids) == ("Ay, G", "length", [0, 1, 2, 3, 4])


@pytest.mark.parametrize("stop", [(), ("lo!",), ("ll", "Gwenaël lo"), ("!?", "nothing")])
def test_streamed_pieces_are_certain_and_join_to_the_text(stop):
    text = "Hëllo, 🙂 Gwenaël lolo! Go."
    found, model, options = recite(text, stop=stop)
    pieces = list(stream(model, [-1], **options))
    assert "".join(pieces) == found.text
    assert "\ufffd" not in "".join(pieces)
    assert all(pieces) and len(pieces) > 3 * (not stop)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_streams_of_random_bytes_join_to_the_text(way):
    """A model that is not trained writes bytes that are no text; the pieces still join."""
    torch.manual_seed(0)
    model = TransNormer.preset("tiny", vocab_size=256)
    options = {"decode": decode, "max_new_tokens": 40, "seed": 1, **way}
    assert "".join(stream(model, [65], **options)) == generate(model, [[65]], **options)[0].text


def test_each_step_is_told():
    model, steps = small(TransNormer), []
    found = generate(model, PROMPTS, max_new_tokens=6, end_id=3, temperature=1.0, on_tokens=steps.append)
    for row, generation in enumerate(found):
        told = [step[row] for step in steps]
        assert [t for t in told if t is not None] == generation.ids
        assert told == generation.ids + [None] * (len(steps) - len(generation.ids))


def test_no_gradients_are_kept_and_training_goes_on():
    model = small(TransNormer).train()
    generate(model, [[1]], max_new_tokens=2)
    assert model.training
    logits, cache = prefill(model, [[1]])
    assert not logits.requires_grad
    assert not cache.states[0].S.requires_grad


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -1.0}, "temperature=-1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_p": 0.0}, "top_p=0"),
        ({"top_p": 1.1}, "top_p=1.1"),
        ({"max_new_tokens": 0}, "at least one new token"),
        ({"stop": ["x"]}, "decode=tokenizer.decode"),
        ({"stop": [""], "decode": decode}, "not empty"),
        ({"ids": []}, "prompt is empty"),
        ({"ids": [[1], []]}, "prompt is empty"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    options = {"ids": [[1]], "max_new_tokens": 1} | options
    with pytest.raises(ConfigError, match=words):
        generate(small(TransNormer), **options)
