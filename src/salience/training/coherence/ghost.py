"""Ghost norms: the squared gradient norm of every example, exact, from one backward pass of the batch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from salience.training.coherence.attention import plain_projections
from salience.training.coherence.generic import any_operation
from salience.training.coherence.parts import Outer, Part, reduce_blocks
from salience.training.coherence.recurrent import RECURRENT, recurrent
from salience.training.coherence.rules import RULES, Parts
from salience.training.coherence.totals import Gradients
from salience.training.coherence.trace import Trace, Use, Weight

Reduced = tuple[Tensor, Tensor]


def ghost(
    module: nn.Module, losses_of: Callable[[], Tensor], names: dict[str, nn.Parameter], examples: int
) -> Gradients:
    """Return what one batch gives.

    Args:
        module: the model.
        losses_of: computes one loss an example.
        names: the parameters, by name.
        examples: number of examples.

    Raises:
        Untraceable: the gradients of examples cannot be told from one pass.
    """
    trace = Trace(names, module, examples)
    with plain_projections(module), trace.watching():
        losses = losses_of()
    if len(losses) != examples:
        return ghost(module, losses_of, names, len(losses))
    answers = Answers(examples)
    for use in trace.uses:
        use.done = answers.take
    if losses.requires_grad:
        trace.check_reached(losses)
        torch.autograd.grad(losses.sum(), trace.leaves, allow_unused=True)
    with torch.no_grad():
        for use in trace.uses:
            if any(g is not None for g in use.grads):  # an output was not read
                answers.take(use)
        found = {name: answers.of(weight) for name, weight in trace.parameters.items()}
    squares = {name: s.double() for name, (s, _) in found.items()}
    return Gradients({name: total for name, (_, total) in found.items()}, squares)


class Answers:
    """Collect what the uses of weights give, and put it together for each parameter.

    Args:
        examples: number of examples of the batch.
    """

    def __init__(self, examples: int) -> None:
        self.examples = examples
        self.parts: dict[int, list[Part]] = {}
        self.reduced: dict[int, Reduced] = {}

    def take(self, use: Use) -> None:
        """Work a use out whose output's gradient is known; what it held is let go."""
        for key, part in self._parts(use).items():
            weight = use.weights[key]
            if weight.alone:
                self.reduced[id(weight)] = part.reduced()
            else:
                self.parts.setdefault(id(weight), []).append(part)
        use.finish()

    def _parts(self, use: Use) -> Parts:
        if use.name in RECURRENT:
            return recurrent(use)
        rule = RULES.get(use.name)
        grad = use.grads[0] if len(use.grads) == 1 else None
        found = rule(use, grad, self.examples) if rule and grad is not None else None
        return any_operation(use, self.examples) if found is None else found

    def of(self, parameter: Weight) -> Reduced:
        """Return squared norms and the sum of a parameter's gradients."""
        users = [w for w in parameter.users if id(w) in self.reduced or id(w) in self.parts]
        if not users:
            return parameter.tensor.new_zeros(self.examples), torch.zeros_like(parameter.tensor)
        if len(users) == 1 and id(users[0]) in self.reduced:
            squares, total = self.reduced[id(users[0])]
            return squares, _through(users[0], parameter, total[None])[0]
        if users == [parameter]:
            joined = _joined(self.parts[id(parameter)])
            if joined is not None:
                return joined.reduced()
        return reduce_blocks(
            lambda start, stop: self._block(users, parameter, start, stop),
            self.examples,
            tuple(parameter.tensor.shape),
        )

    def _block(self, users: list[Weight], parameter: Weight, start: int, stop: int) -> Tensor:
        """Return the gradients of some examples, written out: those of all that is computed from the parameter."""
        found = []
        for user in users:
            parts = [part.block(start, stop) for part in self.parts[id(user)]]
            found.append(_through(user, parameter, sum(parts[1:], parts[0])))
        return sum(found[1:], found[0])


def _through(user: Weight, parameter: Weight, gradients: Tensor) -> Tensor:
    """Return gradients of a parameter from those of a weight that was computed from it, one a line."""
    if user is parameter:
        return gradients
    shaped = gradients.to(user.tensor.dtype).reshape(-1, *user.tensor.shape)
    with torch.enable_grad():
        (found,) = torch.autograd.grad(
            user.tensor, parameter.tensor, shaped, retain_graph=True, is_grads_batched=True
        )
    return found


def _joined(parts: list[Part]) -> Outer | None:
    """Return uses of one linear map as one use with more tokens; None where they are of another kind."""
    outer = [part for part in parts if isinstance(part, Outer)]
    if len(outer) < len(parts) or len({part.turned for part in outer}) > 1:
        return None
    joined = outer[0]
    for part in outer[1:]:
        joined = joined.beside(part)
    return joined
