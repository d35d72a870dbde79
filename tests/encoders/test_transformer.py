import pytest
import torch
from tests.made import tokens
from torch import nn

from rnnatlas.encoders.transformer import Block, Transformer, TransformerSettings
from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Population, RNNSpec


def test_a_block_is_torchs_encoder_layer():
    block = Block(8, heads=2, feedforward=12)
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, norm_first=True)
    own = block.state_dict()
    names = {"self_attn.out_proj": "gather", "linear1": "mlp.0", "linear2": "mlp.2"}
    names |= {"norm1": "attention_norm", "norm2": "mlp_norm"}
    state = {
        f"{to}.{kind}": own[f"{name}.{kind}"] for to, name in names.items() for kind in ("weight", "bias")
    }
    for kind in ("weight", "bias"):
        state[f"self_attn.in_proj_{kind}"] = torch.cat([own[f"query.{kind}"], own[f"key_value.{kind}"]])
    layer.load_state_dict(state)
    given = torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(given), layer(given))
    torch.testing.assert_close(block(given, queries=2), layer(given)[:, :2])


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (RNNSpec(cell="lstm", input=6, hidden=32, layers=2, output=6), 2 * 4 * 32 + 6),
        (RNNSpec(cell="gru", input=3, hidden=4, bidirectional=True), 2 * 3 * 4),
        (RNNSpec(cell="elman-relu", input=3, hidden=4, output=2, bias=False), 4 + 2),
    ],
    ids=str,
)
def test_each_row_of_gates_and_head_is_a_token(spec, count):
    encoder = Transformer(tokens(spec), spec, TransformerSettings(width=8, layers=1, feedforward=8))
    assert len(encoder.positions) == count


def test_every_row_matters():
    spec = RNNSpec(cell="gru", input=3, hidden=4, layers=2, output=2)
    settings = TransformerSettings(width=8, layers=1, feedforward=8)
    encoder = Transformer(tokens(spec), spec, settings).double().eval()
    weights = Population.initialise(spec, [torch.Generator()]).flatten().double().requires_grad_()
    encoder(Population.unflatten(spec, weights))[0, 0].backward()
    assert weights.grad is not None
    assert (weights.grad != 0).all()


def test_heads_share_the_width():
    with pytest.raises(SettingsError, match=r"width should be a multiple of heads, 3, found 128"):
        TransformerSettings(heads=3)
