"""Recipes become the same bytes everywhere, quickly, or nothing at all."""

from __future__ import annotations

import errno
import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.agent.protocol import JobFailure
from profiler.agent.weights import CHUNK_WORDS, raw_words, recipe_id, tensor_values, write_weights


def tensor(dtype: str, shape: list[int], fill: dict[str, Any], offset: int = 0) -> dict[str, Any]:
    return {"name": "t", "dtype": dtype, "shape": shape, "offset": offset, "fill": fill}


def test_the_stream_never_changes() -> None:
    assert raw_words(12345, 2).tolist() == [3527068094297800258, 5648030432468382359]
    fill = {"kind": "uniform", "seed": 2**63 + 5, "low": -0.25, "high": 0.5}
    values = tensor_values(tensor("float32", [100_001], fill))
    digest = "331d34dc0d66e7a1"
    assert hashlib.sha256(values.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("count", [1, 7, CHUNK_WORDS - 1, CHUNK_WORDS, CHUNK_WORDS + 1, 3 * CHUNK_WORDS + 5])
def test_uniform_follows_its_formula(count: int) -> None:
    low, high = -0.1, 0.3
    values = tensor_values(tensor("float32", [count], {"kind": "uniform", "seed": 9, "low": low, "high": high}))
    words = raw_words(9, (count + 1) // 2).view("<u4")[:count]
    u = (words >> 8).astype(np.float32) * np.float32(2**-24)
    expected = np.float32(low) + u * (np.float32(high) - np.float32(low))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, expected)
    half = tensor_values(tensor("float16", [count], {"kind": "uniform", "seed": 9, "low": low, "high": high}))
    np.testing.assert_array_equal(half, expected.astype(np.float16))


@pytest.mark.parametrize("count", [1, 9, CHUNK_WORDS * 8 + 3])
def test_bytes_are_the_raw_stream(count: int) -> None:
    values = tensor_values(tensor("uint8", [count], {"kind": "bytes", "seed": 4}))
    np.testing.assert_array_equal(values, raw_words(4, (count + 7) // 8).view(np.uint8)[:count])


def test_constants_literals_and_rotary_tables() -> None:
    assert (tensor_values(tensor("float16", [CHUNK_WORDS + 3], {"kind": "constant", "value": 1.5})) == 1.5).all()
    values = tensor_values(tensor("float32", [2, 2], {"kind": "values", "values": [1, 2, 3, 4]}))
    assert values.tolist() == [[1, 2], [3, 4]]
    shape = [3000, 32]
    angles = np.arange(3000)[:, None] * 1e6 ** (-2 * np.arange(32) / 64)
    for part, function in (("cos", np.cos), ("sin", np.sin)):
        table = tensor_values(tensor("float32", shape, {"kind": "rope", "part": part, "theta": 1e6, "rotary_dim": 64}))
        np.testing.assert_allclose(table, function(angles), atol=1e-6)


@pytest.mark.parametrize(
    ("scaling", "slowed"),
    [
        ({"kind": "linear", "factor": 8.0}, lambda f: f / 8),
        # Llama 3.2: below 1 turn in 8,192 tokens all of 32, above 4 turns none, between them a weighted mean
        (
            {"kind": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_context": 8192},
            lambda f: f if 8192 * f / (2 * math.pi) > 4 else f / 32 if 8192 * f / (2 * math.pi) < 1 else (
                (1 - (s := (8192 * f / (2 * math.pi) - 1) / 3)) * f / 32 + s * f
            ),
        ),
    ],
)  # fmt: skip
def test_rotary_tables_of_stretched_contexts(scaling: dict[str, Any], slowed: Callable[[float], float]) -> None:
    frequencies = [slowed(5e5 ** (-2 * i / 64)) for i in range(32)]
    fill = {"kind": "rope", "part": "sin", "theta": 5e5, "rotary_dim": 64, "scaling": scaling}
    table = tensor_values(tensor("float32", [9000, 32], fill))
    np.testing.assert_allclose(table, np.sin(np.outer(np.arange(9000), frequencies)), rtol=0, atol=1e-6)
    with pytest.raises(JobFailure, match="rope scaling 'yarn' does not exist"):
        tensor_values(tensor("float32", [2, 32], fill | {"scaling": {"kind": "yarn", "factor": 2.0}}))


def test_the_file_holds_every_tensor_at_its_offset_and_zeros_between(tmp_path: Path) -> None:
    tensors = [
        tensor("float32", [3], {"kind": "uniform", "seed": 1, "low": 0, "high": 1}, offset=4096),
        tensor("uint8", [5], {"kind": "bytes", "seed": 2}, offset=64),
    ]
    write_weights({"format": 1, "size": 5000, "tensors": tensors}, tmp_path / "w")
    data = (tmp_path / "w").read_bytes()
    assert len(data) == 5000
    assert data[64:69] == tensor_values(tensors[1]).tobytes()
    assert data[4096:4108] == tensor_values(tensors[0]).tobytes()
    assert not any(data[:64] + data[69:4096] + data[4108:])


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ([tensor("float32", [3], {"kind": "values", "values": [1]})], "1 values, not 3"),
        ([tensor("float64", [3], {"kind": "constant", "value": 1})], "float64"),
        ([tensor("uint8", [3], {"kind": "uniform", "seed": 1, "low": 0, "high": 1})], "uniform"),
        ([tensor("uint8", [3], {"kind": "bytes", "seed": 1}, offset) for offset in (0, 2)], "overlaps"),
        ([tensor("uint8", [30], {"kind": "bytes", "seed": 1})], "size is smaller"),
    ],
)  # fmt: skip
def test_a_wrong_recipe_leaves_nothing(tmp_path: Path, tensors: list[Any], said: str) -> None:
    with pytest.raises(JobFailure, match=said):
        write_weights({"format": 1, "size": 16, "tensors": tensors}, tmp_path / "w")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    written = []

    def full(descriptor: int, data: Any) -> int:
        written.append(len(data))
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:1000])

    monkeypatch.setattr(os, "write", full)
    order = {"format": 1, "size": 5000, "tensors": [tensor("uint8", [5000], {"kind": "bytes", "seed": 1})]}
    with pytest.raises(JobFailure, match="No space left"):
        write_weights(order, tmp_path / "w")
    assert not list(tmp_path.iterdir())


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:777]))
    order = {"format": 1, "size": 5000, "tensors": [tensor("uint8", [5000], {"kind": "bytes", "seed": 1})]}
    write_weights(order, tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == tensor_values(order["tensors"][0]).tobytes()


def test_the_id_is_of_the_content_not_of_its_spelling() -> None:
    assert recipe_id({"a": 1, "b": [2]}) == recipe_id({"b": [2], "a": 1})
    assert recipe_id({"a": 1}) != recipe_id({"a": 2})


@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=3), axis=st.integers(0, 2),
    ends=st.tuples(*[st.integers(0, 40)] * 2), dtype=st.sampled_from(["float32", "uint8"]),
)  # fmt: skip
def test_a_part_of_a_matrix_has_the_values_of_the_whole(shape: list[int], axis: int, ends: tuple[int, int], dtype: str):
    axis %= len(shape)
    start, stop = sorted(min(end, shape[axis]) for end in ends)
    fill: dict[str, Any] = {"kind": "bytes", "seed": 5}
    if dtype == "float32":
        fill = {"kind": "uniform", "seed": 5, "low": -1.0, "high": 1.0}
    whole = tensor_values({"dtype": dtype, "shape": shape, "fill": fill})
    cut = {"kind": "cut", "fill": fill, "shape": shape, "axis": axis, "start": start}
    part = [*shape[:axis], stop - start, *shape[axis + 1 :]]
    found = tensor_values({"dtype": dtype, "shape": part, "fill": cut})
    np.testing.assert_array_equal(found, whole.take(range(start, stop), axis))


def test_a_part_across_chunks_and_one_that_is_none():
    fill = {"kind": "uniform", "seed": 5, "low": -1.0, "high": 1.0}
    shape = [700, CHUNK_WORDS // 300]
    whole = tensor_values({"dtype": "float32", "shape": shape, "fill": fill})
    for axis, start, size in ((0, 13, 600), (1, 7, 100)):
        cut = {"kind": "cut", "fill": fill, "shape": shape, "axis": axis, "start": start}
        part = [size, shape[1]] if axis == 0 else [shape[0], size]
        found = tensor_values({"dtype": "float32", "shape": part, "fill": cut})
        np.testing.assert_array_equal(found, whole.take(range(start, start + size), axis))
    for wrong in ({"start": 650}, {"start": -1}, {"shape": [700, 3]}):
        cut = {"kind": "cut", "fill": fill, "shape": shape, "axis": 0, "start": 0, **wrong}
        with pytest.raises(JobFailure, match="is no part of a tensor"):
            tensor_values({"dtype": "float32", "shape": [100, shape[1]], "fill": cut})
