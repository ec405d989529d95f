"""What the training loop needs of a language model: blocks of tokens in, the loss of the next token out."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from salience.core.io import dumps
from salience.data.corpora.blocks import IGNORED, Blocks


class NextToken:
    """Be the head of a language model: the mean loss of the tokens that follow.

    Args:
        model: the language model; its ``loss`` is used.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def loss(
        self, output: Float[Tensor, "batch token vocab"], target: Int[Tensor, "batch token"]
    ) -> Float[Tensor, ""]:
        """Return the mean loss in nats a token."""
        return self.model.loss(output, target.reshape(output.shape[:-1]), ignore_index=IGNORED)

    def weight(self, target: Int[Tensor, "batch token"]) -> float:
        """Return the number of predicted tokens, so that a batch worked through in parts gives the same gradient."""
        return float((target != IGNORED).sum())


class LanguageTask(nn.Module):
    """Join a language model with its blocks, as :class:`salience.training.loop.Trainer` asks.

    Args:
        model: the language model.
        end_id: the end-of-document token.
        pack: ``"blocks"``: attention sees all earlier tokens of the block, also those of earlier documents;
            ``"documents"``: only those of its own document.
    """

    def __init__(self, model: nn.Module, end_id: int, pack: str = "blocks") -> None:
        super().__init__()
        self.model, self.end_id, self.pack = model, end_id, pack

    @property
    def digest(self) -> str:
        """Return what the weights depend on beside their shapes: the settings of the model, and how blocks are read."""
        settings = self.model.config.to_json()
        return dumps([type(self.model).__name__, settings, self.end_id, self.pack], indent=None)

    @property
    def head(self) -> NextToken:
        """Return the loss."""
        return NextToken(self.model)

    def collate(self, examples: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Join blocks to one batch, on the model's device: a row a block, or all in one row with the boundaries."""
        device = next(self.parameters()).device
        ids = np.stack(examples)
        if self.pack == "blocks":
            return {"ids": torch.from_numpy(ids).to(device)}
        bounds = torch.from_numpy(document_bounds(ids, self.end_id))
        return {"ids": torch.from_numpy(ids.reshape(1, -1)).to(device), "cu_seqlens": bounds.to(device)}

    def forward(self, batch: dict[str, Tensor]) -> Float[Tensor, "batch token vocab"]:
        """Return the logits of the next tokens."""
        inputs: dict[str, Any] = dict(batch)
        return self.model(inputs.pop("ids"), **inputs)


def document_bounds(ids: Int[np.ndarray, "row token"], end_id: int) -> Int[np.ndarray, " bound"]:
    """Return where sequences start in blocks laid end to end, and the length: at each block and each end token."""
    starts = ids == end_id
    starts[:, 0] = True
    return np.append(np.flatnonzero(starts.reshape(-1)), ids.size)


class HeldOut:
    """Score a language task on held-out blocks, each from its own start, while it trains.

    Args:
        blocks: the held-out text.
        byte_lengths: bytes of each token.
        rows: blocks scored at once.
    """

    def __init__(self, blocks: Blocks, byte_lengths: np.ndarray, rows: int) -> None:
        self.blocks, self.byte_lengths, self.rows = blocks, byte_lengths, rows

    @torch.no_grad()
    def __call__(self, task: LanguageTask) -> dict[str, float]:
        """Return perplexity and bits a byte."""
        nats = tokens = size = 0.0
        for start in range(0, len(self.blocks), self.rows):
            rows = np.arange(start, min(start + self.rows, len(self.blocks)))
            target = self.blocks.targets[rows]
            logits = task(task.collate([self.blocks[row] for row in rows]))
            known = target[target != IGNORED]
            loss = task.head.loss(logits, torch.from_numpy(target).to(logits.device))
            nats, tokens = nats + float(loss) * len(known), tokens + len(known)
            size += self.byte_lengths[known].sum()
        return {
            "perplexity": math.exp(nats / tokens),
            "bits_per_byte": nats / math.log(2) / max(float(size), 1.0),
        }
