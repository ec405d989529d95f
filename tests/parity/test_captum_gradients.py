"""Gradient methods against captum, in float64: on small modules, and on the model of the library through its tokens."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from salience.core.unit import Unit
from salience.data.schema import Column, Schema, infer
from salience.explain.gradients import along_path, make_path, score_gradients
from salience.explain.methods.deep_lift import DeepLift
from salience.explain.methods.grad_cam import GradCAM
from salience.explain.methods.gradient import Gradient
from salience.explain.methods.gradient_x_input import GradientXInput
from salience.explain.methods.integrated_gradients import IntegratedGradients
from salience.explain.methods.smooth_grad import SmoothGrad
from salience.explain.target import resolve, score
from salience.models.slots import Tokens
from salience.models.table_model import ModelConfig, Part, TableModel
from salience.testing.toy import toy_frame

peer = pytest.importorskip("captum.attr")
torch.set_num_threads(1)
warnings.filterwarnings("ignore", module="captum")
pytestmark = pytest.mark.filterwarnings("ignore")  # captum announces its hooks and deprecations
EXACT = 1e-5


class Plain(nn.Module):
    """Any module of one tensor as a white box: a token is a number (grid 0) or a cell of a square grid of an image."""

    def __init__(self, module, shape, classes=3, grid=0):
        super().__init__()
        self.module, self.shape, self.grid = module.double().eval(), shape, grid
        names = [f"n{i}" for i in range(int(np.prod(shape)))]
        columns = tuple(Column(name, "number", "input", baseline=0.0) for name in names)
        labels = [str(i) for i in range(classes)]
        self.schema = Schema((*columns, Column("y", "category", "target")), "classification", labels)

    def outputs(self, frame):
        with torch.no_grad():
            return self.forward_tokens(self.embed(self.collate(self.prepare(frame)))).numpy()

    def units(self, row):
        kind = "image" if self.grid else "number"
        count = self.grid**2 if self.grid else int(np.prod(self.shape))
        return tuple(Unit(f"n{i}", kind, str(i)) for i in range(count))

    def unit_offsets(self, row):
        return {"x": 0}

    def remove(self, row, units):
        return {**row, **{unit.column: 0.0 for unit in units}}

    def prepare(self, frame):
        return list(frame[[c.name for c in self.schema.inputs]].to_numpy())

    def collate(self, examples):
        return torch.from_numpy(np.stack(examples))

    def embed(self, batch):
        values = batch.reshape(len(batch), -1, 1)
        if self.grid:
            image = batch.reshape(len(batch), *self.shape)
            cells = nn.functional.unfold(image, self.shape[1] // self.grid, stride=self.shape[1] // self.grid)
            values = cells.mT
        mask = torch.ones(values.shape[:2], dtype=torch.bool)
        return {"x": Tokens(values, mask, torch.arange(values.shape[1]).expand(mask.shape))}

    def baseline(self, batch):
        return self.embed(torch.zeros_like(batch))

    def tensor(self, tokens):
        if not self.grid:
            return tokens.values.reshape(-1, *self.shape)
        side = self.shape[1] // self.grid
        return nn.functional.fold(tokens.values.mT, self.shape[1:], side, stride=side)

    def forward_tokens(self, tokens):
        return self.module(self.tensor(tokens["x"]))

    def finish(self, output):
        return output

    def predict_proba(self, outputs):
        return np.exp(outputs)


def perceptron():
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Sigmoid()]
    return Plain(nn.Sequential(*layers, nn.Linear(8, 5), nn.ELU(), nn.Linear(5, 3)), (6,))


def network(pool=None):
    torch.manual_seed(1)
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), pool or nn.AvgPool2d(2)]
    layers += [nn.Conv2d(4, 5, 3, padding=1), nn.LeakyReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    module = nn.Sequential(*layers, nn.Linear(5, 3))
    module[1].running_mean.normal_(), module[1].running_var.uniform_(0.5, 2.0)
    return Plain(module, (2, 8, 8), grid=4)


MODELS = {"perceptron": perceptron, "network": network}


@pytest.fixture(params=sorted(MODELS))
def plain(request):
    model = MODELS[request.param]()
    rows = np.random.default_rng(2).normal(size=(4, int(np.prod(model.shape))))
    return model, pd.DataFrame(rows, columns=[c.name for c in model.schema.inputs])


def compare(explainer, model, frame, theirs, signed=True):
    """Compare unit values for class 1 rather than 0: z_1 − z_0, which captum gets as a function of one output."""
    targets = resolve(model.schema, (1, 0), model.outputs(frame))
    found = explainer.attribute(model, frame, targets)
    cells = model.embed(theirs.detach().reshape(len(frame), -1))["x"].values
    expected = (cells if signed else cells.abs()).sum(-1)
    np.testing.assert_allclose([a.values for a in found], expected, atol=EXACT)


def asked(model):
    return nn.Sequential(model.module, Difference())


class Difference(nn.Module):
    """z_1 − z_0, one output."""

    def forward(self, x):
        return (x[:, 1] - x[:, 0]).unsqueeze(1)


def inputs(model, frame):
    return torch.from_numpy(frame.to_numpy()).reshape(-1, *model.shape)


def test_gradient(plain):
    model, frame = plain
    theirs = peer.Saliency(asked(model)).attribute(inputs(model, frame).requires_grad_(), abs=False)
    compare(Gradient(), model, frame, theirs, signed=False)


def test_gradient_x_input(plain):
    model, frame = plain
    theirs = peer.InputXGradient(asked(model)).attribute(inputs(model, frame).requires_grad_())
    compare(GradientXInput(), model, frame, theirs)


def test_integrated_gradients_at_the_same_points(plain):
    model, frame = plain
    explainer = peer.IntegratedGradients(asked(model))
    theirs = explainer.attribute(inputs(model, frame), n_steps=9, method="gausslegendre")
    compare(IntegratedGradients(steps=9, max_steps=9), model, frame, theirs)


def test_deep_lift(plain):
    model, frame = plain
    theirs = peer.DeepLift(asked(model)).attribute(inputs(model, frame))
    compare(DeepLift(), model, frame, theirs)


def test_deep_lift_through_a_maximum_of_the_input():
    """Behind a nonlinearity captum's maxima do not add up (its own convergence delta says so); on inputs they do."""
    torch.manual_seed(3)
    model = Plain(
        nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)), (2, 8, 8), grid=4
    )  # fmt: skip
    rows = np.random.default_rng(4).normal(size=(4, 128))
    frame = pd.DataFrame(rows, columns=[c.name for c in model.schema.inputs])
    theirs = peer.DeepLift(asked(model)).attribute(inputs(model, frame))
    compare(DeepLift(), model, frame, theirs)


@pytest.mark.parametrize("plain", ["network"], indirect=True)
def test_grad_cam(plain):
    model, frame = plain
    theirs = peer.LayerGradCam(asked(model), model.module[4]).attribute(inputs(model, frame))
    targets = resolve(model.schema, (1, 0), model.outputs(frame))
    found = GradCAM().attribute(model, frame, targets)  # finds the last convolution
    named = GradCAM(layer="module.4").attribute(model, frame, targets)
    np.testing.assert_array_equal([a.values for a in found], [a.values for a in named])
    np.testing.assert_allclose([a.values for a in found], theirs.detach().clamp(min=0).flatten(1), atol=EXACT)
    assert any(a.values.any() for a in found)


class Given:
    """A generator that answers with one noise."""

    def __init__(self, noise):
        self.noise = noise

    def standard_normal(self, shape):
        assert shape == self.noise.shape
        return self.noise


def test_smooth_grad_with_the_same_noise(plain, monkeypatch):
    model, frame = plain
    samples, cells = 5, model.embed(inputs(model, frame).reshape(len(frame), -1))["x"].values
    noise = np.random.default_rng(5).normal(size=(len(frame), samples, *cells.shape[1:]))
    spread = 0.15 * (cells.flatten(1).amax(1) - cells.flatten(1).amin(1))
    tunnel, rows = peer.NoiseTunnel(peer.Saliency(asked(model))), inputs(model, frame)
    theirs = []
    for i in range(len(frame)):
        shared = model.tensor(Tokens(torch.from_numpy(noise[i]), None, None))
        monkeypatch.setattr(torch, "normal", lambda mean, std, shared=shared: mean + std * shared)
        theirs.append(tunnel.attribute(rows[i : i + 1], nt_samples=samples, stdevs=float(spread[i])))
        monkeypatch.undo()
    calls = iter(range(len(frame) * samples))
    monkeypatch.setattr(
        "salience.explain.methods.smooth_grad.generator",
        lambda seed, *names: Given(noise[next(calls) // samples, int(names[-1])]),
    )
    compare(SmoothGrad(samples=samples), model, frame, torch.cat(theirs), signed=False)


# -- the library's own model ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    raw = toy_frame(60, 61, "multiclass")
    schema = infer(raw, raw.columns[-1]).fitted(raw)
    frame = schema.parse(raw)
    torch.manual_seed(0)
    config = ModelConfig(
        text=Part("fast_disan", {"dim": 8, "min_count": 1, "vectors": "random"}), hidden=(8,)
    )
    model = TableModel(schema, config)
    model.fit_parts(frame, schema.encode_target(frame), torch.Generator().manual_seed(0))
    return model.double().eval(), frame.iloc[:5]


def through_tokens(model, tokens, targets):
    names = list(tokens)

    def forward(*values):
        repeats = len(values[0]) // len(targets)
        wide = {n: tokens[n].take(torch.arange(len(targets)).repeat(repeats)) for n in names}
        points = {n: wide[n].with_values(x) for n, x in zip(names, values, strict=True)}
        return score(model.finish(model.forward_tokens(points)), [*targets] * repeats)

    return names, forward


def test_table_model_gradients_and_integrated_gradients(table):
    model, frame = table
    targets = resolve(model.schema, "predicted", model.outputs(frame))
    model.requires_grad_(False)
    path = make_path(model, frame, targets, 64)
    names, forward = through_tokens(model, path.tokens, targets)
    rows = tuple(path.tokens[n].values for n in names)
    neutral = tuple(path.baseline[n].values for n in names)

    theirs = peer.Saliency(forward).attribute(tuple(r.clone().requires_grad_() for r in rows), abs=False)
    _, ours = score_gradients(model, path.tokens, targets)
    for name, expected in zip(names, theirs, strict=True):
        np.testing.assert_allclose(ours[name], expected, atol=EXACT)

    theirs = peer.IntegratedGradients(forward).attribute(rows, neutral, n_steps=9, method="gausslegendre")
    node, weight = np.polynomial.legendre.leggauss(9)
    lines = np.ones((len(frame), 1))
    found = along_path(model, path, np.arange(len(frame)), lines * (node + 1) / 2, lines * weight / 2)
    for i, values in enumerate(found):
        expected = np.zeros(len(values))
        for name, part in zip(names, theirs, strict=True):
            unit = path.unit[name][i]
            np.add.at(expected, unit[unit >= 0].numpy(), part[i].sum(-1)[unit >= 0].detach().numpy())
        np.testing.assert_allclose(values, expected, atol=EXACT)


def test_table_model_deep_lift_on_numbers_and_categories():
    raw = toy_frame(60, 62, "regression").drop(columns=["title", "review"])
    schema = infer(raw, raw.columns[-1]).fitted(raw)
    frame = schema.parse(raw)
    torch.manual_seed(0)
    model = TableModel(schema, ModelConfig(hidden=(8, 8)))
    model.fit_parts(frame, schema.encode_target(frame), torch.Generator().manual_seed(0))
    model, frame = model.double().eval(), frame.iloc[:5]
    targets = resolve(schema, "predicted", model.outputs(frame))
    found = DeepLift().attribute(model, frame, targets)
    model.requires_grad_(False)
    path = make_path(model, frame, targets, 64)
    vectors = [torch.cat([ends[n].values.flatten(1) for n in path.tokens], 1) for ends in (path.tokens, path.baseline)]  # fmt: skip
    theirs = peer.DeepLift(model.head.layers).attribute(*vectors) * model.head.std
    starts = np.cumsum([0, *(t.values[0].numel() for t in path.tokens.values())])
    for i, attribution in enumerate(found):
        parts = [
            theirs[i, a:b].reshape(t.values.shape[1:]).sum(-1).detach().numpy()
            for a, b, t in zip(starts[:-1], starts[1:], path.tokens.values(), strict=True)
        ]
        np.testing.assert_allclose(attribution.values, np.concatenate(parts), atol=EXACT)
        assert abs(attribution.completeness_gap) < 1e-10
