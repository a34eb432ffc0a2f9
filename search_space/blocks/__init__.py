"""The registry of blocks: every module of this folder that does not start with an underscore, and plug-ins.

A plug-in is a class that an installed package names in the entry-point group ``archsearch.blocks``. What fails to
import is an error, never skipped: a search that silently lacks a block compares the wrong things.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points

from search_space.blocks._base import (
    ADDED_LATER,
    EXPORTED,
    Block,
    Dim,
    FeedForward,
    Lowering,
    Mixer,
    StateSpec,
    added_later,
    positive,
    small_fraction,
)
from search_space.errors import SearchSpaceError

__all__ = [
    "ADDED_LATER",
    "EXPORTED",
    "PLUGINS",
    "Block",
    "Dim",
    "FeedForward",
    "Lowering",
    "Mixer",
    "StateSpec",
    "added_later",
    "blocks_by_kind",
    "feed_forwards",
    "letter_colors",
    "mixers",
    "mixers_by_letter",
    "positive",
    "register",
    "small_fraction",
]

PLUGINS = "archsearch.blocks"
"""Entry-point group in which an installed package names its blocks: ``my_block = "my_package.my_block:MyBlock"``."""

_extra: list[type[Block]] = []


def register(block: type[Block]) -> type[Block]:
    """Add a block that lives outside this folder (a plug-in, a test); usable as a class decorator.

    Raises:
        SearchSpaceError: Its kind or letter is taken, or it cannot be named in files, codes and tables.
    """
    _extra.append(block)
    _all_blocks.cache_clear()
    try:
        _all_blocks()
    except SearchSpaceError:
        _extra.remove(block)
        _all_blocks.cache_clear()
        raise
    return block


@cache
def _all_blocks() -> dict[str, type[Block]]:
    found: dict[str, type[Block]] = {}
    letters: dict[str, str] = {}
    classes: list[type[Block]] = []
    for info in pkgutil.iter_modules(__path__):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"{__name__}.{info.name}")
            classes += [
                value
                for value in vars(module).values()
                if isinstance(value, type)
                and issubclass(value, Block)
                and value.__module__ == module.__name__
                and hasattr(value, "kind")
            ]
    for block in [*classes, *_plugins(), *_extra]:
        if problem := _problem(block):
            raise SearchSpaceError(f"block {block.__module__}.{block.__qualname__}: {problem}")
        if block.kind in found:
            raise SearchSpaceError(f"two blocks call themselves {block.kind!r}: {found[block.kind]} and {block}")
        found[block.kind] = block
        if issubclass(block, Mixer):
            if block.letter in letters:
                raise SearchSpaceError(
                    f"blocks {letters[block.letter]!r} and {block.kind!r} share letter {block.letter}"
                )
            letters[block.letter] = block.kind
    return found


def _problem(block: type[Block]) -> str | None:
    """Why a block cannot be named in files, codes and tables; None when it can."""
    wanted = {"kind": (r"[a-z][a-z0-9_]*", "a word such as short_conv"), "title": (r".*\S.*", "text")}
    if issubclass(block, Mixer):
        wanted |= {"letter": (r"[A-Z]", "one capital letter"), "color": (r"#[0-9a-fA-F]{6}", "of the form #1f77b4")}
    for name, (pattern, words) in wanted.items():
        value = getattr(block, name, None)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            return f"its {name} is {value!r}; it must be {words}"
    return None


def _plugins() -> Iterator[type[Block]]:
    """The blocks of installed packages.

    Raises:
        SearchSpaceError: One of them does not load, or is no block.
    """
    for entry in sorted(entry_points(group=PLUGINS), key=lambda entry: entry.name):
        package = f" of package {entry.dist.name}" if entry.dist is not None else ""
        what = f"block plug-in {entry.name} = {entry.value!r}{package}"
        try:
            block = entry.load()
        except Exception as error:  # a plug-in's own code runs here
            raise SearchSpaceError(
                f"{what} does not load: {type(error).__name__}: {error}", hint="repair or uninstall that package"
            ) from error
        if not (isinstance(block, type) and issubclass(block, Mixer | FeedForward) and hasattr(block, "kind")):
            raise SearchSpaceError(f"{what} is no block: name a subclass of Mixer or FeedForward that has a kind")
        yield block


def blocks_by_kind() -> Mapping[str, type[Block]]:
    """All blocks, mixers and feed-forward networks."""
    return _all_blocks()


def mixers() -> dict[str, type[Mixer]]:
    """Mixer classes by kind."""
    return {kind: block for kind, block in _all_blocks().items() if issubclass(block, Mixer)}


def mixers_by_letter() -> dict[str, type[Mixer]]:
    """Mixer classes by code letter."""
    return {block.letter: block for block in mixers().values()}


def letter_colors() -> dict[str, str]:
    """The colour of every mixer, plug-ins too, by its letter."""
    return {letter: mixer.color for letter, mixer in mixers_by_letter().items()}


def feed_forwards() -> dict[str, type[FeedForward]]:
    """Feed-forward classes by kind."""
    return {kind: block for kind, block in _all_blocks().items() if issubclass(block, FeedForward)}
