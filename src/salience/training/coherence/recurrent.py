"""Gradients of single examples of ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN``: linear maps at every step.

The steps are run again, so that the gradient of every gate is known; each weight is then a linear map of a sequence.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from salience.training.coherence.parts import Dense, Outer, wide
from salience.training.coherence.trace import Untraceable, Use

Parts = dict[int, Any]
Steps = list[Tensor]
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def recurrent(use: Use) -> Parts:
    """Return the gradients of a recurrent network's weights.

    Raises:
        Untraceable: packed sequences, projections, dropout between layers, a trained first state.
    """
    x, first, weights, biases, layers, dropout, train, both, batch_first = _plain(use)
    states = list(first) if isinstance(first, tuple | list) else [first]
    if (dropout and train) or any(map(use.is_weight, states)):
        raise Untraceable(f"{use.name} has dropout between its layers, or a trained first state")
    steps = x.transpose(0, 1) if batch_first else x
    a_cell = 4 if biases else 2
    run = Run(use.name, list(weights), a_cell)
    with torch.enable_grad():
        for layer in range(layers):
            found = [
                run.direction(steps, [s[n] for s in states], n, backwards=bool(n % 2 and both))
                for n in range(layer * (1 + both), (layer + 1) * (1 + both))
            ]
            steps = torch.cat(found, 2)
        outs = [steps.transpose(0, 1) if batch_first else steps, *(torch.stack(last) for last in run.last)]
        gates = run.gates
        pairs = [(o, g) for o, g in zip(outs, use.grads, strict=True) if g is not None]
        grads = torch.autograd.grad([o for o, _ in pairs], gates, [g for _, g in pairs])
    return run.parts(use, grads)


def _plain(use: Use) -> tuple[Any, ...]:
    if use.kwargs or len(use.args) != 9 or not isinstance(use.args[2], tuple | list) or use.args[0].ndim != 3:
        raise Untraceable(f"{use.name} is given packed sequences, or one without a batch")
    return use.args


class Run:
    """The steps of all layers and directions, written out.

    Args:
        kind: name of the operation.
        weights: all weights, cell by cell.
        a_cell: weights of a cell: four, or two without biases.
    """

    def __init__(self, kind: str, weights: Steps, a_cell: int) -> None:
        self.kind, self.weights, self.a_cell = kind, weights, a_cell
        self.gates: Steps = []
        self.inputs: list[tuple[Tensor, int]] = []  # what entered a map, and how many gates it gave
        self.last: list[Steps] = [[], []] if kind == "lstm" else [[]]

    def direction(self, steps: Tensor, state: Steps, number: int, backwards: bool) -> Tensor:
        """Run one layer in one direction; return its outputs in the order of time."""
        cell = self.weights[number * self.a_cell : (number + 1) * self.a_cell]
        if (
            len(cell) < self.a_cell
            or len(self.weights) % self.a_cell
            or cell[1].shape[1] != state[0].shape[-1]
        ):
            raise Untraceable(f"{self.kind} has a projection")
        biases: list[Tensor | None] = [*cell[2:]] or [None, None]
        from_input = _leaf(F.linear(steps, cell[0], biases[0]))
        state, outputs, hidden, inner = list(state), [], [], []
        order = range(len(steps) - 1, -1, -1) if backwards else range(len(steps))
        for t in order:
            hidden.append(state[0])
            inner.append(_leaf(F.linear(state[0], cell[1], biases[1])))
            state = STEPS[self.kind](from_input[t], inner[-1], state)
            outputs.append(state[0])
        self.gates += [from_input, *inner]
        self.inputs += [(steps.detach(), 1), (torch.stack(hidden).detach(), len(inner))]
        for into, value in zip(self.last, state, strict=True):
            into.append(value)
        return torch.stack(outputs[::-1] if backwards else outputs)

    def parts(self, use: Use, grads: tuple[Tensor, ...]) -> Parts:
        """Return one part a weight, from the gradients of the gates."""
        found: Parts = {}
        remaining = list(grads)
        for position, (entered, pieces) in enumerate(self.inputs):
            own, remaining = remaining[:pieces], remaining[pieces:]
            g = wide(own[0] if position % 2 == 0 else torch.stack(own)).transpose(0, 1)
            first = position // 2 * self.a_cell + position % 2
            weight = self.weights[first]
            if use.is_weight(weight):
                a = wide(entered).transpose(0, 1)
                found[id(weight)] = Outer(a[:, None], g[:, None], tuple(weight.shape))
            if self.a_cell == 4 and use.is_weight(self.weights[first + 2]):
                found[id(self.weights[first + 2])] = Dense(g.sum(1))
        return found


def _leaf(gates: Tensor) -> Tensor:
    return gates if gates.requires_grad else gates.requires_grad_()


def _lstm(x: Tensor, h: Tensor, state: Steps) -> Steps:
    i, f, g, o = (x + h).chunk(4, -1)
    inner = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return [o.sigmoid() * inner.tanh(), inner]


def _gru(x: Tensor, h: Tensor, state: Steps) -> Steps:
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, -1), h.chunk(3, -1)
    keep, new = (xz + hz).sigmoid(), (xn + (xr + hr).sigmoid() * hn).tanh()
    return [new + keep * (state[0] - new)]


def _plain_step(function: Any) -> Any:
    return lambda x, h, state: [function(x + h)]


STEPS = {"lstm": _lstm, "gru": _gru, "rnn_tanh": _plain_step(torch.tanh), "rnn_relu": _plain_step(torch.relu)}
