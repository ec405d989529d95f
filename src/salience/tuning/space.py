"""Search spaces: which options are fixed, which are searched, and from where to where."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from salience.core.config import build, merge, read_yaml
from salience.core.errors import ConfigError, nearest

PUBLISHED = Path(__file__).with_name("spaces.yaml")
KINDS = ("float", "int", "layers", "choice")
ON, COUNT, FIRST, MIDDLE, LAST = " > 0", " count", " first", " middle", " last"


@dataclass(frozen=True)
class Choice:
    """Say from which values an option is drawn.

    Attributes:
        kind: ``"float"``, ``"int"``, ``"layers"`` (a list of widths) or ``"choice"``.
        low, high: the ends, both included; of ``"layers"`` the smallest and largest width.
        log: whether the logarithm is uniform, in place of the value.
        step: distance of integers and widths.
        zero: whether 0 is drawn half of the time, in place of a value between the ends.
        count: of ``"layers"``: fewest and most of them. First, last and all others have a width of their own.
        values: of ``"choice"``: the values.
    """

    kind: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    step: int = 1
    zero: bool = False
    count: tuple = (1, 1)
    values: tuple = ()

    def draw(self, key: str, trial: Any) -> Any:
        """Return a value for an option, by a trial's ``suggest_float``, ``suggest_int``, ``suggest_categorical``."""
        if self.zero and not trial.suggest_categorical(key + ON, [False, True]):
            return 0 if self.kind == "int" else 0.0
        return getattr(self, f"_{self.kind}")(key, trial)

    def _float(self, key: str, trial: Any) -> float:
        return trial.suggest_float(key, self.low, self.high, log=self.log)

    def _int(self, key: str, trial: Any) -> int:
        return trial.suggest_int(key, int(self.low), int(self.high), log=self.log, step=self.step)

    def _choice(self, key: str, trial: Any) -> Any:
        return trial.suggest_categorical(key, list(self.values))

    def _layers(self, key: str, trial: Any) -> list[int]:
        layers = trial.suggest_int(key + COUNT, *self.count)
        first = [self._int(key + FIRST, trial)]
        middle = [self._int(key + MIDDLE, trial)] * (layers - 2) if layers > 2 else []
        last = [self._int(key + LAST, trial)] if layers > 1 else []
        return first + middle + last


@dataclass(frozen=True)
class Space:
    """Hold the options of a search.

    Attributes:
        name: name in the file, or of the file.
        title: what is searched, for people.
        source: where the numbers were published.
        trials: number of trials that was published.
        fixed: option → value, the same in every trial.
        search: option → values it is drawn from.
        same: option → the option whose value it has too.
        batch_sizes: most training rows → rows of a step, rising; empty where ``training.batch_size`` is left alone.
    """

    name: str
    title: str = ""
    source: str = ""
    trials: int = 100
    fixed: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Choice] = field(default_factory=dict)
    same: Mapping[str, str] = field(default_factory=dict)
    batch_sizes: Mapping[float, int] = field(default_factory=dict)

    def without(self, keys: set[str]) -> "Space":
        """Return the space without these options: somebody has set them, or there is no column that they concern."""

        def left(options: Mapping[str, Any]) -> dict[str, Any]:
            return {
                k: v for k, v in options.items() if not any(k == g or k.startswith(f"{g}.") for g in keys)
            }

        sizes = {} if "training.batch_size" in keys else self.batch_sizes
        return replace(
            self, fixed=left(self.fixed), search=left(self.search), same=left(self.same), batch_sizes=sizes
        )

    def assignments(self, rows: int) -> list[str]:
        """Return the fixed options as ``"key=value"``, for a table with this many training rows."""
        size = next((size for most, size in sorted(self.batch_sizes.items()) if rows <= most), None)
        options = {**self.fixed, **({"training.batch_size": size} if size else {})}
        return [f"{key}={_flow(value)}" for key, value in options.items()]

    def draw(self, trial: Any) -> dict[str, Any]:
        """Return option → value, drawn by a trial of Optuna's kind."""
        drawn = {key: choice.draw(key, trial) for key, choice in self.search.items()}
        return drawn | {key: drawn[other] for key, other in self.same.items() if other in drawn}


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``{"training.epochs": 3}`` into ``{"training": {"epochs": 3}}``."""
    layers = []
    for key, value in options.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        layers.append(value)
    return merge(*layers)


def keys_of(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of nested options."""
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from keys_of(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _flow(value: Any) -> str:
    """Return a value as YAML on one line; inside a list, since a plain value alone gets an end mark."""
    return yaml.safe_dump([value], default_flow_style=True, width=1 << 30).strip()[1:-1]


def published() -> dict[str, Space]:
    """Return the spaces that come with the package, by name."""
    file = read_yaml(PUBLISHED)
    shared = file.pop("shared")
    return {name: parse(name, merge(shared, values)) for name, values in file.items()}


def space_of(given: "str | Path | Mapping[str, Any] | Space") -> Space:
    """Return a space from its name, a YAML file, or a mapping of the same form.

    Raises:
        ConfigError: there is no such space, or it is not a whole one.
    """
    if isinstance(given, Space):
        return given
    if isinstance(given, Mapping):
        return parse("own", given)
    known = published()
    if str(given) in known:
        return known[str(given)]
    if Path(given).suffix in (".yaml", ".yml"):
        return parse(Path(given).stem, read_yaml(given))
    raise ConfigError(f"Unknown search space {str(given)!r}", "", nearest(str(given), known), code="SAL-C004")


def parse(name: str, values: Mapping[str, Any]) -> Space:
    """Read a space.

    Raises:
        ConfigError: an unknown field, no option to search, or ends that are no range.
    """
    values = dict(values)
    search = {key: _choice(key, found) for key, found in (values.pop("search", None) or {}).items()}
    if not search:
        raise ConfigError(
            f"The search space {name!r} searches nothing",
            "",
            "Give it `search:` with an option.",
            code="SAL-C006",
        )
    sizes = {float(most): int(size) for most, size in (values.pop("batch_sizes", None) or {}).items()}
    return replace(build(Space, {"name": name, **values}), search=search, batch_sizes=sizes)


def _choice(key: str, values: Any) -> Choice:
    fields = values if isinstance(values, Mapping) else {"kind": None}
    if fields.get("kind") not in KINDS:
        raise ConfigError(
            f"The option {key!r} of a search space has no kind",
            repr(values),
            f"Write for example {{kind: float, low: 1e-4, high: 1e-2, log: true}}; kinds: {', '.join(KINDS)}.",
            code="SAL-C006",
        )
    choice = build(Choice, dict(fields), f"{key}.")
    if choice.kind == "choice":
        right = bool(choice.values)
    else:
        right = choice.low <= choice.high and not (choice.log and choice.low <= 0)
    if choice.kind == "layers":
        right = right and len(choice.count) == 2 and 1 <= choice.count[0] <= choice.count[1]
    if not right:
        raise ConfigError(
            f"The values of {key!r} are no range", repr(dict(fields)), "low must be at most high, and above 0 with log.", code="SAL-C006"
        )  # fmt: skip
    return choice
