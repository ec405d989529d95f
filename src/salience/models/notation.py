"""The paper's names of embeddings of numbers, such as ``"T-LR"``, as a registered encoder and its arguments.

``L`` is a linear layer of each column, ``R`` a ReLU after it, ``P`` the periodic, ``Q`` and ``T`` the piecewise linear
encoding with quantile and tree bins, ``PLE`` its version B; ``-lite`` shares the layer after ``P`` among the columns.
"""

import re
from typing import Any

from salience.core.errors import ConfigError

NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("plain_numbers", {}),
    "PLE": ("piecewise_linear", {}),
    "PLE-Q": ("piecewise_linear", {}),
    "PLE-T": ("piecewise_linear", {"bins": "tree"}),
    "PLR-lite": ("periodic", {"lite": True}),
}
BINS = {"Q": "quantile", "T": "tree"}
LAYERS = "(?P<layers>(?:LR?)*)"
LINEAR = re.compile("(?:LR?)+")
PERIODIC = re.compile(f"P{LAYERS}")
PIECEWISE = re.compile(f"(?P<bins>[QT])(?:-(?=L))?{LAYERS}")
NOTATIONS = (
    "L", "LR", "LRLR", "Q", "Q-L", "Q-LR", "Q-LRLR", "T", "T-L", "T-LR", "T-LRLR", "P", "PL", "PLR", "PLRLR", *NAMED,
)  # fmt: skip


def embedding_named(notation: str) -> tuple[str, dict[str, Any]]:
    """Return the key of an encoder and the arguments that a notation means.

    Args:
        notation: one of :data:`NOTATIONS`; more pairs ``LR`` may follow.

    Raises:
        ConfigError: it is none; the message lists them (SAL-C002).

    Example:
        >>> embedding_named("T-LR")
        ('piecewise_linear', {'bins': 'tree', 'version': 'A', 'layers': 'LR'})
    """
    if notation in NAMED:
        key, args = NAMED[notation]
        return key, dict(args)
    if LINEAR.fullmatch(notation):
        return "linear_numbers", {"layers": notation}
    if found := PERIODIC.fullmatch(notation):
        return "periodic", {"layers": found["layers"]}
    if found := PIECEWISE.fullmatch(notation):
        return "piecewise_linear", {"bins": BINS[found["bins"]], "version": "A", "layers": found["layers"]}
    raise ConfigError(
        f"Unknown embedding of numbers {notation!r}",
        "",
        f"Give an encoder (salience list encoders) or a notation: {', '.join(NOTATIONS)}.",
        code="SAL-C002",
    )
