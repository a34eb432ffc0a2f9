"""Torch values -> stored tensors: the way back from `search_space.load`, for weights that were trained.

Matrices of a quantised graph are rounded to the nearest step, block by block along their inputs: the scale of a block
is its largest magnitude over 7 (int4) or 127 (int8), so that zero is exact, no value is cut off, and each is at most
half a step from what it was. (The 16th and the 256th value of the type stay unused.) A block of zeros has scale 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search_space.graph.builder import Parameter
from search_space.graph.precision import QUANTIZATION, BlockQuantization
from search_space.graph.recipe import StoredTensor

if TYPE_CHECKING:
    from search_space.export import Candidate

Array = np.ndarray[Any, np.dtype[Any]]


def quantize(rows: Array, quantization: BlockQuantization) -> tuple[Array, Array]:
    """Float32 [N, K] -> packed uint8 [N, blocks, bytes] and scales float32 [N, blocks].

    `search_space.load.dequantize` is its inverse up to rounding. The last block is filled up with zeros.
    """
    count, inputs = rows.shape
    blocks, block = quantization.blocks(inputs), quantization.block
    padded = np.zeros((count, blocks * block), np.float32)
    padded[:, :inputs] = rows
    values = padded.reshape(count, blocks, block)
    largest = quantization.zero_point - 1
    scales = (np.abs(values).max(axis=2) / np.float32(largest)).astype(np.float32)
    steps = np.divide(values, scales[..., None], out=np.zeros_like(values), where=scales[..., None] > 0)
    levels = (np.clip(np.rint(steps), -largest, largest) + quantization.zero_point).astype(np.uint8)
    per_byte = 8 // quantization.bits
    packed = np.zeros((count, blocks, block // per_byte), np.uint8)
    for place in range(per_byte):  # the low bits of a byte are the earlier value
        packed |= levels[..., place::per_byte] << np.uint8(quantization.bits * place)
    return packed, scales


def write_parameters(candidate: Candidate, path: Path, rows: Callable[[str], Iterable[Array]]) -> None:
    """Write every trained parameter into a data file that has its full size already.

    Args:
        candidate: The exported graph.
        path: The file; other tensors in it are left alone.
        rows: Gives a parameter's values by its name: float32 arrays of some rows each, in order.

    Raises:
        OSError: The file cannot be written.
        ValueError: A parameter has too few or too many rows.
    """
    stored = {tensor.name: tensor for tensor in candidate.stored}
    for parameter in candidate.parameters:
        parts = [_Part(parameter, [_open(path, stored[name]) for name in part]) for part in parameter.parts]
        at = 0
        for chunk in _cut(rows(parameter.name), [part.rows for part in parts]):
            place = at
            for part in parts:
                if place < part.rows:
                    part.write(place, chunk)
                    break
                place -= part.rows
            at += chunk.shape[0]
        if at != parameter.shape[0]:
            raise ValueError(f"parameter {parameter.name} has {at} rows, not {parameter.shape[0]}")


class _Part:
    """A slice of a parameter's rows as it lies in the file."""

    def __init__(self, parameter: Parameter, arrays: list[Array]) -> None:
        self.encoding = parameter.encoding
        self.arrays = arrays
        self.rows: int = arrays[0].shape[1] if self.encoding == "transposed" else arrays[0].shape[0]

    def write(self, at: int, rows: Array) -> None:
        stop = at + rows.shape[0]
        if self.encoding == "plain":
            self.arrays[0][at:stop] = rows
        elif self.encoding == "transposed":
            self.arrays[0][:, at:stop] = rows.T
        else:
            quantization = QUANTIZATION[self.encoding]  # type: ignore[index]
            assert quantization is not None
            self.arrays[0][at:stop], self.arrays[1][at:stop] = quantize(rows, quantization)


def _open(path: Path, tensor: StoredTensor) -> Array:
    return np.memmap(path, dtype=tensor.dtype, mode="r+", offset=tensor.offset, shape=tensor.shape)


def _cut(chunks: Iterable[Array], sizes: list[int]) -> Iterator[Array]:
    """The same rows in chunks that end where a part ends."""
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    at = 0
    for chunk in chunks:
        start = 0
        while start < chunk.shape[0]:
            end = next((end for end in ends if end > at), None)
            stop = chunk.shape[0] if end is None else min(chunk.shape[0], start + end - at)
            yield chunk[start:stop]
            at += stop - start
            start = stop
