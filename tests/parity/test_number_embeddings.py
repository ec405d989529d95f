"""Every class of rtdl_num_embeddings 0.0.12 beside ours: edges bit for bit, outputs and gradients to rounding."""

import numpy as np
import pytest
import torch

from salience.core.errors import SalienceError
from salience.data.bins import quantile_edges, tree_edges
from salience.nn.embeddings.linear import LinearEmbedding
from salience.nn.embeddings.nlinear import NLinear
from salience.nn.embeddings.periodic import PeriodicEmbedding
from salience.nn.embeddings.piecewise_linear import PiecewiseLinearEmbedding, PiecewiseLinearEncoding
from salience.ops.piecewise_linear import fast

rtdl = pytest.importorskip("rtdl_num_embeddings")
pytestmark = pytest.mark.filterwarnings("ignore:The .-th feature has just two bin edges")
DIM, ROWS = 6, 300


def columns(rows=ROWS, dtype=np.float64):
    """Return five columns: normal, many ties, few values, two values, far from zero; their numbers of bins differ."""
    rng = np.random.default_rng(0)
    ties = np.where(rng.random(rows) < 0.6, 0.0, rng.gamma(2, 1, rows))
    kinds = [
        rng.normal(0, 1, rows),
        ties,
        rng.integers(0, 5, rows),
        rng.integers(0, 2, rows),
        rng.normal(7, 1, rows),
    ]
    return np.stack(kinds, axis=1).astype(dtype)


def edges_of(n_bins, dtype=np.float64):
    return [quantile_edges(column, n_bins) for column in columns(dtype=dtype).T]


def probes(edges, reach=3.0):
    """Return values on, between and outside the edges of each feature, up to ``reach`` widths away."""
    rng = np.random.default_rng(1)
    spread = np.stack(
        [rng.uniform(e[0] - reach * (e[-1] - e[0]), e[-1] + reach * (e[-1] - e[0]), ROWS) for e in edges], 1
    )
    on = np.stack([rng.choice(e, 60) for e in edges], 1)
    return np.concatenate([spread, on])


@pytest.fixture(params=["dense", "gathered"])
def form(request, monkeypatch):
    """Take either form of the piecewise linear operator, whatever the size."""
    monkeypatch.setattr(fast, "DENSE_UP_TO", 2**60 if request.param == "dense" else -1)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def in_float64(compute):
    """Compute with float64 as the default: the truth for float32, where theirs loses digits to narrow bins."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return compute()
    finally:
        torch.set_default_dtype(before)


def copy(ours, theirs, names):
    """Give ours the parameters of theirs."""
    own = dict(ours.named_parameters())
    assert sorted(names) == sorted(own)
    with torch.no_grad():
        for mine, other in names.items():
            own[mine].copy_(theirs.get_parameter(other))
    return {mine: theirs.get_parameter(other) for mine, other in names.items()}


def piecewise_pair(edges, version, activation):
    """Return both modules with equal parameters, and the slots in which theirs keeps the bins of each feature."""
    torch.manual_seed(0)
    bins = [torch.tensor(e, dtype=torch.get_default_dtype()) for e in edges]
    theirs = rtdl.PiecewiseLinearEmbeddings(bins, DIM, activation=activation, version=version)
    torch.nn.init.uniform_(theirs.linear.weight, -0.3, 0.3)
    ours = PiecewiseLinearEmbedding(edges, DIM, version, activation)
    linear = {"linear.weight": "linear0.weight", "linear.bias": "linear0.bias"}
    names = linear if version == "B" else {"bias": "linear.bias"}
    copy(ours, theirs, {**names, "weight": "linear.weight"})
    most = max(len(e) for e in edges) - 1
    slots = [[*range(len(e) - 2), most - 1] for e in edges]
    with torch.no_grad():
        ours.weight.zero_()
        for i, taken in enumerate(slots):
            ours.weight[i, : len(taken)] = theirs.linear.weight[i, taken]
    return ours, theirs, slots


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("rows", [50, 1000, 13_209])
@pytest.mark.parametrize("n_bins", [2, 7, 48])
def test_quantile_edges_are_equal_bit_for_bit(n_bins, rows, dtype):
    values = columns(rows, dtype)
    wanted = rtdl.compute_bins(torch.from_numpy(values), n_bins)
    for column, edges in zip(values.T, wanted, strict=True):
        np.testing.assert_array_equal(quantile_edges(column, n_bins), edges.double().numpy())


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize(
    "options", [{}, {"min_samples_leaf": 9, "min_impurity_decrease": 1e-3}], ids=["free", "held"]
)
def test_tree_edges_are_equal_bit_for_bit(task, options):
    values = columns(1000, np.float32)
    rng = np.random.default_rng(3)
    signal = np.sin(2 * values[:, 0]) + 0.5 * values[:, 2] + 0.1 * values[:, 4] + rng.normal(size=1000)
    target = (signal - signal.mean()) / signal.std() if task == "regression" else np.digitize(signal, [0, 1])
    wanted = rtdl.compute_bins(
        torch.from_numpy(values),
        20,
        tree_kwargs=options,
        y=torch.from_numpy(target),
        regression=task == "regression",
    )
    for column, edges in zip(values.T, wanted, strict=True):
        found = tree_edges(column, target, 20, task=task, **options)
        np.testing.assert_array_equal(found, edges.double().numpy())


def test_tree_edges_of_float64_are_theirs_before_these_are_rounded_to_float32():
    values = columns(1000)
    target = np.sin(2 * values[:, 0])
    target = (target - target.mean()) / target.std()
    wanted = rtdl.compute_bins(
        torch.from_numpy(values), 20, tree_kwargs={}, y=torch.from_numpy(target), regression=True
    )
    for column, edges in zip(values.T, wanted, strict=True):
        found = tree_edges(column, target, 20, task="regression")
        np.testing.assert_array_equal(np.unique(found.astype(np.float32)), edges.float().numpy())
        assert found[0] == column.min() and found[-1] == column.max()


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.zeros((9, 1)), id="constant"),
        pytest.param(np.array([[1.0], [np.nan], [2.0]]), id="missing"),
        pytest.param(np.array([[1.0], [np.inf], [2.0]]), id="infinite"),
        pytest.param(np.zeros((0, 1)), id="empty"),
    ],
)
def test_columns_that_theirs_refuses_are_refused_with_words(values):
    with pytest.raises(ValueError):
        rtdl.compute_bins(torch.from_numpy(values), 2)
    with pytest.raises(SalienceError, match="column of numbers"):
        quantile_edges(values[:, 0], 2)


@pytest.mark.parametrize("n_bins", [2, 7, 48])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_encoding_is_equal(n_bins, dtype, request):
    if dtype == torch.float64:
        request.getfixturevalue("float64")
    edges = edges_of(n_bins, np.float32)
    x = torch.from_numpy(probes(edges)).to(dtype)
    found = PiecewiseLinearEncoding(edges)(x)
    wanted = in_float64(lambda: rtdl.PiecewiseLinearEncoding([torch.tensor(e) for e in edges])(x.double()))
    assert found.shape == (len(x), sum(len(e) - 1 for e in edges))
    close = 1e-12 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(found.double(), wanted, rtol=close, atol=close)


@pytest.mark.parametrize("activation", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("version", ["A", "B"])
@pytest.mark.parametrize("n_bins", [2, 48])
def test_piecewise_linear_embedding_is_equal_in_float64(float64, form, n_bins, version, activation):
    edges = edges_of(n_bins)
    ours, theirs, slots = piecewise_pair(edges, version, activation)
    x = torch.from_numpy(probes(edges))
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, wanted = ours(a), theirs(b)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    for i, taken in enumerate(slots):
        mine, other = ours.weight.grad[i], theirs.linear.weight.grad[i, taken]
        torch.testing.assert_close(mine[: len(taken)], other, rtol=1e-11, atol=1e-11)
        assert not mine[len(taken) :].any()
    mine, other = (
        (ours.bias, theirs.linear.bias) if version == "A" else (ours.linear.bias, theirs.linear0.bias)
    )
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-11, atol=1e-11)
    if version == "B":
        torch.testing.assert_close(
            ours.linear.weight.grad, theirs.linear0.weight.grad, rtol=1e-11, atol=1e-11
        )
    inside = torch.from_numpy(~np.isin(x.numpy(), np.concatenate(edges)))  # on an edge the slope is a choice
    torch.testing.assert_close(a.grad[inside], b.grad[inside], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("activation", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("version", ["A", "B"])
def test_piecewise_linear_embedding_is_equal_in_float32(form, version, activation):
    edges = edges_of(8, np.float32)
    ours, theirs, _ = piecewise_pair(edges, version, activation)
    x = torch.from_numpy(probes(edges, 0.0).astype(np.float32))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=3e-6)  # theirs is off by 2e-6
    exact = in_float64(lambda: piecewise_pair(edges, version, activation)[1])
    exact.load_state_dict({k: v for k, v in theirs.state_dict().items() if "impl" not in k}, strict=False)
    torch.testing.assert_close(ours(x).double(), exact(x.double()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("activation", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=["f32", "f64"]
)
def test_linear_embedding_is_equal(activation, dtype, close):
    theirs = rtdl.LinearReLUEmbeddings(5, DIM) if activation else rtdl.LinearEmbeddings(5, DIM)
    ours = LinearEmbedding(5, DIM, activation)
    prefix = "linear." if activation else ""
    copy(ours, theirs, {"weight": prefix + "weight", "bias": prefix + "bias"})
    x = torch.randn(40, 5, dtype=dtype)
    torch.testing.assert_close(ours.to(dtype)(x), theirs.to(dtype)(x), rtol=close, atol=close)


@pytest.mark.parametrize(
    ("lite", "activation"), [(False, False), (False, True), (True, True)], ids=["PL", "PLR", "lite"]
)
@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=["f32", "f64"]
)
def test_periodic_embedding_is_equal(lite, activation, dtype, close):
    torch.manual_seed(1)
    options = {"n_frequencies": 7, "activation": activation, "lite": lite}
    theirs = rtdl.PeriodicEmbeddings(5, DIM, frequency_init_scale=0.3, **options).to(dtype)
    ours = PeriodicEmbedding(5, DIM, sigma=0.3, **options).to(dtype)
    other = copy(
        ours,
        theirs,
        {
            "periodic.frequency": "periodic.weight",
            "linear.weight": "linear.weight",
            "linear.bias": "linear.bias",
        },
    )
    x = torch.randn(40, 5, dtype=dtype)
    torch.testing.assert_close(ours(x), theirs(x), rtol=close, atol=close)
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, other[name].grad, rtol=100 * close, atol=100 * close)


def test_parameters_of_periodic_embeddings_are_as_many():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(PeriodicEmbedding(3, lite=True)) == count(rtdl.PeriodicEmbeddings(3, lite=True)) == 2472
    assert count(PeriodicEmbedding(3)) == count(rtdl.PeriodicEmbeddings(3, lite=False)) == 7128


def test_layers_start_alike():
    """Their draws, in their order, from one seed."""
    pairs = [
        (lambda: NLinear(3, 8, 5), lambda: rtdl._NLinear(3, 8, 5)),
        (lambda: LinearEmbedding(3, 5), lambda: rtdl.LinearEmbeddings(3, 5)),
        (lambda: PeriodicEmbedding(3, 5), lambda: rtdl.PeriodicEmbeddings(3, 5, lite=False)),
    ]
    for make, make_theirs in pairs:
        torch.manual_seed(5)
        ours = [p.detach() for p in make().parameters()]
        torch.manual_seed(5)
        theirs = [p.detach() for p in make_theirs().parameters()]
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other)
