"""Fixed decay slopes of linear attention heads, one set a layer."""

from jaxtyping import Float64
from torch import Tensor, arange, cat, float64

from salience.core.errors import ConfigError, nearest

TEMPERATURE_FLOOR = 1e-5  # the trained code adds it, so that the last layer still decays a little


def decay_slopes(
    num_heads: int, layer: int = 0, num_layers: int = 1, kind: str = "alibi"
) -> Float64[Tensor, "head"]:
    """Return the slope s > 0 of each head; a key loses the factor exp(−s) with each step of distance.

    Args:
        num_heads: heads of the layer, at least 1.
        layer: index of the layer, from 0.
        num_layers: layers of the model. With one layer the temperature is that of the first.
        kind: ``"alibi"``, as all released TransNormerLLM weights were trained; ``"geometric"``, as MiniMax
            (the same where the number of heads is a power of two); ``"paper"``, equation 10 of the paper.

    Paper and code disagree: equation 10 gives exp(−8h/H · (1 − l/L)), which is linear in h and forgets within a
    few tokens; trained weights need 2^(−8h/H) · (1 − l/(L−1) + 1e-5). We follow the code unless asked.

    Raises:
        ConfigError: an unknown kind, no head, or a layer that the model does not have.
    """
    if kind not in KINDS:
        raise ConfigError(f"Unknown slopes {kind!r}", "", nearest(kind, KINDS), code="SAL-C002")
    if num_heads < 1 or not 0 <= layer < num_layers:
        raise ConfigError(
            "Decay slopes need a head and a layer of the model",
            f"num_heads={num_heads}, layer={layer}, num_layers={num_layers}.",
            "Layers are counted from 0.",
            code="SAL-C005",
        )
    base, temperature = KINDS[kind]
    return base(num_heads) * temperature(layer, num_layers)


def _geometric(num_heads: int) -> Float64[Tensor, "head"]:
    return 2.0 ** (-8.0 / num_heads * arange(1, num_heads + 1, dtype=float64, device="cpu"))


def _alibi(num_heads: int) -> Float64[Tensor, "head"]:
    """Take the slopes of the largest power of two, then every second one of twice as many heads."""
    power = 1 << (num_heads.bit_length() - 1)
    return cat([_geometric(power), _geometric(2 * power)[::2][: num_heads - power]])


def _linear(num_heads: int) -> Float64[Tensor, "head"]:
    return 8.0 / num_heads * arange(1, num_heads + 1, dtype=float64, device="cpu")


def _trained_temperature(layer: int, num_layers: int) -> float:
    return 1 - layer / max(num_layers - 1, 1) + TEMPERATURE_FLOOR


def _minimax_temperature(layer: int, num_layers: int) -> float:
    return 1 - layer / (num_layers - 1 + TEMPERATURE_FLOOR) + TEMPERATURE_FLOOR


def _paper_temperature(layer: int, num_layers: int) -> float:
    return 1 - layer / num_layers


KINDS = {
    "alibi": (_alibi, _trained_temperature),
    "geometric": (_geometric, _minimax_temperature),
    "paper": (_linear, _paper_temperature),
}
