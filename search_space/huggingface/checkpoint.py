"""Trained weights of a known family, checked against a layout and given out by the names of our parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from search_space.errors import CheckpointError, ConfigError
from search_space.huggingface import CONFIG_NAME, Family, families, read_config
from search_space.huggingface._safetensors import Tensors
from search_space.huggingface._tensors import EMBEDDING, HEAD, Piece, Pieces, mapping
from search_space.layout import Layout

CHUNK_VALUES = 1 << 22
"""Values read at once: 16 MiB as float32."""

_PREFIXES = (
    ("model.", ""),  # the class of the language model
    ("model.language_model.", ""),  # inside a class that also sees
    ("language_model.model.", "language_model."),  # the same, as older checkpoints have it
    ("", ""),  # the model without its head
)
"""What stands before the names of the text model, and before the name of its head."""

_COMPUTED = ("rotary_emb.inv_freq", "embed_scale")
"""Endings of buffers in older checkpoints: what a model computes by itself."""

_MAX_NAMES = 5
Array = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedWeights:
    """The weights of a layout in an open checkpoint.

    Attributes:
        family: Whose names they have.
        ignored: Tensors outside the language model, counted by prefix.
    """

    family: Family
    ignored: Mapping[str, int]
    _tensors: Tensors
    _pieces: Pieces
    _prefix: tuple[str, str]

    def rows(self, parameter: str) -> Iterator[Array]:
        """The rows of one of our parameters, in order and some at a time, as float32.

        Raises:
            CheckpointError: A value is not finite.
        """
        for piece in self._pieces[parameter]:
            name = _full(piece.name, self._prefix)
            for start, stop in _ranges(piece):
                rows = self._tensors.rows(name, start, stop)
                if not np.isfinite(rows).all():
                    raise CheckpointError(f"{self._tensors.path}: tensor {name} has values that are not finite")
                yield rows + np.float32(piece.plus) if piece.plus else rows


@contextmanager
def open_checkpoint(path: Path, layout: Layout) -> Iterator[TrainedWeights]:
    """Open a checkpoint of a layout. Its family is that of the config.json beside it, or told by its tensors' names.

    Args:
        path: A .safetensors file, an index of shards, or a folder with either.
        layout: What the weights are for.

    Raises:
        CheckpointError: It cannot be read; its config is another layout; or tensors are missing, left over, of another
            shape, or of a type that is no float.
        ConfigError: The config beside it is not understood.
    """
    family = _family_beside(path, layout)
    with Tensors(path) as tensors:
        prefix = _prefix(tensors)
        family = family or _family_by_names(tensors, prefix, layout)
        pieces = mapping(layout, family.names)
        ignored = _check(tensors, prefix, pieces, layout, family)
        yield TrainedWeights(family=family, ignored=ignored, _tensors=tensors, _pieces=pieces, _prefix=prefix)


def _ranges(piece: Piece) -> Iterator[tuple[int, int]]:
    """Row ranges to read: few enough values at once, and only the halves that are meant."""
    if piece.groups:
        size = piece.shape[0] // (2 * piece.groups)
        blocks: Sequence[tuple[int, int]] = [
            ((2 * group + piece.half) * size, (2 * group + piece.half + 1) * size) for group in range(piece.groups)
        ]
    else:
        blocks = [(0, piece.shape[0])]
    step = max(1, CHUNK_VALUES // max(1, prod(piece.shape[1:])))
    for first, last in blocks:
        for start in range(first, last, step):
            yield start, min(last, start + step)


def _full(name: str, prefix: tuple[str, str]) -> str:
    return (prefix[1] if name == HEAD else prefix[0]) + name


def _prefix(tensors: Tensors) -> tuple[str, str]:
    for prefix in _PREFIXES:
        if _full(EMBEDDING, prefix) in tensors.shapes:
            return prefix
    raise CheckpointError(
        f"{tensors.path}: no tensor is called model.{EMBEDDING}: no language model that is known here"
    )


def _family_beside(path: Path, layout: Layout) -> Family | None:
    config = (path if path.is_dir() else path.parent) / CONFIG_NAME
    if not config.is_file():
        return None
    found = read_config(config)
    said = found.named.layout
    if said != layout:
        raise CheckpointError(
            f"{config} is layout {said.layout_id} ({said.code}), not {layout.layout_id} ({layout.code})",
            hint=f"give the folder itself as the layout: {config.parent}",
        )
    return found.family


def _family_by_names(tensors: Tensors, prefix: tuple[str, str], layout: Layout) -> Family:
    """The family that can express the layout and lacks the fewest tensors."""
    lacking: dict[str, int] = {}
    for kind, family in families().items():
        try:
            family.write(layout, context=1)
        except ConfigError:
            continue
        wanted = {_full(piece.name, prefix) for pieces in mapping(layout, family.names).values() for piece in pieces}
        lacking[kind] = len(wanted - tensors.shapes.keys())
    if not lacking:
        raise CheckpointError(
            f"{tensors.path}: no family here has both such a layout ({layout.layout_id}) and a checkpoint",
            hint=f"one of {', '.join(families())}; a config.json beside the file says which",
        )
    return families()[min(lacking, key=lambda kind: lacking[kind])]


def _check(tensors: Tensors, prefix: tuple[str, str], pieces: Pieces, layout: Layout, family: Family) -> dict[str, int]:
    """What is ignored by prefix; everything else must be there, of its shape, and once."""
    wanted = {_full(piece.name, prefix): piece.shape for group in pieces.values() for piece in group}
    missing = [name for name in wanted if name not in tensors.shapes]
    there = [name for name in wanted if name in tensors.shapes]
    wrong = [
        f"{name} {list(tensors.shapes[name])}, not {list(wanted[name])}"
        for name in there
        if tensors.shapes[name] != wanted[name]
    ]
    types = [problem for name in there if (problem := tensors.problem(name)) is not None]
    extra, ignored = [], dict[str, int]()
    for name in sorted(tensors.shapes.keys() - wanted.keys()):
        outside = next((p for p in family.names.vision if name.removeprefix("model.").startswith(p)), None)
        if outside is not None:
            ignored[outside] = ignored.get(outside, 0) + 1
        elif name == _full(HEAD, prefix) and layout.embedding.tied:
            if tensors.shapes[name] != wanted[_full(EMBEDDING, prefix)] or not _equal(tensors, name, prefix):
                extra.append(f"{name} (it is not the embedding, though the layout ties them)")
        elif not name.endswith(_COMPUTED):
            extra.append(name)
    problems = [
        f"{what}: {_listed(names)}"
        for what, names in (
            ("missing", missing), ("of another shape", wrong), ("of no float type", types), ("left over", extra),
        )
        if names
    ]  # fmt: skip
    if problems:
        raise CheckpointError(
            f"{tensors.path}: not the weights of layout {layout.layout_id} as {family.model_type} names them; "
            + "; ".join(problems)
        )
    return ignored


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _equal(tensors: Tensors, head: str, prefix: tuple[str, str]) -> bool:
    table = _full(EMBEDDING, prefix)
    if tensors.problem(head) or tensors.problem(table):
        return False
    whole = Piece(name=EMBEDDING, shape=tensors.shapes[table])
    return all(np.array_equal(tensors.rows(head, *part), tensors.rows(table, *part)) for part in _ranges(whole))
