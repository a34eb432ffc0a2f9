"""How weights are stored in a graph: the precisions and their arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal, get_args

PrecisionName = Literal["fp32", "int8", "int4"]
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockQuantization:
    """Symmetric block-wise quantisation of a matrix along its input dimension.

    A stored value q stands for ``(q - zero_point) * scale``, one float32 scale per block of `block` inputs of each
    output row (ONNX Runtime `MatMulNBits` and `GatherBlockQuantized`). Products run in int8 arithmetic
    (``accuracy_level=4``): without it ONNX Runtime computes in float32, 2.3 times slower.
    """

    bits: int
    block: int = 32

    @property
    def zero_point(self) -> int:
        """The stored value that stands for zero: 2^(bits-1)."""
        return 1 << (self.bits - 1)

    def blocks(self, inputs: int) -> int:
        """Blocks per output row."""
        return ceil(inputs / self.block)

    def packed_shape(self, outputs: int, inputs: int) -> tuple[int, int, int]:
        """Shape of the packed uint8 tensor: [outputs, blocks, bytes per block]."""
        return outputs, self.blocks(inputs), self.block * self.bits // 8


QUANTIZATION: dict[PrecisionName, BlockQuantization | None] = {
    "fp32": None,
    "int8": BlockQuantization(bits=8),
    "int4": BlockQuantization(bits=4),
}
