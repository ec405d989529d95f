"""Image encoder: a small residual network with squeeze-and-excitation."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.errors import ConfigError
from salience.models.image_encoder import ImageEncoder
from salience.models.slots import Tokens
from salience.nn.attention.channel.squeeze_excitation import SqueezeExcitation

CARD = {
    "key": "se_resnet",
    "kind": "encoder",
    "title": "Small residual network with squeeze-and-excitation",
    "entry": "SEResNetEncoder",
    "summary": "Three stages of residual blocks, each block gated by channel; for images of 16 to 64 pixels.",
    "paper": "Deep Residual Learning (He et al., 2016); Squeeze-and-Excitation Networks (Hu, Shen, Sun, 2018)",
    "year": 2018,
    "url": "https://arxiv.org/abs/1709.01507",
    "deviates": "One-group normalisation in place of batch normalisation: any batch size, and channel means stay for the gates. Pooled by mean and maximum.",
    "kinds": ["image"],
    "cost": "O(pixels × width²) a row",
    "defaults": {"size": 32, "width": 16, "blocks": 2},
    "tiny": {"size": 8, "width": 8, "blocks": 1},
}


class Block(nn.Module):
    """Add a gated pair of 3×3 convolutions to the input.

    Normalisation has one group: with one a channel, every mean that the gate looks at would be the same.

    Args:
        channels_in: channels of the input.
        channels: channels of the output.
        stride: step of the first convolution.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False),
            nn.GroupNorm(1, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.GroupNorm(1, channels),
            SqueezeExcitation(channels),
        )
        same = stride == 1 and channels_in == channels
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch out h w"]:
        """Return the block's output."""
        return torch.relu(self.skip(x) + self.body(x))


class SEResNetEncoder(ImageEncoder):
    """Encode one image column by residual blocks; tokens are as in `ImageEncoder`.

    Args:
        columns: name of the image column (one).
        size: images are resized to ``size × size`` pixels; rounded down to a multiple of 4, at least 4.
        width: channels of the first stage; each of the three stages doubles it.
        blocks: residual blocks a stage.
        shift: largest random shift in training, as a share of the size.
        flip: whether training mirrors half of the images.

    Raises:
        ConfigError: ``size`` is below 4, or ``width`` or ``blocks`` below 1.
    """

    def __init__(
        self,
        columns: list[str],
        size: int = 32,
        width: int = 16,
        blocks: int = 2,
        shift: float = 0.1,
        flip: bool = False,
    ) -> None:
        super().__init__(columns, size, shift, flip)
        if width < 1 or blocks < 1:
            raise ConfigError(
                "The image encoder is too small",
                f"width={width}, blocks={blocks}.",
                "Use at least one channel and one block.",
            )
        self.width, self.blocks, self.dim = width, blocks, 8 * width

    def build_network(self) -> nn.Module:
        """Return three stages of residual blocks."""
        layers: list[nn.Module] = [
            nn.Conv2d(3, self.width, 3, 1, 1, bias=False),
            nn.GroupNorm(1, self.width),
            nn.ReLU(),
        ]
        channels = self.width
        for stage in range(3):
            for block in range(self.blocks):
                out = self.width * 2**stage
                layers.append(Block(channels, out, 2 if stage and not block else 1))
                channels = out
        return nn.Sequential(*layers)

    def encode(self, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        """Run the network and pool."""
        return self.encoded(tokens, self.network(self.image(tokens)))
