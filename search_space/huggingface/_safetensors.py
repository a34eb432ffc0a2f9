"""Reads safetensors files, one or several shards, a few rows at a time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from search_space.errors import CheckpointError
from search_space.layout_file import read_json
from search_space.wording import shown

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_FLOATS = ("F32", "F16", "BF16")


def checkpoint_files(path: Path) -> dict[Path, set[str] | None]:
    """The files of a checkpoint, each with the tensors that an index puts into it (None: all that it has).

    Args:
        path: A .safetensors file, an index, or a folder with `model.safetensors` or its index.

    Raises:
        CheckpointError: There is none, or the index names a file that is missing.
    """
    if path.is_dir():
        found = [path / name for name in (SINGLE, INDEX) if (path / name).is_file()]
        if not found:
            raise CheckpointError(f"{path}: no {SINGLE} and no {INDEX} in this folder")
        path = found[0]
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if path.suffix != ".json":
        return {path: None}
    index = read_json(path, CheckpointError)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise CheckpointError(f"{path}: not an index: it has no weight_map from tensors to files")
    files: dict[Path, set[str] | None] = {}
    for name, file in places.items():
        if Path(file).name != file:
            raise CheckpointError(f"{path}: tensor {shown(name)} is in {shown(file)}, which is no plain file name")
        tensors = files.setdefault(path.parent / file, set())
        assert tensors is not None
        tensors.add(name)
    for shard in files:
        if not shard.is_file():
            raise CheckpointError(f"{path}: the shard {shard.name} is missing in {shard.parent}")
    return files


class Tensors:
    """The tensors of a checkpoint. A context manager: files are open, and mapped, until its end.

    Attributes:
        path: What was opened.
        shapes: Shape of every tensor by name.

    Args:
        path: As for `checkpoint_files`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: Mapping[str, tuple[int, ...]] = {}
        self._slices: dict[str, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Tensors:
        from safetensors import SafetensorError, safe_open

        shapes: dict[str, tuple[int, ...]] = {}
        for file, indexed in checkpoint_files(self.path).items():
            try:
                opened = self._stack.enter_context(safe_open(str(file), framework="pt"))
                names = set(opened.keys())
            except (SafetensorError, OSError) as error:
                self._stack.close()
                raise CheckpointError(f"{file}: not a safetensors file, or a damaged one ({error})") from error
            if indexed is not None and not indexed <= names:
                self._stack.close()
                raise CheckpointError(f"{file}: lacks {sorted(indexed - names)[0]}, which the index puts there")
            for name in names:
                if name in shapes:
                    self._stack.close()
                    raise CheckpointError(f"{file}: tensor {name} is in another shard too")
                self._slices[name] = opened.get_slice(name)
                shapes[name] = tuple(self._slices[name].get_shape())
        self.shapes = shapes
        return self

    def __exit__(self, *_: object) -> None:
        self._slices.clear()
        self._stack.close()

    def problem(self, name: str) -> str | None:
        """Why a tensor's values cannot be read, or None."""
        dtype = self._slices[name].get_dtype()
        return None if dtype in _FLOATS else f"{name} is {dtype}; supported: {', '.join(_FLOATS)}"

    def rows(self, name: str, start: int, stop: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Rows `start` to `stop` of a tensor as float32."""
        values: np.ndarray[Any, np.dtype[np.float32]] = self._slices[name][start:stop].float().numpy()
        return values
