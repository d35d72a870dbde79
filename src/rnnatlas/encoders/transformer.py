"""Parameter transformer: each row of weights is a token."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rnnatlas.encoders.augment import Augment
from rnnatlas.encoders.base import EMBED
from rnnatlas.encoders.rows import RowEncoder, row_shapes
from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Interface, Population, RNNSpec
from rnnatlas.settings import at_least_one, settings


@settings
class TransformerSettings:
    """Settings of `Transformer`; the paper's by default.

    Args:
        width: Size of a token.
        layers: Blocks of attention and MLP.
        heads: Attention heads of each block.
        feedforward: Units of each block's MLP.
        augment: What is drawn at random for each RNN in training: "none", "permutation" (the order of its
            hidden units) or "all" (signs and scales as well, where its cell leaves them open).
    """

    width: int = 128
    layers: int = 6
    heads: int = 2
    feedforward: int = 512
    augment: Augment = "permutation"

    def __post_init__(self) -> None:
        at_least_one(self, "width", "layers", "heads", "feedforward")
        if self.width % self.heads:
            raise SettingsError(f"width should be a multiple of heads, {self.heads}, found {self.width}")


class Transformer(RowEncoder):
    """Embeds an RNN by a transformer that reads its rows of weights as tokens.

    After Herrmann et al. 2024, section 3, parameter transformer: learned positions and a learned summary
    token, whose last state makes the embedding. One token holds all that a gate of a hidden unit, or an
    output of the head, is computed from: input weights, recurrent weights and bias. Tokens for input and
    recurrent weights apart would be twice as many and cost twice the time, four times in attention, to
    say what belongs together anyway. Each layer has a linear map of its own from rows to tokens.
    """

    Settings = TransformerSettings
    title: ClassVar[str | None] = "parameter transformer"
    colour: ClassVar[str | None] = "#cc79a7"

    def __init__(self, interface: Interface, spec: RNNSpec, settings: Any, size: int = EMBED):
        super().__init__(interface, spec, settings, size)
        shapes = row_shapes(spec)
        width = settings.width
        self.tokens = nn.ModuleList(nn.Linear(columns, width, bias=False) for _, columns in shapes)
        # positions start about as large as what tokens hold (nn.Linear makes a variance of 1/3)
        self.positions = nn.Parameter(torch.randn(sum(rows for rows, _ in shapes), width) / 3**0.5)
        self.summary = nn.Parameter(torch.randn(width))
        self.blocks = nn.ModuleList(
            Block(width, settings.heads, settings.feedforward) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, size)

    @property
    def last(self) -> nn.Linear:
        """See `Encoder.last`."""
        return self.head

    def read(self, population: Population) -> Float[Tensor, "rnn embed"]:
        """What the summary token has gathered at the end."""
        matrices = zip(self.tokens, self.rows(population), strict=True)
        tokens = torch.cat([embed(rows) for embed, rows in matrices], 1) + self.positions
        state = torch.cat([self.summary.expand(len(population), 1, -1), tokens], 1)
        for block in self.blocks[:-1]:
            state = block(state)
        summary = self.blocks[-1](state, queries=1)  # nobody reads the other tokens any more
        return self.head(self.norm(summary.squeeze(1)))


class Block(nn.Module):
    """Attention and MLP, each after a norm and beside a residual path (Xiong et al. 2020).

    `nn.TransformerEncoderLayer` computes the same, but always for all tokens.

    Args:
        width: Size of a token.
        heads: Attention heads.
        feedforward: Units of the MLP.
    """

    def __init__(self, width: int, heads: int, feedforward: int):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.gather = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, feedforward), nn.ReLU(), nn.Linear(feedforward, width))

    def forward(
        self, tokens: Float[Tensor, "rnn token width"], queries: int | None = None
    ) -> Float[Tensor, "rnn query width"]:
        """New states of the first `queries` tokens, or of all; each attends to all tokens."""
        normed = self.attention_norm(tokens)
        asking, tokens = normed[:, :queries], tokens[:, :queries]
        key, value = self.key_value(normed).chunk(2, -1)
        heads = [
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query(asking), key, value)
        ]
        gathered = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        tokens = tokens + self.gather(gathered)
        return tokens + self.mlp(self.mlp_norm(tokens))
