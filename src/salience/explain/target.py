"""What is explained: one class, one class against another, a label, a predicted number, or how likely a text is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from salience.core.errors import ConfigError, UnsupportedError, nearest


@dataclass(frozen=True)
class Target:
    """Name one number that a model computes for a row.

    Attributes:
        index: position of the class, label or target among the outputs; 0 for regression.
        name: what a person reads: the class, ``"a rather than b"``, or the target column.
        quantity: ``"log-odds"`` (of a class against the others, or of a label), ``"value"`` (in units of the target)
            or ``"log-probability"`` (of a text, in nats; the outputs hold one for each text that is asked about).
        against: position of the class, label or text to contrast with; None against all others.
        independent: the outputs are labels that do not exclude each other, so that each output is the log-odds of
            its label.
    """

    index: int
    name: str
    quantity: str
    against: int | None = None
    independent: bool = False


NO, YES = "no", "yes"  # what a label is predicted to be
Spec = str | int | tuple[str | int, str | int] | Callable[[np.ndarray], list[Target]]


def resolve(schema: Any, spec: Spec, outputs: Float[np.ndarray, "row output"]) -> list[Target]:
    """Return the target of each row.

    Args:
        schema: schema of the model.
        spec: ``"predicted"``; a class, by name or position; a pair of classes ``(a, b)``, which asks why ``a``
            rather than ``b``. A number is first looked up as the name of a class, since labels are often numbers.
            Of several targets one by its column; ``"predicted"`` is the most probable label of each row, or the
            first of several numbers. A function from the outputs to one target a row is for models that name their
            own.
        outputs: outputs of the rows, for the predicted class.

    Raises:
        ConfigError: there is no such class or target; the nearest is suggested.
        UnsupportedError: a class was asked of a regression, or a contrast of numbers.
    """
    if callable(spec):
        return spec(outputs)
    if schema.task == "multi-regression" or (schema.task != "multi-label" and schema.classes is None):
        return [_number(spec, schema.outputs)] * len(outputs)
    names, independent = schema.outputs, schema.task == "multi-label"
    if isinstance(spec, tuple):
        return [_contrast(spec, names, independent)] * len(outputs)
    every = [Target(i, name, "log-odds", independent=independent) for i, name in enumerate(names)]
    if spec == "predicted" and spec not in names:
        return [every[i] for i in outputs.argmax(axis=1)]
    return [every[_index(spec, names)]] * len(outputs)


def _number(spec: Spec, names: list[str]) -> Target:
    if isinstance(spec, tuple) or (len(names) == 1 and spec not in ("predicted", "value", *names)):
        raise UnsupportedError(
            "A regression has no classes to explain", f"target={spec!r}", 'Use target="predicted".'
        )
    index = 0 if spec in ("predicted", "value") and spec not in names else _index(spec, names)
    return Target(index, names[index], "value")


def _contrast(spec: tuple[Any, ...], names: list[str], independent: bool) -> Target:
    if len(spec) != 2 or _index(spec[0], names) == _index(spec[1], names):
        raise ConfigError("A contrast needs two different classes", f"target={spec!r}", "Give (a, b).")
    index, against = (_index(part, names) for part in spec)
    return Target(index, f"{names[index]} rather than {names[against]}", "log-odds", against, independent)


def _index(spec: str | int, classes: list[str]) -> int:
    if str(spec) in classes:
        return classes.index(str(spec))
    if isinstance(spec, int) and not isinstance(spec, bool) and 0 <= spec < len(classes):
        return spec
    raise ConfigError(f"Unknown target {spec!r}", "", nearest(str(spec), classes), code="SAL-C004")


def score(outputs: Any, targets: Sequence[Target]) -> Any:
    """Return the number that each row's target names.

    Log-odds of class ``c`` are ``z_c − logsumexp(z of the others)``; against class ``b``, ``z_c − z_b``. Those of a
    label are its logit ``z_c``; ``z_c − z_b`` are then the log-odds that it is ``c`` where just one of both is true.
    The log-probability of one text against another is their difference, the logarithm of how many times likelier it is.

    Args:
        outputs: array or tensor (row, output), as a model returns them.
        targets: one a row, all of one quantity; log-probabilities all with or all without ``against``.

    Returns:
        One number a row, of the same type as ``outputs``; gradients pass through.
    """
    rows, index = np.arange(len(targets)), np.array([t.index for t in targets], dtype=int)
    chosen = outputs[rows, index]
    against = [target.against for target in targets]
    if targets and None not in against:
        return chosen - outputs[rows, against]
    if not targets or targets[0].quantity != "log-odds" or targets[0].independent:
        return chosen
    others = np.ones(tuple(outputs.shape), dtype=bool)
    for row, target in enumerate(targets):
        if target.against is None:
            others[row, target.index] = False
        else:
            others[row] = np.arange(outputs.shape[1]) == target.against
    return chosen - _logsumexp(outputs, others)


def _logsumexp(outputs: Any, keep: np.ndarray) -> Any:
    if isinstance(outputs, np.ndarray):
        from scipy.special import logsumexp

        return logsumexp(np.where(keep, outputs, -np.inf), axis=1)
    import torch

    hidden = torch.from_numpy(~keep).to(outputs.device)
    return outputs.masked_fill(hidden, -torch.inf).logsumexp(dim=1)
