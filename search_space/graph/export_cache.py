"""Exported modules, kept by what they are made from: an export takes seconds, and a search asks for it at each layout.

In memory, and as files below the user's cache folder (``$XDG_CACHE_HOME/archsearch/exported``): the ONNX model of a
module without its weights, behind its own hash. Only ONNX is read back; a file that is not whole is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import onnx_ir as ir

from search_space.blocks._base import Block, StateSpec
from search_space.blocks._counted import without_values
from search_space.graph import torch_export
from search_space.graph.builder import OPSET

_HASH_BYTES = 32


def cache_folder() -> Path:
    """Where exported modules are kept: by the XDG base directory specification, which ignores relative paths."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    return base / "archsearch" / "exported"


@lru_cache(maxsize=256)
def exported_model(block: Block, width: int, states: tuple[StateSpec, ...]) -> ir.Model:
    """The exported module of a block (see `torch_export.export_module`); the same object every time: leave it as it is.

    Raises:
        ExportError: It cannot be exported.
    """
    key = _key(block, width, states)
    path = None if key is None else cache_folder() / f"{block.kind}-{key}.onnx"
    found = None if path is None else _read(path)
    if found is not None:
        return found
    data = ir.to_proto(torch_export.export_module(block, width, states)).SerializeToString(deterministic=True)
    if path is not None:
        with suppress(OSError):  # a folder that cannot be written: the export is made once per process
            _write(path, data)
    return _parsed(data)


def _key(block: Block, width: int, states: tuple[StateSpec, ...]) -> str | None:
    """A hash of all that an export is made from; None when the block's source is not a file that says it all.

    A class made by a function, or typed into a session, may mean anything under the same name.
    """
    cls = type(block)
    if _by_name(cls) is not cls:
        return None
    sources = _sources(block, width)
    if sources is None:
        return None
    made_from = {
        "block": f"{cls.__module__}.{cls.__qualname__}",
        "fields": {field.name: repr(getattr(block, field.name)) for field in fields(block)},
        "width": width,
        "states": repr(states),
        "sources": sources,
        "opset": OPSET,
        "versions": {name: version(name) for name in ("torch", "onnxscript", "onnx-ir")},
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]


def _by_name(cls: type) -> object:
    """What stands at a class's own address."""
    found: object = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found


def _sources(block: Block, width: int) -> dict[str, str] | None:
    """Hashes of the files that say what the block's torch module computes, by module name; None if one has no file.

    These are the modules of the block's class and of every part of its torch module, and what these import from their
    own packages. Torch is told by its version.
    """
    parts = without_values(block, width).modules()
    classes = {*type(block).__mro__, *(base for part in parts for base in type(part).__mro__)}
    waiting = {cls.__module__ for cls in classes} | {torch_export.__name__}
    found: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        package = name.partition(".")[0]
        if name in found or package == "torch" or package in sys.stdlib_module_names:
            continue
        file = getattr(sys.modules.get(name), "__file__", None)
        try:
            found[name] = hashlib.sha256(Path(file or "").read_bytes()).hexdigest()
        except OSError:
            return None
        waiting |= {other for other in _named_in(sys.modules[name]) if other.partition(".")[0] == package}
    return found


def _named_in(module: ModuleType) -> Iterator[str]:
    """Modules that a module's global names come from."""
    for value in vars(module).values():
        if isinstance(value, ModuleType):
            yield value.__name__
        elif isinstance(name := getattr(value, "__module__", None), str):
            yield name


def _read(path: Path) -> ir.Model | None:
    """A kept export; None when there is none, or when it is not what was written."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    told, data = content[:_HASH_BYTES], content[_HASH_BYTES:]
    return _parsed(data) if hashlib.sha256(data).digest() == told else None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        file.write(hashlib.sha256(data).digest() + data)
    Path(file.name).replace(path)


def _parsed(data: bytes) -> ir.Model:
    import onnx

    model: ir.Model = ir.from_proto(onnx.load_from_string(data))
    return model
