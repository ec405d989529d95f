"""Options: nested dataclasses, filled from YAML and ``key=value``, strict about unknown names."""

import re
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from salience.core.errors import ConfigError, nearest

C = TypeVar("C")
SCIENTIFIC = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")


def build(cls: type[C], values: dict[str, Any], where: str = "") -> C:
    """Build a dataclass from nested dictionaries.

    Raises:
        ConfigError: an unknown name (the nearest one is suggested) or a value of the wrong type.
    """
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    result = {}
    for name, value in values.items():
        path = f"{where}{name}"
        if name not in known:
            raise ConfigError(f"Unknown option {path!r}", "", nearest(name, known), code="SAL-C001")
        hint = hints[name]
        nested = is_dataclass(hint) and isinstance(value, dict)
        result[name] = build(hint, value, f"{path}.") if nested else _checked(hint, value, path)
    return cls(**result)


def _checked(hint: Any, value: Any, path: str) -> Any:
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for option in options:
        if option is NoneType and value is None:
            return None
        if option is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if option is float and isinstance(value, str) and SCIENTIFIC.fullmatch(value):
            return float(value)  # YAML reads 1e-3 as text; it wants 1.0e-3
        plain = get_origin(option) or option
        if plain in (tuple, list) and isinstance(value, list | tuple):
            return plain(value)
        if (
            isinstance(plain, type)
            and isinstance(value, plain)
            and not (plain is int and isinstance(value, bool))
        ):
            return value
    wanted = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise ConfigError(
        f"Option {path!r} has the wrong type", f"Got {value!r}, want {wanted}.", "", code="SAL-C003"
    )


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Turn ``["training.epochs=3"]`` into ``{"training": {"epochs": 3}}``; values are YAML."""
    result: dict[str, Any] = {}
    for text in assignments:
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            raise ConfigError(
                "An assignment needs the form key=value", repr(text), "For example training.epochs=3."
            )
        node = result
        *parents, last = key.strip().split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"Option {key!r} is set twice", repr(text), "Keep one of the assignments.")
        try:
            node[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"The value of {key!r} cannot be read", repr(value), "Quote it.") from None
    return result


def merge(*layers: dict[str, Any]) -> dict[str, Any]:
    """Merge nested dictionaries; later ones win."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merge(result[key], value) if both else value
    return result


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ConfigError: the file is absent, not YAML, or not a mapping.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("The configuration cannot be read", f"{path}: {error}", "Check the path.") from None
    except yaml.YAMLError as error:
        raise ConfigError(
            "The configuration is not YAML", f"{path}: {error}", "Check the indentation."
        ) from None
    if not isinstance(data or {}, dict):
        raise ConfigError(
            "The configuration is not a mapping", f"{path}", "Write lines of the form key: value."
        )
    return data or {}


def to_yaml(config: Any) -> str:
    """Return a configuration dataclass as YAML text."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)
