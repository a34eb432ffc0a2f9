"""Depthwise causal convolution with carried state, as torch and as ONNX; used by ShortConv and Gated DeltaNet.

y[t, c] = sum_j w[c, j] x[t - (k-1) + j, c]. The state is the last k-1 inputs, [B, k-1, C].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_space.blocks._base import StateSpec

if TYPE_CHECKING:
    import torch
    from onnx_ir import Value

    from search_space.graph.builder import GraphBuilder


MAX_KERNEL = 64
"""Longest convolution: the shifted lowering writes a few nodes for each tap."""


def conv_state(kernel: int, channels: int) -> tuple[StateSpec, ...]:
    """The carried inputs [B, k-1, C]; none for a kernel of one."""
    return (StateSpec(name="conv", shape=("batch", kernel - 1, channels)),) if kernel > 1 else ()


def torch_causal_conv(
    x_BTC: torch.Tensor, weight_C1k: torch.Tensor, state: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the convolution [B, T, C] and the new state [B, k-1, C]; a state of None is zeros."""
    import torch
    from torch.nn import functional as F

    kernel = weight_C1k.shape[-1]
    if state is None:
        state = x_BTC.new_zeros(x_BTC.shape[0], kernel - 1, x_BTC.shape[2])
    padded = torch.cat([state, x_BTC], dim=1)
    y_BCT = F.conv1d(padded.transpose(1, 2), weight_C1k, groups=weight_C1k.shape[0])
    return y_BCT.transpose(1, 2), padded[:, padded.shape[1] - (kernel - 1) :]


def _weight(g: GraphBuilder, kernel: int, channels: int) -> Value:
    bound = (3.0 / kernel) ** 0.5
    return g.weight("conv.weight", (channels, 1, kernel), low=-bound, high=bound)


def shifted(g: GraphBuilder, x: Value, kernel: int, channels: int) -> Value:
    """[B, T, C] -> [B, T, C] as k multiply-adds over shifted views.

    The taps are constants, so the runtime folds their slicing at load.
    """
    taps = g.op("Transpose", g.reshape(_weight(g, kernel, channels), channels, kernel), perm=[1, 0])
    if kernel == 1:
        return g.op("Mul", x, taps)
    (spec,) = conv_state(kernel, channels)
    padded = g.op("Concat", g.state_input(spec), x, axis=1)
    far = g.ints(2**31 - 1)
    total: Value | None = None
    for j in range(kernel):
        stop = g.ints(j - kernel + 1) if j < kernel - 1 else far
        part = g.op("Slice", padded, g.ints(j), stop, g.ints(1))
        tap = g.op("Slice", taps, g.ints(j), g.ints(j + 1), g.ints(0))
        term = g.op("Mul", part if j < kernel - 1 else x, tap)
        total = term if total is None else g.op("Add", total, term)
    g.state_output(spec, g.op("Slice", padded, g.ints(1 - kernel), far, g.ints(1)))
    assert total is not None
    return total


def standard_conv(g: GraphBuilder, x: Value, kernel: int, channels: int) -> Value:
    """[B, T, C] -> [B, T, C] by the standard `Conv` operator between transposes."""
    weight = _weight(g, kernel, channels)
    padded = x
    if kernel > 1:
        (spec,) = conv_state(kernel, channels)
        padded = g.op("Concat", g.state_input(spec), x, axis=1)
        g.state_output(spec, g.op("Slice", padded, g.ints(1 - kernel), g.ints(2**31 - 1), g.ints(1)))
    y = g.op("Conv", g.op("Transpose", padded, perm=[0, 2, 1]), weight, group=channels, kernel_shape=[kernel])
    return g.op("Transpose", y, perm=[0, 2, 1])


def fused(g: GraphBuilder, x: Value, kernel: int, channels: int) -> Value:
    """[B, T, C] -> [B, T, C] by ONNX Runtime's `CausalConvWithState`, channels last."""
    weight = _weight(g, kernel, channels)
    if kernel == 1:
        return g.op("Mul", x, g.reshape(weight, 1, channels))
    (spec,) = conv_state(kernel, channels)
    y, present = g.ops(
        "CausalConvWithState",
        x,
        weight,
        None,
        g.state_input(spec),
        outputs=2,
        domain="com.microsoft",
        ndim=1,
        channels_last=1,
        activation="none",
    )
    g.state_output(spec, present)
    return y


def fused_channels_first(g: GraphBuilder, x: Value, kernel: int, channels: int) -> Value:
    """[B, T, C] -> [B, T, C] by ONNX Runtime's `CausalConvWithState`, channels first, between transposes."""
    if kernel == 1:
        return fused(g, x, kernel, channels)
    weight = _weight(g, kernel, channels)
    (spec,) = conv_state(kernel, channels)
    turned, past = (g.op("Transpose", value, perm=[0, 2, 1]) for value in (x, g.state_input(spec)))
    y, present = g.ops(
        "CausalConvWithState", turned, weight, None, past, outputs=2, domain="com.microsoft", ndim=1, activation="none"
    )
    g.state_output(spec, g.op("Transpose", present, perm=[0, 2, 1]))
    return g.op("Transpose", y, perm=[0, 2, 1])
