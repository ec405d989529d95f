"""Networks of many forms, each with a batch of examples and a loss an example, for tests of coherence."""

import torch
from torch import nn
from torch.nn import functional as F

from salience.nn.embeddings.linear import LinearEmbedding
from salience.nn.embeddings.nlinear import NLinear
from salience.nn.embeddings.periodic import PeriodicEmbedding

ROWS = 6


def classified(module, batch):
    inputs, target = batch
    return F.cross_entropy(module(inputs), target, reduction="none")


class Sequences(nn.Module):
    """A transformer over words, with positions, a first token and padding."""

    def __init__(self, batch_first=True, need_weights=False):
        super().__init__()
        self.words, self.places = nn.Embedding(20, 8, padding_idx=0), nn.Embedding(12, 8)
        self.first = nn.Parameter(torch.randn(8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.batch_first = batch_first
        self.pool = nn.MultiheadAttention(8, 2, batch_first=True) if need_weights else None
        self.norm, self.out = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, index):
        x = self.words(index) + self.places(torch.arange(index.shape[1]))
        x = torch.cat([self.first.expand(len(x), 1, -1), x], 1)
        pad = F.pad(index == 0, (1, 0), value=False)
        if not self.batch_first:
            x = self.encoder(x.transpose(0, 1), src_key_padding_mask=pad).transpose(0, 1)
        else:
            x = self.encoder(x, src_key_padding_mask=pad)
        if self.pool is not None:
            x = self.pool(x[:, :1], x, x, key_padding_mask=pad)[0]
        return self.out(self.norm(x[:, 0]))


class Tied(nn.Module):
    """An embedding whose table is also the output layer."""

    def __init__(self):
        super().__init__()
        self.words, self.mix = nn.Embedding(11, 6), nn.Linear(6, 6)

    def forward(self, index):
        x = self.mix(self.words(index)).tanh()
        return F.linear(x, self.words.weight).mean(1)


class Twice(nn.Module):
    """One layer called twice, and one that shares its bias."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.layer(self.layer(x).tanh()).tanh() + self.layer.bias)


class Held(nn.Module):
    """Parameters that modules hold directly, used by plain operations."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(3, 4))
        self.scale, self.shift = nn.Parameter(torch.rand(4) + 0.5), nn.Parameter(torch.randn(1, 4))
        self.table, self.missing = nn.Parameter(torch.randn(7, 4)), nn.Parameter(torch.randn(4))
        self.mix = nn.Parameter(torch.randn(4, 2, 4))
        self.register_buffer("fixed", torch.rand(4))

    def forward(self, x):
        place = (x[:, :2].abs() * 2).long().clamp(max=6)
        y = x @ self.left * self.scale - self.shift / self.fixed + self.table[place].sum(1)
        y = torch.where(x[:, :1] > 0.3, self.missing, y)
        y += self.shift.exp()[0]
        y = torch.einsum("bi,ijk->bk", y, self.mix).div(1 + self.scale.square())
        return torch.matmul(y, self.right.t())


class Numbers(nn.Module):
    """Embeddings of numbers, one matrix a feature."""

    def __init__(self):
        super().__init__()
        self.one = PeriodicEmbedding(5, 3, n_frequencies=4, sigma=0.3)
        self.two, self.mix = LinearEmbedding(5, 3), NLinear(5, 3, 2)
        self.out = nn.Linear(10, 3)

    def forward(self, x):
        return self.out(self.mix(self.one(x) + self.two(x)).flatten(1))


class Bag(nn.Module):
    """Means of word vectors, given as a matrix."""

    def __init__(self, mode="mean"):
        super().__init__()
        self.bag, self.out = nn.EmbeddingBag(20, 6, mode=mode, padding_idx=0), nn.Linear(6, 3)

    def forward(self, index):
        return self.out(self.bag(index).tanh())


class Recurrent(nn.Module):
    """A recurrent network over words."""

    def __init__(self, kind, **options):
        super().__init__()
        self.words, self.net = nn.Embedding(20, 4), kind(4, 5, batch_first=True, **options)
        self.out = nn.Linear(5 * (2 if self.net.bidirectional else 1), 3)

    def forward(self, index):
        return self.out(self.net(self.words(index))[0][:, -1])


class Scaled(torch.autograd.Function):
    """A function with a backward pass of its own, which torch cannot vectorise."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x * weight

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad * weight, (grad * x).sum(0)


class OwnBackward(nn.Module):
    """A parameter that goes into a custom function."""

    def __init__(self):
        super().__init__()
        self.weight, self.out = nn.Parameter(torch.randn(5)), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(Scaled.apply(x, self.weight).tanh())


def mlp():
    return nn.Sequential(
        nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)
    )


def cnn(norm):
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), norm(8), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1),
        norm(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


def odd_convolutions():
    return nn.Sequential(
        nn.Conv2d(2, 8, (3, 2), padding="same", dilation=(1, 2), bias=False),
        nn.Tanh(),
        nn.Conv2d(8, 8, 3, stride=(2, 1), padding=(1, 0), groups=4),
        nn.InstanceNorm2d(8, affine=True),
        nn.Conv2d(8, 6, 3, dilation=2, padding=2, padding_mode="circular", groups=2),
        nn.Conv2d(6, 64, 2, stride=2),
        nn.ConvTranspose2d(64, 4, 2),
        nn.PReLU(4),
        nn.Flatten(),
        nn.LazyLinear(3),
    )


def of_time():
    return nn.Sequential(
        nn.Unflatten(1, (2, 32)), nn.Conv1d(2, 6, 5, stride=2, padding=2), nn.GELU(), nn.Conv1d(6, 6, 3, dilation=2),
        nn.Flatten(), nn.RMSNorm(72), nn.Linear(72, 3),
    )  # fmt: skip


def weight_normed():
    first = nn.utils.parametrizations.weight_norm(nn.Linear(5, 6))
    second = nn.utils.parametrizations.orthogonal(nn.Linear(6, 6))
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Linear(6, 3))


def partly_frozen():
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    net[0].requires_grad_(False)
    net[2].weight.requires_grad_(False)
    return net


NUMBERS = {
    "mlp": mlp,
    "twice": Twice,
    "held": Held,
    "numbers": Numbers,
    "own backward": OwnBackward,
    "weight norm": weight_normed,
    "frozen": partly_frozen,
}
WORDS = {
    "transformer": Sequences,
    "transformer, batch second": lambda: Sequences(batch_first=False),
    "attention over others": lambda: Sequences(need_weights=True),
    "tied": Tied,
    "bag": Bag,
    "bag of sums": lambda: Bag("sum"),
    "lstm": lambda: Recurrent(nn.LSTM),
    "lstm, both ways": lambda: Recurrent(nn.LSTM, bidirectional=True, num_layers=2),
    "gru": lambda: Recurrent(nn.GRU),
}
PICTURES = {
    "cnn, group norm": lambda: cnn(lambda c: nn.GroupNorm(2, c)),
    "cnn, batch norm": lambda: cnn(nn.BatchNorm2d),
    "convolutions": odd_convolutions,
}
NAMES = [*NUMBERS, *WORDS, *PICTURES, "series"]


def case(name, rows=ROWS, seed=0):
    """Return a network in float64 and a batch."""
    torch.manual_seed(seed)
    target = torch.randint(0, 3, (rows,))
    if name in NUMBERS:
        net, inputs = NUMBERS[name](), torch.randn(rows, 5, dtype=torch.float64)
    elif name in WORDS:
        net, inputs = WORDS[name](), torch.randint(1, 11, (rows, 7))
        inputs[1, 4:] = 0
    elif name in PICTURES:
        net, inputs = PICTURES[name](), torch.randn(rows, 2, 9, 8, dtype=torch.float64)
    else:
        net, inputs = of_time(), torch.randn(rows, 64, dtype=torch.float64)
    net = net.double()
    with torch.no_grad():
        net.eval()(inputs)  # builds what is built at the first call
    return net, (inputs, target)


def oracle(net, loss, batch, rows):
    """Return sums and squared norms from a plain loop over examples."""
    names = {n: p for n, p in net.named_parameters() if p.requires_grad}
    inputs, target = batch
    squares = {n: torch.zeros(rows, dtype=torch.float64) for n in names}
    sums = {n: torch.zeros_like(p) for n, p in names.items()}
    for i in range(rows):
        one = loss(net, (inputs[i : i + 1], target[i : i + 1])).sum()
        for n, g in zip(
            names, torch.autograd.grad(one, list(names.values()), allow_unused=True), strict=True
        ):
            if g is not None:
                sums[n] += g
                squares[n][i] = g.square().sum()
    return sums, squares
