"""Robust averages against numpy, what they must leave alone, and training with them, resumed too."""

import copy

import numpy as np
import pytest
import torch
from small_model import SmallModel, same_state, train
from test_resume import OPTIONS, interrupted, without_seconds
from torch import nn
from torch.nn import functional as F

from salience.core.errors import ConfigError, UnsupportedError
from salience.settings import make_config
from salience.training import coherent_descent
from salience.training.coherent_descent import CoherentStep, median3, trimmed_mean, winsorised_mean
from salience.training.loop import TrainingConfig
from salience.training.per_example import per_example_gradients

GROUPED = ("m3", "median_of_means", "trimmed_mean", "winsorised")


def stack(groups, shape=(4, 3), seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(groups, *shape)))


def test_median_of_three_is_numpys():
    a, b, c = stack(3, (50, 7))
    found = median3([a, a[0]], [b, b[0]], [c, c[0]])
    assert torch.equal(found[0], torch.from_numpy(np.median([a, b, c], axis=0)))
    assert torch.equal(found[1], torch.from_numpy(np.median([a[0], b[0], c[0]], axis=0)))
    assert median3([a * float("nan")], [b], [c])[0].isnan().all()


@pytest.mark.parametrize("groups", [1, 2, 5, 8])
@pytest.mark.parametrize("percentile", [0.0, 4.0, 25.0, 49.9])
def test_winsorised_mean_is_numpys(groups, percentile, monkeypatch):
    monkeypatch.setattr(coherent_descent, "BLOCK", 5 * groups)  # several blocks
    g = stack(groups)
    low, high = np.percentile(g.numpy(), [percentile, 100 - percentile], axis=0)
    expected = torch.from_numpy(np.clip(g.numpy(), low, high).mean(axis=0))
    torch.testing.assert_close(winsorised_mean(g, percentile), expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("groups", [3, 4, 9])
def test_trimmed_mean_is_numpys_and_ends_at_the_median(groups):
    g = stack(groups)
    expected = torch.from_numpy(np.sort(g, axis=0)[1:-1].mean(axis=0))
    torch.testing.assert_close(trimmed_mean(g, 1), expected, atol=1e-14, rtol=0)
    median = torch.from_numpy(np.median(g, axis=0))
    torch.testing.assert_close(trimmed_mean(g, (groups - 1) // 2), median, atol=1e-14, rtol=0)
    assert torch.equal(trimmed_mean(g, 0), g.mean(0))


# the wrapper


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(3, 2).double()


def give(model, values):
    """Put gradients in place, as a backward pass adds them."""
    for parameter, value in zip(model.parameters(), values, strict=True):
        parameter.grad = value.clone()


def gradients(model, steps, seed=0):
    rng = np.random.default_rng(seed)
    return [[torch.from_numpy(rng.normal(size=p.shape)) for p in model.parameters()] for _ in range(steps)]


def stepper_of(model, mode="rm3", optimizer="sgd", **options):
    kinds = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    }
    return CoherentStep(kinds[optimizer](model.parameters()), mode, **options)


def test_rm3_follows_the_median_of_three_steps_after_two_plain_ones():
    model = linear()
    given, followed = gradients(model, 6), []
    stepper = stepper_of(model)
    for values in given:
        give(model, values)
        before = [p.detach().clone() for p in model.parameters()]
        stepper.step()
        followed.append([(b - p.detach()) / 0.1 for b, p in zip(before, model.parameters(), strict=True)])
        stepper.zero_grad()
    for step in range(6):
        last = given[max(step - 2, 0) : step + 1] if step >= 2 else given[step : step + 1]
        for i, found in enumerate(followed[step]):
            expected = np.median(np.stack([values[i].numpy() for values in last]), axis=0)
            np.testing.assert_allclose(found.numpy(), expected, atol=1e-14)


def test_clipping_after_combining_does_not_reach_the_kept_gradients():
    model, plain = linear(), linear()
    given = gradients(model, 4)
    stepper, reference = stepper_of(model), stepper_of(plain)
    for values in given:
        give(model, values)
        stepper.combine()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        stepper.step()
        stepper.zero_grad(set_to_none=False)
        give(plain, values)
        reference.step()
        reference.zero_grad()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        for name in ("descent_previous", "descent_before"):
            assert torch.equal(stepper.state[one][name], reference.state[other][name])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("mode", ["rm3", *GROUPED])
def test_equal_gradients_give_the_plain_step(mode, optimizer):
    model, plain = linear(), linear()
    values = gradients(model, 1)[0]
    stepper = stepper_of(model, mode, optimizer)
    reference = stepper_of(plain, "rm3", optimizer).base
    for _ in range(4):
        if mode == "rm3":
            give(model, values)
        for _ in range(5 if mode in GROUPED else 0):
            give(model, [v / 5 for v in values])
            stepper.collect()
        stepper.step()
        stepper.zero_grad()
        give(plain, values)
        reference.step()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-13, rtol=0)


@pytest.mark.parametrize(
    ("mode", "options", "average"),
    [
        ("m3", {}, lambda g: np.median(g, axis=0)),
        ("median_of_means", {}, lambda g: np.median(g, axis=0)),
        ("trimmed_mean", {"trim": 1}, lambda g: np.sort(g, axis=0)[1:-1].mean(0)),
        ("trimmed_mean", {"trim": 9}, lambda g: np.median(g, axis=0)),
        (
            "winsorised",
            {"percentile": 20.0},
            lambda g: np.clip(g, *np.percentile(g, [20, 80], axis=0)).mean(0),
        ),
        ("winsorised", {"percentile": 0.0}, lambda g: np.mean(g, axis=0)),
    ],
)
@pytest.mark.parametrize("rows", [[1, 1, 1], [4, 3, 3, 3]])
def test_groups_are_averaged_as_by_numpy_whatever_their_rows(mode, options, average, rows):
    model = linear()
    given = gradients(model, len(rows))
    stepper = stepper_of(model, mode, **options)
    for values, n in zip(given, rows, strict=True):
        give(model, [v * n / sum(rows) for v in values])  # a group's part of the batch's mean
        stepper.collect(n)
    assert all(p.grad is None for p in model.parameters())
    stepper.combine()
    for i, parameter in enumerate(model.parameters()):
        expected = average(np.stack([values[i].numpy() for values in given]))
        np.testing.assert_allclose(parameter.grad.numpy(), expected, atol=1e-13)


def test_mean_of_groups_is_the_plain_gradient():
    model = linear()
    given = gradients(model, 3)
    stepper = stepper_of(model, "m3")
    for values, rows in zip(given, (2, 1, 1), strict=True):
        give(model, values)
        stepper.collect(rows)
    stepper.mean(scale=2.0)
    for i, parameter in enumerate(model.parameters()):
        torch.testing.assert_close(parameter.grad, sum(v[i] for v in given) / 2.0, atol=1e-14, rtol=0)


def test_a_parameter_without_gradient_in_some_groups_counts_as_zero_there():
    model = linear()
    weight, bias = model.parameters()
    stepper = stepper_of(model, "trimmed_mean", trim=0)
    for group in range(4):
        bias.grad = torch.ones_like(bias)
        if group == 2:
            weight.grad = torch.ones_like(weight)
        stepper.collect()
    stepper.combine()
    assert torch.equal(bias.grad, torch.full_like(bias, 4.0))
    assert torch.equal(weight.grad, torch.ones_like(weight))


def test_an_infinite_group_is_not_hidden_by_the_median():
    model = linear()
    stepper = stepper_of(model, "m3")
    for values in gradients(model, 3):
        give(model, values)
        stepper.collect()
    stepper._groups[model.bias][1][0, 0] = float("inf")
    stepper.combine()
    assert model.bias.grad.isfinite().tolist() == [False, True]


class Scaler(torch.amp.GradScaler):
    """A loss scaler that also works on a processor."""

    def __init__(self):
        super().__init__("cpu", init_scale=1024.0, growth_interval=10**6)


@pytest.mark.parametrize("mode", ["rm3", "m3"])
def test_loss_scaler_gives_the_same_steps_and_a_step_left_out_leaves_no_trace(mode):
    model, plain = linear(), linear()
    stepper, reference, scaler = stepper_of(model, mode), stepper_of(plain, mode), Scaler()
    x = torch.randn(6, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for step in range(6):
        broken = step == 3  # this step overflows
        for part in x[step]:
            scaler.scale(model(part).square().sum() / 3).backward()
            if broken:
                model.weight.grad[0, 0] = float("inf")
            if mode == "m3":
                stepper.collect()
        if mode == "m3":
            stepper.combine()
        scaler.unscale_(stepper)
        scaler.step(stepper)
        scaler.update()
        stepper.zero_grad()
        for part in [] if broken else x[step]:
            (plain(part).square().sum() / 3).backward()
            if mode == "m3":
                reference.collect()
        if not broken:
            reference.step()
            reference.zero_grad()
    assert scaler.get_scale() == 512.0
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("mode", ["rm3", "m3"])
@pytest.mark.parametrize("done", [1, 2, 4])
def test_state_goes_on_bit_for_bit(mode, optimizer, done):
    whole, first = linear(), linear()
    given = gradients(whole, 6)

    def take(model, stepper, steps):
        for values in steps:
            if mode == "rm3":
                give(model, values)
            for factor in (0.2, 0.3, 0.5) if mode == "m3" else ():
                give(model, [v * factor for v in values])
                stepper.collect()
            stepper.step()
            stepper.zero_grad()

    take(whole, stepper_of(whole, mode, optimizer), given)
    early = stepper_of(first, mode, optimizer)
    take(first, early, given[:done])
    state = copy.deepcopy(early.state_dict())
    second = copy.deepcopy(first)
    late = stepper_of(second, mode, optimizer)
    late.load_state_dict(state)
    take(second, late, given[done:])
    assert same_state(whole, second)


def test_learning_rate_schedules_and_new_parameters_reach_the_optimiser():
    model, other = linear(), linear(1)
    stepper = stepper_of(model)
    schedule = torch.optim.lr_scheduler.ExponentialLR(stepper, 0.5)
    stepper.add_param_group({"params": list(other.parameters())})
    give(model, gradients(model, 1)[0])
    stepper.step()
    schedule.step()
    assert stepper.base.param_groups[0]["lr"] == 0.05
    assert len(stepper.base.param_groups) == len(stepper.param_groups) == 2
    stepper.load_state_dict(stepper.state_dict())
    stepper.param_groups[0]["lr"] = 0.01
    assert stepper.base.param_groups[0]["lr"] == 0.01


def test_closure_is_worked_out_once():
    model, calls = linear(), []

    def closure():
        calls.append(1)
        model.zero_grad()
        loss = model(torch.ones(1, 3, dtype=torch.float64)).sum()
        loss.backward()
        return loss

    before = model.bias.detach().clone()
    expected = float((model.weight.sum() + model.bias.sum()).detach())
    assert float(stepper_of(model).step(closure).detach()) == pytest.approx(expected)
    assert calls == [1]
    torch.testing.assert_close(model.bias, before - 0.1, atol=1e-14, rtol=0)


@pytest.mark.parametrize(
    ("mode", "options"),
    [("rm4", {}), ("winsorised", {"percentile": 50.0}), ("trimmed_mean", {"trim": -1})],
)
def test_impossible_options_are_refused(mode, options):
    with pytest.raises(ConfigError, match="SAL-T002"):
        stepper_of(linear(), mode, **options)


def test_a_step_without_groups_is_refused():
    with pytest.raises(UnsupportedError, match="collect"):
        stepper_of(linear(), "m3").step()


# gradients of examples


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(1, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)).double()


def cross_entropies(model, batch):
    return F.cross_entropy(model(batch["x"][:, None]), batch["y"], reduction="none")


def batch_of(rows):
    rng = np.random.default_rng(1)
    return {
        "x": torch.from_numpy(rng.normal(size=(rows, 5))),
        "y": torch.from_numpy(rng.integers(0, 2, rows)),
    }


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_gradients_of_examples_are_those_of_a_loop(chunk):
    model, batch = network(), batch_of(7)
    found = per_example_gradients(model, cross_entropies, batch, chunk=chunk)
    for i in range(7):
        loss = cross_entropies(model, {name: t[i : i + 1] for name, t in batch.items()}).sum()
        expected = torch.autograd.grad(loss, list(model.parameters()))
        for name, gradient in zip(dict(model.named_parameters()), expected, strict=True):
            torch.testing.assert_close(found[name][i], gradient, atol=1e-14, rtol=0)


@pytest.mark.parametrize("own", [False, True])
def test_winsorised_descent_over_examples(own):
    model, batch = network(), batch_of(9)
    each = per_example_gradients(model, cross_entropies, batch)
    stepper = CoherentStep(torch.optim.SGD(model.parameters(), 0.1), "winsorised", percentile=12.5)
    stepper.collect_examples(model, cross_entropies, batch, gradients=(lambda *_: each) if own else None)
    stepper.combine()
    for name, parameter in model.named_parameters():
        low, high = np.percentile(each[name].numpy(), [12.5, 87.5], axis=0)
        expected = np.clip(each[name].numpy(), low, high).mean(axis=0)
        np.testing.assert_allclose(parameter.grad.numpy(), expected, atol=1e-13)


def test_a_module_that_cannot_be_mapped_over_says_so():
    def losses(model, batch):
        return model(batch).sum(1) if float(batch.sum()) > 0 else batch.sum(1)

    with pytest.raises(UnsupportedError, match="SAL-T003"):
        per_example_gradients(linear(), losses, torch.ones(4, 3, dtype=torch.float64))


# in the training loop

DESCENTS = [
    ("rm3", {}),
    ("m3", {}),
    ("median_of_means", {"groups": 4}),
    ("trimmed_mean", {"groups": 5, "trim": 2}),
    ("winsorised", {"percentile": 10.0}),
]


@pytest.mark.parametrize(("descent", "args"), DESCENTS)
def test_training_resumes_to_equal_weights(descent, args, tmp_path, monkeypatch):
    options = {**OPTIONS, "accumulate": 1, "epochs": 2, "descent": descent, "descent_args": args}
    whole, history = train(SmallModel(dropout=0.5), **options)
    for updates in (1, 7):
        folder = tmp_path / str(updates)
        interrupted(folder, updates, monkeypatch, **options)
        model, resumed = train(SmallModel(dropout=0.5), trainer={"folder": folder}, **options)
        assert same_state(whole, model)
        assert without_seconds(resumed) == without_seconds(history)
    plain, _ = train(SmallModel(dropout=0.5), **{**options, "descent": "mean", "descent_args": {}})
    assert not same_state(whole, plain)


@pytest.mark.parametrize("rows", [48, 46])
def test_winsorised_at_percentile_zero_is_the_mean(rows):
    options = {"clip": 0.0, "batch_size": 8, "epochs": 2}
    weighted = {"class_weights": [0.2, 1.0, 3.0]}
    plain, _ = train(SmallModel(**weighted), rows=rows, **options)
    other, _ = train(
        SmallModel(**weighted), rows=rows, descent="winsorised", descent_args={"percentile": 0.0}, **options
    )
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, atol=2e-5, rtol=0)


def test_rm3_with_accumulation_is_rm3():
    options = {"descent": "rm3", "epochs": 2, "batch_size": 8}
    whole, parts = (train(SmallModel(), accumulate=n, **options)[0] for n in (1, 3))
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], tensor, atol=2e-5, rtol=0)


def memorised(mode):
    """Return the loss on random labels after 300 steps of plain SGD, or with a robust average."""
    rng, order = np.random.default_rng(0), np.random.default_rng(1)
    x, target = torch.from_numpy(rng.normal(size=(60, 40))), torch.from_numpy(rng.integers(0, 3, 60))
    model = SmallModel(dim=40).double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    stepper = CoherentStep(optimizer, mode) if mode else optimizer
    for _ in range(300):
        batch = order.permutation(60)[:6]
        for part in np.split(batch, 3) if mode == "m3" else [batch]:
            (F.cross_entropy(model(x[part]), target[part], reduction="sum") / 6).backward()
            if mode == "m3":
                stepper.collect()
        stepper.step()
        stepper.zero_grad()
    return float(F.cross_entropy(model(x), target).detach())


@pytest.mark.parametrize("mode", ["rm3", "m3"])
def test_random_labels_are_memorised_less_at_equal_steps(mode):
    assert memorised(mode) > 1.2 * memorised(None)


def test_descent_is_an_option_of_every_run():
    config = make_config(overrides=["training.descent=trimmed_mean", "training.descent_args.groups=7"])
    assert config.training.descent == "trimmed_mean"
    assert config.training.groups == 7
    assert make_config().training.groups == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"descent": "rm"}, "Did you mean 'rm3'"),
        ({"descent": "rm3", "descent_args": {"trim": 1}}, "no 'trim' for 'rm3'"),
        ({"descent": "trimmed_mean", "descent_args": {"grups": 1}}, "Did you mean 'groups'"),
        ({"descent": "median_of_means", "descent_args": {"groups": 1}}, "more than one part"),
        ({"descent": "m3", "accumulate": 2}, "cuts the batch in parts itself"),
    ],
)
def test_impossible_training_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**options)
