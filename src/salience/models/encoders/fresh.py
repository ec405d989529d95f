"""Text encoder: a first model says which words matter, the best stretch is cut out, a second model reads only that."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.errors import ConfigError, nearest
from salience.data.schema import Schema
from salience.models.rationale import RationaleEncoder
from salience.models.slots import Tokens, TrainFirst
from salience.models.table_model import ModelConfig, Part, TableModel
from salience.models.word_encoder import Example

CARD = {
    "key": "fresh",
    "kind": "encoder",
    "title": "FRESH: extract, then train",
    "entry": "FreshEncoder",
    "summary": "A support model is trained first and scores the words; the stretch with the highest score is cut out; an independent model is trained on the cuttings alone.",
    "paper": "Learning to Faithfully Rationalize by Construction (Jain, Wiegreffe, Pinter, Wallace, ACL 2020)",
    "year": 2020,
    "url": "https://arxiv.org/abs/2005.00115",
    "source": "paper",
    "faithful": "Three stages: support model, extraction of a fixed share as one stretch or as the top words, a classifier that shares nothing with the support model and sees the extracted words only.",
    "deviates": "LSTMs in place of BERT; attention scores are those of one pooling layer; gradient scores are the size of gradient × input of the predicted class's log-odds (the length of the gradient alone is small where the model is sure, and misses the words that made it so). At least one word is kept; a stretch may run from one text column into the next.",
    "kinds": ["text"],
    "cost": "two trainings; the second reads only the kept words",
    "defaults": {"dim": 100, "embedding_dim": 100, "rate": 0.2, "dropout": 0.2},
    "tiny": {"dim": 6, "embedding_dim": 5, "min_count": 1, "rate": 0.5},
}
SALIENCY, EXTRACTION = ("attention", "gradient"), ("contiguous", "top")
SUPPORT, TEXT = "bilstm_attention", "text"
GROUP = 64  # rows scored at once
Extract = tuple[np.ndarray, np.ndarray, np.ndarray]  # word index, column position, whether kept


class FreshEncoder(RationaleEncoder):
    """Encode text columns by the words that a support model, trained before, scores highest.

    The extraction is done in :meth:`prepare`, once a data set. Until :meth:`pretrain` has trained a support model the
    first words are kept.

    Args:
        columns: names of the text columns.
        dim: width of each direction of the LSTMs, of the support model too.
        rate: share of the words to keep, in (0, 1]; rounded to a number of words, at least one.
        saliency: ``"gradient"`` (the size of gradient × input) or ``"attention"`` of the support model.
        extraction: ``"contiguous"``, the stretch with the highest sum, or ``"top"``, the highest words anywhere.
        dropout: share of the words' features dropped in training.
        words: arguments of :class:`~salience.models.word_encoder.WordEncoder`, for both models.
    """

    support: TableModel | None

    def __init__(
        self,
        columns: list[str],
        dim: int = 100,
        rate: float = 0.2,
        saliency: str = "gradient",
        extraction: str = "contiguous",
        dropout: float = 0.2,
        **words: Any,
    ) -> None:
        super().__init__(columns, dim, rate, dropout, **words)
        for value, valid in ((saliency, SALIENCY), (extraction, EXTRACTION)):
            if value not in valid:
                raise ConfigError(f"FRESH does not know {value!r}", "", nearest(value, valid))
        self.saliency, self.extraction = saliency, extraction
        self.support_args = {"dim": dim, "dropout": dropout, **words}
        self.support = None

    # stages

    def pretrain(self, train: TrainFirst) -> None:
        """Train the support model, and keep it as it is from then on."""
        self._keep(train(SUPPORT, self.support_args))

    def _keep(self, support: nn.Module) -> None:
        self.support = support.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FreshEncoder":
        """Switch the reader's mode; the support model stays in evaluation mode."""
        super().train(mode)
        if self.support is not None:
            self.support.eval()
        return self

    def state(self) -> dict[str, Any]:
        """Return vocabulary and sizes, and what rebuilds the support model."""
        if self.support is None:
            return super().state()
        hidden = self.support.config.hidden
        support = {
            "schema": self.support.schema.to_json(),
            "hidden": hidden if hidden is None else list(hidden),
            "state": self.support.state(),
        }
        return {**super().state(), "support": support}

    def restore(self, state: dict[str, Any]) -> None:
        """Rebuild from :meth:`state`."""
        super().restore(state)
        if "support" not in state:
            return
        found = state["support"]
        hidden = found["hidden"] if found["hidden"] is None else tuple(found["hidden"])
        config = ModelConfig(text=Part(SUPPORT, self.support_args), hidden=hidden)
        support = TableModel(Schema.from_json(found["schema"]), config)
        support.restore(found["state"])
        self._keep(support)

    # extraction

    def prepare(self, frame: pd.DataFrame) -> list[Extract]:
        """Return word indices, column positions and which words are kept, row by row."""
        examples = super().prepare(frame)
        scores = self._scores(examples)
        kept = [extract(s, self.rate, self.extraction == "contiguous") for s in scores]
        return [(index, column, k) for (index, column), k in zip(examples, kept, strict=True)]

    def _scores(self, examples: list[Example]) -> list[np.ndarray]:
        """Return the support model's score of each word; zeros if there is none yet."""
        lengths = np.array([self.length(e) for e in examples], dtype=int)
        result = [np.zeros(n, dtype=np.float32) for n in lengths]
        if self.support is None:
            return result
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), GROUP):
            rows = order[start : start + GROUP]
            scores = self._score([examples[i] for i in rows]).float().cpu().numpy()
            for i, found in zip(rows, scores, strict=True):
                result[i] = found[: lengths[i]]
        return result

    def _score(self, examples: list[Example]) -> Float[Tensor, "batch token"]:
        # both vocabularies are those of the same training rows, so the word indices are the same
        support: Any = self.support
        batch = support.collate([{TEXT: example} for example in examples])
        if self.saliency == "attention":
            with torch.no_grad():
                return support.attention(batch)[TEXT]["source2token"]
        with torch.enable_grad():
            tokens = support.embed(batch)[TEXT]
            values = tokens.values.detach().requires_grad_(True)
            output = support.forward_tokens({TEXT: tokens.with_values(values)})
            (gradient,) = torch.autograd.grad(lead(output).sum(), values)
        return (gradient * tokens.values).sum(-1).abs() * tokens.mask

    def collate(self, examples: list[Extract]) -> dict[str, Tensor]:
        """Pad to the longest example."""
        batch = super().collate([(index, column) for index, column, _ in examples])
        kept = torch.zeros(batch["index"].shape)
        for i, (_, _, found) in enumerate(examples):
            kept[i, : len(found)] = torch.from_numpy(found.astype(np.float32))
        return {**batch, "kept": kept}

    def select(self, batch: dict[str, Tensor], tokens: Tokens) -> Float[Tensor, "batch token"]:
        """Return the extraction that came with the rows."""
        return batch["kept"]


def lead(output: Float[Tensor, "batch output"]) -> Float[Tensor, " batch"]:
    """Return the log-odds of the predicted class against the others; the number itself for a regression."""
    if output.shape[1] == 1:
        return output[:, 0]
    first = output.argmax(dim=1, keepdim=True)
    others = output.scatter(1, first, -torch.inf).logsumexp(dim=1)
    return output.gather(1, first)[:, 0] - others


def extract(scores: Float[np.ndarray, " word"], rate: float, contiguous: bool) -> np.ndarray:
    """Return which words to keep: a share of them, at least one, the earliest of equals.

    Args:
        scores: how much each word matters.
        rate: share to keep, in (0, 1].
        contiguous: whether they must follow each other; the stretch with the highest sum, else the highest scores.
    """
    keep = max(1, round(rate * len(scores)))
    kept = np.zeros(len(scores), dtype=bool)
    if contiguous:
        sums = np.convolve(scores.astype(np.float64), np.ones(keep), mode="valid")
        start = int(np.argmax(sums))
        kept[start : start + keep] = True
    else:
        kept[np.argsort(-scores, kind="stable")[:keep]] = True
    return kept
