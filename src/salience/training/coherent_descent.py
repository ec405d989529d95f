"""Descent that follows what examples have in common: robust averages of gradients, for any optimiser.

A mean gradient is moved by directions in which few examples are strong. A median, or a mean of clipped values, is
not, so that single examples are memorised less. Three ways of Chatterjee and Zielinski: RM3 (median of this step's and
the two previous steps' gradients), M3 (median of three parts of the batch) and winsorised descent (examples' gradients
clipped to percentiles); with medians of means and trimmed means over any number of parts.

An optimiser with momentum averages over steps what was made robust within a step: it is allowed, and the effect is
weaker than with plain SGD, in which the papers measured it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from salience.core.errors import ConfigError, UnsupportedError, nearest
from salience.training.per_example import Losses, per_example_gradients

MODES = ("rm3", "m3", "median_of_means", "trimmed_mean", "winsorised")
PREVIOUS, BEFORE = "descent_previous", "descent_before"
BLOCK = 1 << 22  # numbers sorted at once
CODE = "SAL-T002"


def median3(a: Sequence[Tensor], b: Sequence[Tensor], c: Sequence[Tensor]) -> list[Tensor]:
    """Return the elementwise median of three lists of tensors of equal shapes, without sorting.

    max(min(a, b), min(max(a, b), c)); NaN where one of the three is NaN.
    """
    low, high = torch._foreach_minimum(a, b), torch._foreach_maximum(a, b)
    torch._foreach_minimum_(high, c)
    torch._foreach_maximum_(low, high)
    return list(low)


def trimmed_mean(stack: Float[Tensor, "group *shape"], trim: int) -> Float[Tensor, "*shape"]:
    """Return the mean over groups without the ``trim`` lowest and highest values of each coordinate."""
    if trim == 0:
        return stack.mean(0)
    return _in_blocks(stack, lambda part: part.sort(0).values[trim : len(part) - trim].mean(0))


def winsorised_mean(stack: Float[Tensor, "group *shape"], percentile: float) -> Float[Tensor, "*shape"]:
    """Return the mean over groups, each coordinate clipped to its percentiles.

    Args:
        stack: one gradient a group.
        percentile: values below this percentile, or above 100 minus it, are set to it; linear between order statistics.
    """
    if percentile == 0:
        return stack.mean(0)

    def clipped(part: Float[Tensor, "group coordinate"]) -> Float[Tensor, " coordinate"]:
        ordered = part.sort(0).values
        place = percentile / 100 * (len(part) - 1)
        at, share = int(place), place - int(place)
        after = min(at + 1, len(part) - 1)
        low = torch.lerp(ordered[at], ordered[after], share)
        high = torch.lerp(ordered[-1 - at], ordered[-1 - after], share)
        return part.clamp(low, high).mean(0)

    return _in_blocks(stack, clipped)


def _in_blocks(stack: Tensor, combine: Callable[[Tensor], Tensor]) -> Tensor:
    """Combine over groups some coordinates at a time, so that sorting needs little memory."""
    flat = stack.flatten(1)
    width = max(1, BLOCK // len(flat))
    return torch.cat([combine(part) for part in flat.split(width, dim=1)]).view(stack.shape[1:])


class CoherentStep(Optimizer):
    """Give an optimiser a robust average in place of the mean gradient.

    With ``"rm3"`` nothing else changes: ``loss.backward()``, ``step()``, ``zero_grad()``. The other modes average over
    *groups*, parts of a batch: call :meth:`collect` after the backward pass of each part (micro-batches of gradient
    accumulation are such parts), or :meth:`collect_examples` for one group an example, and then ``step()``.

    With a ``GradScaler``: call ``scaler.unscale_(stepper)`` before ``step`` with ``"rm3"``, whose gradients of several
    steps must be on one scale; with groups call :meth:`combine`, then ``scaler.unscale_(stepper)``. Then
    ``scaler.step(stepper)``: a step that the scaler leaves out leaves no trace here either.

    Args:
        optimizer: what makes the step, as ``torch.optim.SGD`` or ``AdamW``. Its groups of parameters are shared, so
            that schedules of the learning rate work on either.
        mode: ``"rm3"``, ``"m3"`` and ``"median_of_means"`` (median over groups; ``"m3"`` asks for three),
            ``"trimmed_mean"`` or ``"winsorised"``.
        trim: groups left out at either end by ``"trimmed_mean"``.
        percentile: where ``"winsorised"`` clips, in [0, 50); 0 is the mean.

    Raises:
        ConfigError: an unknown mode, or an option out of range (SAL-T002).

    Source: Zielinski, Krishnan, Chatterjee, Weak and Strong Gradient Directions, 2020 (M3, RM3); Chatterjee, Coherent
    Gradients, ICLR 2020 (winsorised).
    """

    def __init__(
        self, optimizer: Optimizer, mode: str = "rm3", *, trim: int = 1, percentile: float = 4.0
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"Unknown descent {mode!r}", "", nearest(mode, MODES), code=CODE)
        if not 0 <= percentile < 50:
            raise ConfigError(
                "percentile is out of range", f"Got {percentile}, want 0 to below 50.", code=CODE
            )
        if trim < 0:
            raise ConfigError("trim is out of range", f"Got {trim}, want 0 or more.", code=CODE)
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self.base, self.mode, self.trim, self.percentile = optimizer, mode, trim, percentile
        self.param_groups = optimizer.param_groups
        self._forget()

    @property
    def grouped(self) -> bool:
        """Whether the mode averages over groups, and not over steps."""
        return self.mode != "rm3"

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters, in the order of the optimiser's groups."""
        return [p for group in self.param_groups for p in group["params"]]

    def _forget(self) -> None:
        self._groups: dict[nn.Parameter, list[Tensor]] = {}
        self._rows: list[int] = []
        self._current: dict[nn.Parameter, Tensor] | None = None

    # groups of a batch

    def collect(self, rows: int = 1) -> None:
        """Take the gradients in ``.grad`` as one group's part of the batch's mean, and leave none there.

        Args:
            rows: rows of the group, where groups differ in size; parts of a mean, as ``(loss / parts).backward()``
                makes them, are put on one scale by it.
        """
        for parameter in self.parameters:
            if parameter.grad is not None:
                self._take(parameter, parameter.grad[None])
                parameter.grad = None
        self._rows.append(rows)

    def collect_examples(
        self,
        module: nn.Module,
        losses: Losses,
        batch: Any,
        *,
        chunk: int = 32,
        gradients: Callable[[nn.Module, Any], Mapping[str, Tensor]] | None = None,
    ) -> None:
        """Take every example's gradient as a group: no backward pass of a loss is needed beside it.

        Args:
            module: what is trained; its parameters are the optimiser's.
            losses: ``losses(module, batch)`` is one loss an example.
            batch: whatever ``losses`` takes: tensors in tuples, lists or dictionaries, an example a line.
            chunk: examples worked on at once. Memory for examples × parameters numbers is needed in any case.
            gradients: ``gradients(module, batch)`` gives each parameter's gradients by name, (example, …), for modules
                that ``torch.func`` cannot map over; none for ``torch.func``.
        """
        if gradients is None:
            found: Mapping[str, Tensor] = per_example_gradients(module, losses, batch, chunk=chunk)
        else:
            found = gradients(module, batch)
        rows = len(next(iter(found.values())))
        for name, parameter in module.named_parameters():
            if name in found:
                self._take(parameter, found[name] / rows)
        self._rows += [1] * rows

    def _take(self, parameter: nn.Parameter, groups: Float[Tensor, "group *shape"]) -> None:
        """Keep a parameter's gradients; groups in which it had none count as zero."""
        kept = self._groups.setdefault(parameter, [])
        missing = len(self._rows) - sum(len(part) for part in kept)
        if missing:
            kept.append(groups.new_zeros(missing, *groups.shape[1:]))
        kept.append(groups)

    def _stacked(self) -> Iterable[tuple[nn.Parameter, Float[Tensor, "group *shape"]]]:
        """Yield each parameter's group means; a group's part of the mean is divided by its share of the rows."""
        if not self._rows:
            raise UnsupportedError(
                f"Descent {self.mode!r} has no groups to average over",
                "step() was called without collect().",
                "Call collect() after the backward pass of each part of the batch.",
                code=CODE,
            )
        total = sum(self._rows)
        for parameter, parts in self._groups.items():
            self._take(parameter, parts[-1][:0])
            stack = torch.cat(parts)
            factors = torch.tensor(
                [total / rows for rows in self._rows], dtype=stack.dtype, device=stack.device
            )
            yield parameter, stack * factors.view(-1, *[1] * (stack.ndim - 1))

    def mean(self, scale: float = 1.0) -> None:
        """Put the plain mean gradient of the collected groups into ``.grad``, divided by ``scale``."""
        total = sum(self._rows)
        for parameter, stack in self._stacked():
            rows = torch.tensor(self._rows, dtype=stack.dtype, device=stack.device)
            parameter.grad = torch.tensordot(rows / (total * scale), stack, dims=1)

    # the step

    @torch.no_grad()
    def combine(self) -> None:
        """Put the robust average into ``.grad``; ``step`` does it where it was not done.

        Where one group's gradient is infinite or NaN the average is NaN, so that a loss scaler sees it.
        """
        if self._current is None:
            self._current = {}
            self._combine_groups() if self.grouped else self._combine_steps()

    def _combine_groups(self) -> None:
        for parameter, stack in self._stacked():
            parameter.grad = self._average(stack) + 0 * stack.sum(0)
        self._groups, self._rows = {}, []

    def _average(self, stack: Float[Tensor, "group *shape"]) -> Float[Tensor, "*shape"]:
        if self.mode == "winsorised":
            return winsorised_mean(stack, self.percentile)
        if self.mode == "trimmed_mean":
            return trimmed_mean(stack, min(self.trim, (len(stack) - 1) // 2))
        if len(stack) == 3:
            return median3(*([group] for group in stack))[0]
        return trimmed_mean(stack, (len(stack) - 1) // 2)

    def _combine_steps(self) -> None:
        """Replace gradients by their median with the two steps before, where there are two."""
        found = [p for p in self.parameters if p.grad is not None]
        ready = [p for p in found if BEFORE in self.state.get(p, ())]
        median = set(ready)
        # without a median .grad stays this gradient, and clipping would change what is kept of it
        self._current = {p: p.grad if p in median else p.grad.clone() for p in found}
        if ready:
            past = ([self.state[p][name] for p in ready] for name in (PREVIOUS, BEFORE))
            for parameter, value in zip(ready, median3([p.grad for p in ready], *past), strict=True):
                parameter.grad = value

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Combine gradients and let the optimiser make its step.

        Args:
            closure: works out the loss and its gradients once, before the step.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.combine()
        for parameter, gradient in (self._current or {}).items():
            state = self.state[parameter]
            if PREVIOUS in state:
                state[BEFORE] = state[PREVIOUS]
            state[PREVIOUS] = gradient
        self.base.step()
        self._current = None
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Remove gradients and groups that were not used for a step."""
        self._forget()
        self.base.zero_grad(set_to_none)

    # state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, here and to the optimiser."""
        if hasattr(self, "base"):
            self.base.add_param_group(param_group)
        else:
            super().add_param_group(param_group)  # while this object is made, from groups that exist

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        """Return the optimiser's state; RM3's two gradients are entries beside its own, by parameter."""
        packed, own = self.base.state_dict(), super().state_dict()["state"]
        state = {
            key: {**packed["state"].get(key, {}), **own.get(key, {})} for key in {**packed["state"], **own}
        }
        return {**packed, "state": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # type: ignore[override]
        """Go on from :meth:`state_dict`, as it was between two steps."""
        mine, others = {}, {}
        for key, values in state_dict["state"].items():
            mine[key] = {name: v for name, v in values.items() if name in (PREVIOUS, BEFORE)}
            rest = {name: v for name, v in values.items() if name not in (PREVIOUS, BEFORE)}
            if rest:
                others[key] = rest
        super().load_state_dict({**state_dict, "state": mine})
        self.base.load_state_dict({**state_dict, "state": others})
        self.param_groups = self.base.param_groups
        self._forget()
