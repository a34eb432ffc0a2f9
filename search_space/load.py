"""Stored tensors -> torch: the weights and the arithmetic of a graph, so that the torch module can be compared with it.

Weights are dequantised into a state dict; `round_activations` lets the torch module see activations as int8 products
do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np

from search_space.graph.builder import Parameter
from search_space.graph.precision import QUANTIZATION, BlockQuantization

if TYPE_CHECKING:
    import torch
    from torch import nn

    from search_space.export import Candidate

Values = Callable[[str], np.ndarray]
"""Gives the stored array of a tensor by name."""


def dequantize(packed: np.ndarray, scales: np.ndarray, inputs: int, quantization: BlockQuantization) -> np.ndarray:
    """Packed values [N, blocks, bytes] and scales [N, blocks] -> float32 [N, inputs]: (q - zero_point) * scale.

    The low bits of a byte are the earlier value (ONNX Runtime's `MatMulNBits`).
    """
    per_byte = 8 // quantization.bits
    mask = (1 << quantization.bits) - 1
    values = np.empty((*packed.shape[:2], quantization.block), np.float32)
    for i in range(per_byte):
        values[..., i::per_byte] = (packed >> (quantization.bits * i)) & mask
    values -= quantization.zero_point
    values *= scales[..., None]
    return values.reshape(packed.shape[0], -1)[:, :inputs]


def parameter_values(parameter: Parameter, values: Values) -> np.ndarray:
    """The float32 array of one torch parameter."""
    parts = []
    for part in parameter.parts:
        stored = [values(name) for name in part]
        if parameter.encoding in ("int8", "int4"):
            quantization = QUANTIZATION[parameter.encoding]  # type: ignore[index]
            assert quantization is not None
            parts.append(dequantize(stored[0], stored[1], parameter.shape[-1], quantization))
        else:
            parts.append(stored[0].T if parameter.encoding == "transposed" else stored[0])
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=0)
    return np.ascontiguousarray(whole, dtype=np.float32).reshape(parameter.shape)


def state_dict(
    candidate: Candidate, values: Values, *, strip: str = "", only: Iterable[str] | None = None
) -> dict[str, torch.Tensor]:
    """All parameters as torch tensors.

    Args:
        candidate: The exported graph.
        values: Where stored arrays come from (an external-data file, or the recipe's own values).
        strip: Prefix to remove from names (``"block."`` for a block exported alone).
        only: Names to keep, or None for all.
    """
    import torch

    wanted = None if only is None else set(only)
    return {
        parameter.name.removeprefix(strip): torch.from_numpy(parameter_values(parameter, values))
        for parameter in candidate.parameters
        if wanted is None or parameter.name in wanted
    }


Rounding = Literal["blocks", "rows"]


def round_activations(module: nn.Module, how: Rounding = "blocks") -> None:
    """Let every `Linear` see its inputs as int8 products do (`MatMulNBits`, accuracy level 4).

    Comparing with this instead of the plain module keeps the check sharp: a norm over a nearly cancelled sum (the first
    tokens of a linear attention) turns rounding into an error of any size where no mistake was made.

    Args:
        module: Gets hooks.
        how: ``blocks``: 32 values with one scale, as onnxruntime's own kernels do. ``rows``: all inputs of a token with
            one scale and offset, as KleidiAI's do, which it uses on Arm.
    """
    from torch import nn

    def rounded(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (_by_blocks(arguments[0]) if how == "blocks" else _by_rows(arguments[0]),)

    for linear in module.modules():
        if isinstance(linear, nn.Linear):
            linear.register_forward_pre_hook(rounded)


def _by_blocks(x: torch.Tensor, block: int = 32) -> torch.Tensor:
    from torch import nn

    inputs = x.shape[-1]
    padded = nn.functional.pad(x, (0, -inputs % block))
    blocks = padded.reshape(*padded.shape[:-1], -1, block)
    scale = blocks.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
    return ((blocks / scale).round() * scale).flatten(-2)[..., :inputs]


def _by_rows(x: torch.Tensor) -> torch.Tensor:
    low, high = x.amin(-1, keepdim=True).clamp_max(0), x.amax(-1, keepdim=True).clamp_min(0)
    scale = (high - low).clamp_min(1e-30) / 255
    offset = (-128 - low / scale).round()
    return ((x / scale + offset).round().clamp(-128, 127) - offset) * scale
