"""What select-then-predict text encoders share: a generator that chooses words, and a reader that sees only those."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from salience.core.errors import ConfigError, UnsupportedError
from salience.models.slots import Tokens
from salience.models.word_encoder import WordEncoder
from salience.nn.blocks.bilstm import BiLSTM
from salience.ops.precision import wide

CELL = 30  # units of the memory of earlier choices, as published


class RationaleEncoder(WordEncoder):
    """Choose words first, then read the chosen words alone.

    The choice is made in :meth:`embed` and travels with the tokens as ``kept``; :meth:`encode` moves the kept words
    together and reads nothing else. Given the choice, the output is therefore a function of the kept words, their
    order and their number, and gradient methods, which start behind :meth:`embed`, hold the choice fixed.

    Args:
        columns: names of the text columns.
        dim: width of each direction of the LSTMs; a text becomes ``2 · dim`` numbers.
        rate: share of the words to keep, in (0, 1].
        dropout: share of the words' features dropped in training, before each LSTM.
        words: arguments of :class:`~salience.models.word_encoder.WordEncoder`, without ``ngram_dim``.

    Raises:
        ConfigError: the rate is out of range, or n-grams are asked for.
    """

    selects = True

    def __init__(self, columns: list[str], dim: int, rate: float, dropout: float, **words: Any) -> None:
        super().__init__(columns, **words)
        if self.ngram_dim:
            raise ConfigError(
                "A rationale model has no n-grams",
                f"ngram_dim={self.ngram_dim}; their sum would read words that are not kept.",
                "Leave ngram_dim at 0.",
            )
        if not 0 < rate <= 1:
            raise _out_of_range(f"rate={rate}.", "Use a rate above 0 and up to 1.")
        self.width, self.dropout, self.rate, self.dim = dim, dropout, rate, 2 * dim

    @abstractmethod
    def select(self, batch: dict[str, Tensor], tokens: Tokens) -> Float[Tensor, "batch token"]:
        """Return how much of each word is kept, in [0, 1]; drawn in training, always the same in evaluation."""

    def build_network(self, dim_in: int) -> nn.Module:
        """Return the reader."""
        return Reader(dim_in, self.width, self.dropout)

    def embed(self, batch: dict[str, Tensor]) -> Tokens:
        """Look word vectors up, and choose words."""
        tokens = super().embed(batch)
        return replace(tokens, kept=self.select(batch, tokens) * tokens.mask)

    def baseline(self, batch: dict[str, Tensor]) -> Tokens:
        """Return the same sequence with every word unknown and the same places kept."""
        return replace(super().baseline(batch), kept=self.embed(batch).kept)

    def encode(self, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        """Read the kept words.

        Raises:
            UnsupportedError: the tokens do not say which are kept.
        """
        if tokens.kept is None:
            raise UnsupportedError(
                "A rationale model needs tokens that say which words are kept",
                "Tokens without kept.",
                "Take them from embed().",
            )
        context, vector = self.network(tokens.values, tokens.kept)
        return tokens.with_values(context), vector

    def attention(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return none: the selection is no attention map; see :meth:`rationale`."""
        return {}

    def rationale(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return how much of each word is kept, as ``selected``."""
        return {"selected": self.embed(batch).kept}

    def diagnostics(self, batch: dict[str, Tensor]) -> dict[str, Float[Tensor, " batch"]]:
        """Return the share of words kept of each row."""
        tokens = self.embed(batch)
        return {"selected": share_of(tokens.kept > 0, tokens.mask)}


def _out_of_range(received: str, fix: str) -> ConfigError:
    return ConfigError("An option of a rationale model is out of range", received, fix, code="SAL-C005")


class Reader(nn.Module):
    """Read the kept words of a text with an LSTM, as if the others had never been there.

    Args:
        dim_in: features of a word.
        dim: width of each direction.
        dropout: share of the words' features dropped in training.
    """

    def __init__(self, dim_in: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.lstm = BiLSTM(dim_in, dim)

    def forward(
        self, words: Float[Tensor, "batch token dim_in"], kept: Float[Tensor, "batch token"]
    ) -> tuple[Float[Tensor, "batch token dim2"], Float[Tensor, "batch dim2"]]:
        """Return kept words in context (zero elsewhere) and the last states; zeros where nothing is kept."""
        read = kept > 0
        # where, not a product alone: a word that is not kept must not matter even if it is infinite
        weighted = torch.where(read.unsqueeze(-1), words * kept.unsqueeze(-1).to(words.dtype), 0.0)
        order, mask = together(read)
        context, last = self.lstm(self.dropout(_take(weighted, order)), mask)
        places = order.unsqueeze(-1).expand(-1, -1, context.shape[-1])
        spread = context.new_zeros(*kept.shape, context.shape[-1]).scatter(1, places, context)
        return spread, last


def together(
    read: Bool[Tensor, "batch token"],
) -> tuple[Int[Tensor, "batch place"], Bool[Tensor, "batch place"]]:
    """Return the positions of the kept words first, in their order, as far as the fullest row, and which are kept."""
    places = max(1, int(read.sum(1).max())) if read.numel() else read.shape[1]
    order = torch.argsort((~read).to(torch.uint8), dim=1, stable=True)[:, :places]
    return order, read.gather(1, order)


def _take(
    values: Float[Tensor, "batch token dim"], order: Int[Tensor, "batch place"]
) -> Float[Tensor, "batch place dim"]:
    return values.gather(1, order.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def share_of(
    numbers: Float[Tensor, "batch token"], mask: Bool[Tensor, "batch token"]
) -> Float[Tensor, " batch"]:
    """Return the mean of the real words' numbers, row by row."""
    return (numbers * mask).sum(1) / mask.sum(1).clamp(min=1)


Draw = Callable[[Float[Tensor, "*shape parameter"]], Float[Tensor, "*shape"]]


class Generator(nn.Module):
    """Turn words into the parameters of a choice for each, and make the choices.

    Args:
        dim_in: features of a word.
        dim: width of each direction of the LSTM.
        parameters: numbers that a choice is drawn from.
        dependent: whether a choice sees the earlier ones, through a small recurrent cell.
        dropout: share of the words' features dropped in training.
    """

    def __init__(self, dim_in: int, dim: int, parameters: int, dependent: bool, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.lstm = BiLSTM(dim_in, dim)
        self.cell = nn.LSTMCell(2 * dim + 1, CELL) if dependent else None
        self.gate = nn.Linear(2 * dim + (CELL if dependent else 0), parameters)

    def forward(
        self, x: Float[Tensor, "batch token dim_in"], mask: Bool[Tensor, "batch token"], draw: Draw
    ) -> tuple[Float[Tensor, "batch token parameter"], Float[Tensor, "batch token"]]:
        """Return the parameters of each choice, and the choices that ``draw`` makes of them."""
        states, _ = self.lstm(self.dropout(x), mask)
        if self.cell is None:
            parameters = wide(self.gate(states))  # probabilities need more digits than 16 bits have
            return parameters, draw(parameters)
        return self._one_by_one(states, draw)

    def _one_by_one(
        self, states: Float[Tensor, "batch token dim"], draw: Draw
    ) -> tuple[Float[Tensor, "batch token parameter"], Float[Tensor, "batch token"]]:
        parameters, choices = [], []
        memory = (states.new_zeros(len(states), CELL), states.new_zeros(len(states), CELL))
        for state in states.unbind(1):
            parameters.append(wide(self.gate(torch.cat([state, memory[0]], dim=1))))
            choices.append(draw(parameters[-1]))
            seen = torch.cat([state, choices[-1].unsqueeze(1).to(state.dtype)], dim=1)
            memory = self.cell(seen, memory)
        return torch.stack(parameters, dim=1), torch.stack(choices, dim=1)


class DrawnRationaleEncoder(RationaleEncoder):
    """Choose words by a generator that is trained together with the reader, and draws in training.

    Args:
        columns: names of the text columns.
        dim: width of each direction of both LSTMs.
        rate: share of the words to keep, in (0, 1].
        strength: weight λ of the distance from that share in the training loss.
        ramp: training batches over which λ rises from 0, so that the reader learns what words mean before most of
            them are taken away; 0 for the whole λ from the start, as published.
        dependent: whether a choice sees the earlier ones.
        dropout: share of the words' features dropped in training, before each LSTM.
        words: arguments of :class:`~salience.models.word_encoder.WordEncoder`.
    """

    parameters_of_choice: int
    batches: Tensor

    def __init__(
        self,
        columns: list[str],
        dim: int,
        rate: float,
        strength: float,
        ramp: int,
        dependent: bool,
        dropout: float,
        **words: Any,
    ) -> None:
        super().__init__(columns, dim, rate, dropout, **words)
        if strength < 0 or ramp < 0:
            raise _out_of_range(f"strength={strength}, ramp={ramp}.", "Use numbers of at least 0.")
        self.strength, self.ramp, self.dependent = strength, ramp, dependent
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @abstractmethod
    def draw(self, parameters: Float[Tensor, "*shape parameter"]) -> Float[Tensor, "*shape"]:
        """Return how much is kept: drawn in training, the likeliest in evaluation."""

    @abstractmethod
    def probability(self, parameters: Float[Tensor, "*shape parameter"]) -> Float[Tensor, "*shape"]:
        """Return the probability that anything of a word is kept."""

    @abstractmethod
    def remember(
        self,
        parameters: Float[Tensor, "batch token parameter"],
        kept: Float[Tensor, "batch token"],
        mask: Bool[Tensor, "batch token"],
    ) -> None:
        """Keep what :meth:`auxiliary_loss` needs of a batch in training."""

    def build_network(self, dim_in: int) -> nn.Module:
        """Return the reader, and set up the generator."""
        self.generator = Generator(
            dim_in, self.width, self.parameters_of_choice, self.dependent, self.dropout
        )
        return super().build_network(dim_in)

    def select(self, batch: dict[str, Tensor], tokens: Tokens) -> Float[Tensor, "batch token"]:
        """Let the generator choose."""
        parameters, kept = self.generator(tokens.values, tokens.mask, self.draw)
        if self.training:
            self.batches += 1
            self.remember(parameters, kept, tokens.mask)
        return kept

    def penalty(self, share: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return ``λ |share kept − rate|``, with the λ that training has reached."""
        risen = min(1.0, int(self.batches) / self.ramp) if self.ramp else 1.0
        return self.strength * risen * (share - self.rate).abs()

    def rationale(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return how much of each word is kept, and the probability that anything of it is."""
        tokens = WordEncoder.embed(self, batch)
        parameters, kept = self.generator(tokens.values, tokens.mask, self.draw)
        return {"selected": kept * tokens.mask, "probability": self.probability(parameters) * tokens.mask}

    def diagnostics(self, batch: dict[str, Tensor]) -> dict[str, Float[Tensor, " batch"]]:
        """Return the share of words kept of each row, and the penalty for its distance from the rate asked."""
        found = super().diagnostics(batch)
        return {**found, "penalty": self.strength * (found["selected"] - self.rate).abs()}
