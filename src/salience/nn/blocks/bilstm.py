"""A two-way LSTM over padded sequences, the same for a row alone and in a batch."""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class BiLSTM(nn.Module):
    """Read sequences forwards and backwards; the backward direction starts at the last real token.

    Args:
        dim_in: features of a token.
        dim: width of each direction; a token becomes ``2 · dim`` numbers.

    Matrices start from the Glorot uniform distribution gate by gate, biases at zero, except that of the forget gate,
    which starts at one.
    """

    def __init__(self, dim_in: int, dim: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dim_in, dim, batch_first=True, bidirectional=True)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the matrices of each gate, and set the biases."""
        for name, parameter in self.lstm.named_parameters():
            if parameter.ndim == 2:
                for gate in parameter.data.chunk(4):
                    nn.init.xavier_uniform_(gate)
                continue
            nn.init.zeros_(parameter)
            if name.startswith("bias_ih"):
                parameter.data.chunk(4)[1].fill_(1.0)

    def forward(
        self, x: Float[Tensor, "batch token dim_in"], mask: Bool[Tensor, "batch token"]
    ) -> tuple[Float[Tensor, "batch token dim2"], Float[Tensor, "batch dim2"]]:
        """Return tokens in context, and the last state of both directions.

        Args:
            x: tokens; the real ones of a row come first.
            mask: True at real tokens.

        Returns:
            Zeros at padding, and for a row without real tokens.
        """
        # A row without tokens reads one token of padding, whose state is then dropped.
        length = mask.sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(x, length, batch_first=True, enforce_sorted=False)
        states, (last, _) = self.lstm(packed)
        context, _ = pad_packed_sequence(states, batch_first=True, total_length=x.shape[1])
        ends = last.transpose(0, 1).flatten(1)
        return context.masked_fill(~mask.unsqueeze(-1), 0.0), ends.masked_fill(~mask.any(1, True), 0.0)
