"""The step of `plain_step.py` in torch, eager or compiled: the same function, sizes, data and optimizer.

As fast as torch offers without writing kernels: one projection for queries, keys and values, its fused attention and
fused AdamW, autocast for bfloat16.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def make(sizes: dict[str, int], dtype: str, *, compiled: bool, threads: int | None = None) -> Callable[[], float]:
    """Returns a function that makes one update and returns the loss before it, in nats per token."""
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    decoder = Decoder(sizes).to(device)
    model = torch.compile(decoder) if compiled else decoder
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1,
                                  fused=True)
    tokens = np.random.default_rng(0).integers(0, sizes["vocabulary"], (sizes["batch"], sizes["sequence"] + 1))
    inputs, targets = (torch.from_numpy(part.copy()).to(device) for part in (tokens[:, :-1], tokens[:, 1:]))

    def advance() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = model(inputs, targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    return advance


class Decoder(nn.Module):
    """Tokens to the mean cross-entropy of the next ones."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        width, layers = sizes["width"], sizes["layers"]
        self.tokens = nn.Parameter(0.02 * torch.randn(sizes["vocabulary"], width))
        self.positions = nn.Parameter(0.02 * torch.randn(sizes["sequence"], width))
        self.blocks = nn.ModuleList(Block(width, sizes["heads"], sizes["feed_forward"], layers) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = F.embedding(inputs, self.tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Block(nn.Module):
    """Attention, then feed-forward, each with a norm before it and added to the residual stream."""

    def __init__(self, width: int, heads: int, feed_forward: int, layers: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_norm = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, feed_forward, bias=False), nn.Linear(feed_forward, width, bias=False)
        for matrix, writes in ((self.qkv, 1), (self.out, 2 * layers), (self.up, 1), (self.down, 2 * layers)):
            nn.init.normal_(matrix.weight, std=(matrix.in_features * writes)**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, time, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, width))
        return x + self.down(F.gelu(self.up(self.feed_norm(x)), approximate="tanh"))
