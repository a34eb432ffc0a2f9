"""The torch language model of a layout: the numerical truth that every exported graph is compared with.

Written for reading and trainable; no fused kernels. Parameter names are the names in the weight recipe.
"""

from __future__ import annotations

import torch
from torch import nn

from search_space.layout import Layer, Layout

State = tuple[tuple[torch.Tensor, ...], ...]
"""One tuple of tensors per layer."""


class LayerModule(nn.Module):
    """Pre-norm mixer and feed-forward network with residual sums; a second norm after each with `post_norm`."""

    def __init__(self, layer: Layer, layout: Layout) -> None:
        super().__init__()
        width, eps = layout.width, layout.norm_eps

        def norm(wanted: bool) -> nn.Module | None:
            return nn.RMSNorm(width, eps=eps) if wanted else None

        has_mixer = layer.mixer.kind != "none"
        has_ffn = layer.ffn is not None
        self.mixer_norm = norm(has_mixer)
        self.mixer = layer.mixer.module(width) if has_mixer else None
        self.mixer_post_norm = norm(has_mixer and layout.post_norm)
        self.ffn_norm = norm(has_ffn)
        self.ffn = layer.ffn.module(width) if layer.ffn is not None else None
        self.ffn_post_norm = norm(has_ffn and layout.post_norm)

    def forward(
        self, x_BTD: torch.Tensor, state: tuple[torch.Tensor, ...] | None, position: int
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Return the layer's output and its new state."""
        new_state: tuple[torch.Tensor, ...] = ()
        if self.mixer is not None and self.mixer_norm is not None:
            y, new_state = self.mixer(self.mixer_norm(x_BTD), state, position)
            x_BTD = x_BTD + (y if self.mixer_post_norm is None else self.mixer_post_norm(y))
        if self.ffn is not None and self.ffn_norm is not None:
            y = self.ffn(self.ffn_norm(x_BTD))
            x_BTD = x_BTD + (y if self.ffn_post_norm is None else self.ffn_post_norm(y))
        return x_BTD, new_state


class LanguageModel(nn.Module):
    """Tokens in, logits of the last position out, carried state explicit."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        embedding, width = layout.embedding, layout.width
        rank = embedding.rank or width
        self.embedding = nn.Embedding(embedding.vocab_size, rank)
        factorised = embedding.rank is not None
        self.embedding_up = nn.Linear(rank, width, bias=False) if factorised else None
        self.layers = nn.ModuleList(LayerModule(layer, layout) for layer in layout.layers)
        self.norm = nn.RMSNorm(width, eps=layout.norm_eps)
        self.head_down = nn.Linear(width, rank, bias=False) if factorised else None
        self.head = None if embedding.tied else nn.Linear(rank, embedding.vocab_size, bias=False)

    def forward(
        self, tokens_BT: torch.Tensor, state: State | None = None, position: int = 0
    ) -> tuple[torch.Tensor, State]:
        """Run T tokens after `position` earlier ones.

        Returns:
            Logits [B, 1, V] of the last position, and the new state.
        """
        x_BTD = self.embedding(tokens_BT)
        if self.embedding_up is not None:
            x_BTD = self.embedding_up(x_BTD)
        if self.layout.embedding.scaled:
            x_BTD = x_BTD * self.layout.width**0.5
        new_state = []
        for index, layer in enumerate(self.layers):
            x_BTD, layer_state = layer(x_BTD, state[index] if state is not None else None, position)
            new_state.append(layer_state)
        last_B1D = self.norm(x_BTD[:, -1:])
        if self.head_down is not None:
            last_B1D = self.head_down(last_B1D)
        table = self.embedding.weight if self.head is None else self.head.weight
        return last_B1D @ table.T, tuple(new_state)
