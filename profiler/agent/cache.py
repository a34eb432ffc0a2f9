"""The folder of weight files: written once per recipe, verified by size, the longest unused removed for room."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .folder import WEIGHTS
from .protocol import JobFailure, Json, read_json, write_json
from .weights import recipe_id, write_weights

DATA_FILE = "weights.bin"
DEFAULT_LIMIT_MIB = 8192
_RESERVE = 64 * 2**20
"""Bytes of the disk that we never fill."""


@dataclass(frozen=True)
class Placed:
    """A graph that stands beside its weights.

    Attributes:
        model: Path to open.
        size: Bytes of external data.
        cached: Whether the data was there already.
    """

    model: Path
    size: int
    cached: bool


class WeightCache:
    """`WORK/weights`. The lease makes us its only writer; what is no recipe id there is somebody else's."""

    def __init__(self, folder: Path, *, limit_mib: int = DEFAULT_LIMIT_MIB) -> None:
        self._folder = folder
        self._limit = limit_mib * 2**20
        self._in_use: set[str] = set()

    def place(self, graph: Path, recipe_file: Path) -> Placed:
        """Make sure that the weights of a recipe are on disk, put a copy of the graph beside them, and return its path.

        Raises:
            JobFailure: The recipe is wrong or the disk is full; nothing half-written is left.
        """
        recipe = read_json(recipe_file)
        try:
            size = int(recipe["size"])
            name = recipe_id(recipe)
        except (KeyError, TypeError, ValueError) as error:
            raise JobFailure("failed", f"{recipe_file.name} is no weight recipe: {error!r}") from error
        self._in_use.add(name)
        folder = self._folder / name
        cached = self._complete(folder, size)
        try:
            if cached:
                os.utime(folder / "done")
            else:
                shutil.rmtree(folder, ignore_errors=True)
                self._make_room(size)
                folder.mkdir(parents=True)
                self._write(recipe, folder, size)
            content = graph.read_bytes()
            model = folder / f"model-{hashlib.sha256(content).hexdigest()[:12]}.onnx"
            if not model.exists():
                temporary = model.with_suffix(".part")
                temporary.write_bytes(content)
                temporary.replace(model)
        except OSError as error:
            raise JobFailure("failed", f"{folder}: {error.strerror}") from error
        return Placed(model=model, size=size, cached=cached)

    @staticmethod
    def _write(recipe: Json, folder: Path, size: int) -> None:
        try:
            write_weights(recipe, folder / DATA_FILE)
            write_json(folder / "done", {"bytes": size})
        except (KeyError, TypeError, ValueError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise JobFailure("failed", f"the weight recipe cannot be carried out: {error!r}") from error
        except (JobFailure, OSError):
            shutil.rmtree(folder, ignore_errors=True)
            raise

    @staticmethod
    def _complete(folder: Path, size: int) -> bool:
        with contextlib.suppress(OSError):
            return (folder / "done").exists() and (folder / DATA_FILE).stat().st_size == size
        return False

    def _make_room(self, size: int) -> None:
        """Remove the longest unused entries until the new one fits the limit and the disk."""
        self._folder.mkdir(parents=True, exist_ok=True)
        ours = [entry for entry in self._folder.iterdir() if WEIGHTS.fullmatch(entry.name) and entry.is_dir()]
        entries = sorted((_last_use(entry), entry) for entry in ours)
        removable = [entry for _, entry in entries if entry.name not in self._in_use]
        total = sum(_size(entry) for _, entry in entries)
        while removable and (total + size > self._limit or self._free() < size + _RESERVE):
            entry = removable.pop(0)
            total -= _size(entry)
            shutil.rmtree(entry, ignore_errors=True)
        if (free := self._free()) < size + _RESERVE:
            needed = f"{math.ceil(size / 2**20)} MiB and {_RESERVE // 2**20} MiB to spare"
            room = f"the weights need {needed}, and {free // 2**20} MiB are free in {self._folder}"
            raise JobFailure("failed", f"disk full: {room}")

    def _free(self) -> int:
        return shutil.disk_usage(self._folder).free


def _last_use(entry: Path) -> float:
    try:
        return (entry / "done").stat().st_mtime
    except OSError:
        return 0.0  # never finished: the first to go


def _size(entry: Path) -> int:
    total = 0
    for path in entry.iterdir():
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total
