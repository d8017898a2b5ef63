"""Networks and batches that the noise scale's cost is measured on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY, LENGTH = 1000, 64


class SelfAttention(nn.Module):
    """Causal attention whose projections are linear layers: outer products can measure them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a perceptron, each after a LayerNorm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first, self.attention, self.second = nn.LayerNorm(width), SelfAttention(width, heads), nn.LayerNorm(width)
        self.up, self.act, self.down = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        return x + self.down(self.act(self.up(self.second(x))))


class GPT(nn.Module):
    """A causal transformer with a tied head, drawn as GPT-2 is."""

    def __init__(self, blocks: nn.Module, width: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(VOCABULARY, width), nn.Embedding(LENGTH, width)
        self.blocks, self.norm = blocks, nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        self.head.weight = self.token.weight
        for embedding in (self.token, self.place):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1]).expand(tokens.shape)
        return self.head(self.norm(self.blocks(self.token(tokens) + self.place(places))))


class TorchBlocks(nn.Module):
    """torch's own encoder layers, with nn.MultiheadAttention."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)

    def forward(self, hidden: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(hidden.shape[1])
        return self.layers(hidden, mask=mask, is_causal=True)


def torch_gpt() -> nn.Module:
    """2.0 million parameters, 1.8 million of them in the blocks."""
    return GPT(TorchBlocks(192, 4), 192)


def linear_gpt() -> nn.Module:
    """The same size, of linear layers throughout."""
    return GPT(nn.Sequential(*(Block(192, 4) for _ in range(4))), 192)


def mlp() -> nn.Module:
    """17 thousand parameters."""
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def gpt_batch(examples: int) -> tuple[Tensor, Tensor]:
    """Random tokens, and the ones that follow."""
    tokens = torch.randint(0, VOCABULARY, (examples, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def mlp_batch(examples: int) -> tuple[Tensor, Tensor]:
    """Random images of 64 pixels, and labels."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(examples, 64, generator=generator), torch.randint(0, 10, (examples,), generator=generator)
