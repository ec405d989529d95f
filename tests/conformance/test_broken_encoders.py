"""A toy encoder passes every check; each broken one fails exactly the check that is made for its fault."""

import itertools

import pytest
import torch
from torch import nn

from salience.core.registry import Card
from salience.data.kinds import KINDS
from salience.data.words import words as cut_words
from salience.models.slots import Encoder, Fusion, Tokens
from salience.testing import encoders, fusions, heads

COUNTER = itertools.count()


class MeanWords(Encoder):
    """Average word vectors."""

    kind, dim = "text", 3

    def __init__(self, columns, width=3):
        super().__init__(columns)
        self.dim = width

    def fit(self, frame, target, generator):
        words = sorted({w for c in self.columns for text in frame[c] for w in cut_words(text)})
        self.rows = len(frame)
        self._build(words)

    def _build(self, words):
        self.words = words
        self.embedding = nn.Embedding(len(words) + 1, self.dim)
        self.linear = nn.Linear(self.dim, self.dim)

    def state(self):
        return {"words": self.words, "rows": self.rows}

    def restore(self, state):
        self.rows = state["rows"]
        self._build(state["words"])

    def prepare(self, frame):
        index = {w: i + 1 for i, w in enumerate(self.words)}
        texts = (" ".join(cells) for cells in frame[self.columns].itertuples(index=False))
        return [[index.get(w, 0) for w in cut_words(text)] for text in texts]

    def collate(self, examples):
        length = max(1, *(len(e) for e in examples))
        index = torch.tensor([e + [-1] * (length - len(e)) for e in examples])
        return {"index": index}

    def embed(self, batch):
        index = batch["index"]
        mask = index >= 0
        unit = torch.where(mask, torch.arange(index.shape[1]), -1)
        return Tokens(self.embedding(index.clamp(min=0)) * mask.unsqueeze(-1), mask, unit)

    def baseline(self, batch):
        tokens = self.embed(batch)
        return tokens.with_values(torch.zeros_like(tokens.values))

    def encode(self, tokens):
        context = tokens.with_values(torch.tanh(self.linear(tokens.values)))
        kept = tokens.mask.unsqueeze(-1)
        return context, (context.values * kept).sum(1) / kept.sum(1).clamp(min=1)

    def units(self, row):
        return tuple(u for c in self.columns for u in KINDS["text"].units(c, row[c]))


class WrongWidth(MeanWords):
    def encode(self, tokens):
        context, vector = super().encode(tokens)
        return context, torch.cat([vector, vector], dim=1)


class DeadParameter(MeanWords):
    def _build(self, words):
        super()._build(words)
        self.unused = nn.Parameter(torch.zeros(2))


class CountsPadding(MeanWords):
    def encode(self, tokens):
        context, _ = super().encode(tokens)
        return context, context.values.mean(1)


class OtherNumbersEachTime(MeanWords):
    def fit(self, frame, target, generator):
        super().fit(frame, target, generator)
        nn.init.constant_(self.linear.bias, next(COUNTER) / 100)


class ForgetsOnSave(MeanWords):
    def encode(self, tokens):
        context, vector = super().encode(tokens)
        return context, vector * self.rows

    def restore(self, state):
        super().restore({**state, "rows": 1})


class DividesByZero(MeanWords):
    def encode(self, tokens):
        context, vector = super().encode(tokens)
        return context, vector / tokens.mask.any(1, keepdim=True)


class OnlyFloat32(MeanWords):
    def encode(self, tokens):
        context, _ = super().encode(tokens)
        result = torch.zeros(len(tokens.values), self.dim)
        kept = tokens.mask.unsqueeze(-1)
        result[torch.arange(len(result))] = (self.linear(tokens.values) * kept).sum(1)
        return context, result


class PaddingHasAUnit(MeanWords):
    def embed(self, batch):
        tokens = super().embed(batch)
        return Tokens(tokens.values, tokens.mask, tokens.unit.clamp(min=0))


class MarksPositions(MeanWords):
    def embed(self, batch):
        tokens = super().embed(batch)
        position = torch.arange(tokens.values.shape[1]).view(1, -1, 1)
        return tokens.with_values(tokens.values + position * tokens.mask.unsqueeze(-1))


class ShortBaseline(MeanWords):
    def baseline(self, batch):
        tokens = super().baseline(batch)
        return Tokens(tokens.values[:, :1], tokens.mask[:, :1], tokens.unit[:, :1])


class Noisy(MeanWords):
    def embed(self, batch):
        tokens = super().embed(batch)
        return tokens.with_values(tokens.values + 2e-6 * torch.randn(tokens.values.shape))


class LearnsFromTestRows(MeanWords):
    def fit(self, frame, target, generator):
        self.seen = 0
        super().fit(frame, target, generator)

    def state(self):
        return {**super().state(), "seen": self.seen}

    def restore(self, state):
        self.seen = state["seen"]
        super().restore(state)

    def prepare(self, frame):
        self.seen += len(frame)
        return super().prepare(frame)


class MapOfOneRow(MeanWords):
    def attention(self, batch):
        return {"mean": torch.ones(1, 2)}


def card(kind="encoder", **fields):
    return Card(
        "toy", {"key": "toy", "kind": kind, "title": "Toy", "entry": "Toy", "kinds": ["text"], **fields}
    )


def failures(checks, card_, entry):
    failed = []
    for check in checks:
        try:
            check(card_, entry)
        except Exception:
            failed.append(check.__name__.removeprefix("check_"))
    return failed


BROKEN = {
    WrongWidth: "shapes_are_as_promised",
    DeadParameter: "every_parameter_gets_a_finite_gradient",
    CountsPadding: "batch_of_one_equals_the_row_in_a_batch",
    OtherNumbersEachTime: "same_seed_gives_the_same_numbers",
    ForgetsOnSave: "saved_and_restored_is_equal",
    DividesByZero: "odd_cells_have_a_defined_result",
    OnlyFloat32: "bfloat16_is_finite",
    PaddingHasAUnit: "units_match_tokens",
    MarksPositions: "removing_a_unit_changes_only_that_unit",
    ShortBaseline: "baseline_has_the_form_of_the_input",
    Noisy: "evaluation_is_deterministic",
    LearnsFromTestRows: "state_is_learned_from_training_rows_only",
    MapOfOneRow: "attention_maps_are_finite",
}


def test_the_toy_passes_every_check():
    assert failures(encoders.CHECKS, card(), MeanWords) == []


@pytest.mark.parametrize("toy", BROKEN, ids=lambda toy: toy.__name__)
def test_a_broken_encoder_fails_exactly_its_check(toy):
    assert failures(encoders.CHECKS, card(), toy) == [BROKEN[toy]]


def test_defaults_that_the_class_refuses_are_found():
    failed = failures(encoders.CHECKS, card(defaults={"no_such_argument": 1}), MeanWords)
    assert failed == ["builds_from_defaults"]


def test_every_encoder_check_has_a_broken_toy():
    names = {check.__name__.removeprefix("check_") for check in encoders.CHECKS}
    assert names == {*BROKEN.values(), "builds_from_defaults"}


class MeanFusion(Fusion):
    def __init__(self, dims, token_dims):
        super().__init__()
        self.dim = 2
        self.maps = nn.ModuleDict({name: nn.Linear(size, 2) for name, size in dims.items()})

    def forward(self, vectors, tokens):
        return sum(self.maps[name](vector) for name, vector in vectors.items())


class FusionWrongWidth(MeanFusion):
    def __init__(self, dims, token_dims):
        super().__init__(dims, token_dims)
        self.dim = 5


class FusionDeadParameter(MeanFusion):
    def __init__(self, dims, token_dims):
        super().__init__(dims, token_dims)
        self.unused = nn.Parameter(torch.zeros(1))


class FusionIgnoresNumbers(MeanFusion):
    def forward(self, vectors, tokens):
        silent = {**vectors, "number": torch.ones_like(vectors["number"])}
        return super().forward(silent, tokens)


class FusionMixesRows(MeanFusion):
    def forward(self, vectors, tokens):
        result = super().forward(vectors, tokens)
        return result - result.mean(0)


class FusionForgets(MeanFusion):
    def __init__(self, dims, token_dims):
        super().__init__(dims, token_dims)
        self.shift = torch.randn(2)

    def forward(self, vectors, tokens):
        return super().forward(vectors, tokens) + self.shift


class FusionOverflows(MeanFusion):
    def forward(self, vectors, tokens):
        result = super().forward(vectors, tokens)
        return result / 0 if result.dtype == torch.bfloat16 else result


FUSIONS = {
    FusionWrongWidth: "shapes_are_as_promised",
    FusionDeadParameter: "every_parameter_gets_a_finite_gradient",
    FusionIgnoresNumbers: "every_encoder_matters",
    FusionMixesRows: "rows_are_independent",
    FusionForgets: "saved_and_restored_is_equal",
    FusionOverflows: "bfloat16_is_finite",
}


def test_the_toy_fusion_passes_and_broken_ones_fail_exactly_their_check():
    assert failures(fusions.CHECKS, card("fusion"), MeanFusion) == []
    for toy, name in FUSIONS.items():
        assert failures(fusions.CHECKS, card("fusion"), toy) == [name], toy.__name__


class PlainHead(nn.Module):
    task = "classification"

    def __init__(self, dim, n_outputs=3):
        super().__init__()
        self.linear = nn.Linear(dim, n_outputs)

    def forward(self, vector):
        return self.linear(vector)

    def loss(self, output, target):
        return nn.functional.cross_entropy(output.float(), target)

    def finish(self, output):
        return output


class HeadCutsOutputs(PlainHead):
    def finish(self, output):
        return output[:, :2]


class HeadDeadParameter(PlainHead):
    def __init__(self, dim, n_outputs=3):
        super().__init__(dim, n_outputs)
        self.unused = nn.Parameter(torch.zeros(1))


class HeadBarelyLearns(PlainHead):
    def loss(self, output, target):
        return 5 + 0.01 * super().loss(output, target)


class HeadMixesRows(PlainHead):
    def finish(self, output):
        return output - output.mean(0)


class HeadForgets(PlainHead):
    def __init__(self, dim, n_outputs=3):
        super().__init__(dim, n_outputs)
        self.shift = torch.randn(())

    def finish(self, output):
        return output + self.shift


class HeadOverflows(PlainHead):
    def finish(self, output):
        return output / 0 if output.dtype == torch.bfloat16 else output


HEADS = {
    HeadCutsOutputs: "shapes_are_as_promised",
    HeadDeadParameter: "every_parameter_gets_a_finite_gradient",
    HeadBarelyLearns: "training_lowers_the_loss",
    HeadMixesRows: "rows_are_independent",
    HeadForgets: "saved_and_restored_is_equal",
    HeadOverflows: "bfloat16_is_finite",
}


def test_the_toy_head_passes_and_broken_ones_fail_exactly_their_check():
    toy = card("head", tasks=["classification"], tiny={"n_outputs": 3})
    assert failures(heads.CHECKS, toy, PlainHead) == []
    for entry, name in HEADS.items():
        assert failures(heads.CHECKS, toy, entry) == [name], entry.__name__
    other = card("head", tasks=["regression"], tiny={"n_outputs": 3})
    assert failures(heads.CHECKS, other, PlainHead) == ["task_is_named_on_the_card"]
