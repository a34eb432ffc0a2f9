"""Errors of search_space.

SearchSpaceError
├── LayoutError      a layout that cannot exist: which field is wrong and what would be right
├── NotationError    text that should name a layout and does not
├── SpaceError       a space file that is wrong, or empty
├── ExportError      a layout that exists but that this graph form cannot express
├── ConfigError      a Hugging Face config that is no layout here, or a layout that is no such config
└── CheckpointError  trained weights that are not those of the layout, or cannot be read
"""

from __future__ import annotations


class SearchSpaceError(Exception):
    """Root of this package's errors.

    Attributes:
        hint: What to try next, one sentence, or None.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class LayoutError(SearchSpaceError):
    """A layout whose fields contradict each other or lie outside their range."""


class NotationError(SearchSpaceError):
    """A text that names no anchor, file or layout code."""


class SpaceError(SearchSpaceError):
    """A space file with mistakes, or a space in which no layout meets the constraints."""


class ExportError(SearchSpaceError):
    """A layout that cannot be written as the graph that was asked for."""


class ConfigError(SearchSpaceError):
    """A Hugging Face config that no layout can express, or a layout that no config can."""


class CheckpointError(SearchSpaceError):
    """A checkpoint that cannot be read, or whose tensors are not those of the layout."""
