"""The weight recipe: what the device needs to write the external-data file by itself.

A recipe names every stored tensor with its type, shape, place in the file and the seeded distribution of its values,
so that kilobytes travel instead of weights. The values are drawn on the device; this module only describes them. Random
weights are scaled like a real initialisation (uniform, variance 1/inputs): kernels then run on ordinary numbers, not
on zeros or denormals.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from math import prod, sqrt
from typing import Any

RECIPE_FORMAT = 1
DATA_FILE = "weights.bin"
DTYPE_BYTES = {"float32": 4, "float16": 2, "uint8": 1}
_PAGE, _LINE = 4096, 64
_LARGE = 1 << 16


def tensor_seed(seed: int, name: str) -> int:
    """A 64-bit seed for one tensor, a function of the study's weight seed and the tensor's name alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """One tensor of the external-data file; `fill` says how its values are made."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    fill: dict[str, Any]

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return prod(self.shape) * DTYPE_BYTES[self.dtype]

    def to_json(self) -> dict[str, Any]:
        """The tensor's entry in the recipe."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "offset": self.offset,
            "fill": self.fill,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Which part of a tensor another one is: drawn alike whether a graph stores it whole or in parts.

    Attributes:
        whole: The name that the whole has where it is stored as one.
        rows: Its size along the axis.
        start: Where the part begins.
        axis: Along which it is cut.
    """

    whole: str
    rows: int
    start: int
    axis: int = 0


@dataclass(slots=True)
class RecipeWriter:
    """Collects tensors and gives each its place: cache-line aligned, and page aligned from 64 KiB to be mapped."""

    seed: int
    tensors: list[StoredTensor] = field(default_factory=list)
    size: int = 0

    def add(self, name: str, dtype: str, shape: tuple[int, ...], fill: dict[str, Any]) -> StoredTensor:
        """Append one tensor and return it with its offset."""
        nbytes = prod(shape) * DTYPE_BYTES[dtype]
        align = _PAGE if nbytes >= _LARGE else _LINE
        offset = -(-self.size // align) * align
        tensor = StoredTensor(name=name, dtype=dtype, shape=shape, offset=offset, fill=fill)
        self.size = offset + nbytes
        self.tensors.append(tensor)
        return tensor

    def uniform(
        self, name: str, shape: tuple[int, ...], *, low: float, high: float, cut: Cut | None = None
    ) -> StoredTensor:
        """Float32 values drawn uniformly from [low, high)."""
        return self._drawn(name, "float32", shape, {"kind": "uniform", "low": low, "high": high}, cut)

    def matrix(self, name: str, shape: tuple[int, ...], *, std: float, cut: Cut | None = None) -> StoredTensor:
        """Float32 values of mean 0 and the given standard deviation (uniform)."""
        bound = sqrt(3.0) * std
        return self.uniform(name, shape, low=-bound, high=bound, cut=cut)

    def packed(self, name: str, shape: tuple[int, ...], *, cut: Cut | None = None) -> StoredTensor:
        """Uniform random bytes: quantised values of every size alike."""
        return self._drawn(name, "uint8", shape, {"kind": "bytes"}, cut)

    def _drawn(
        self, name: str, dtype: str, shape: tuple[int, ...], fill: dict[str, Any], cut: Cut | None
    ) -> StoredTensor:
        """A tensor of random values, seeded by its name, or by that of the whole that it is a part of."""
        seeded = {**fill, "seed": tensor_seed(self.seed, name if cut is None else cut.whole)}
        if cut is None or cut.rows == shape[cut.axis]:
            return self.add(name, dtype, shape, seeded)
        whole = [*shape[: cut.axis], cut.rows, *shape[cut.axis + 1 :]]
        return self.add(
            name, dtype, shape, {"kind": "cut", "fill": seeded, "shape": whole, "axis": cut.axis, "start": cut.start}
        )

    def to_json(self) -> dict[str, Any]:
        """The recipe as it travels."""
        return {"format": RECIPE_FORMAT, "size": self.size, "tensors": [tensor.to_json() for tensor in self.tensors]}


def quantized_scale(bits: int, std: float) -> float:
    """The scale that gives uniform `bits`-bit values the standard deviation `std`; 0..n-1 have sqrt((n^2-1)/12)."""
    n = 1 << bits
    return std / sqrt((n * n - 1) / 12)
