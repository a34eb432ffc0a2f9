"""Errors of archsearch.

ArchsearchError
├── ComparisonError a device could not compare blocks
├── StoreError      the database cannot be opened, read or written
└── StudyError      a study that cannot be begun or continued as asked
"""

from __future__ import annotations


class ArchsearchError(Exception):
    """Root of this package's errors.

    Attributes:
        hint: What to try next, one sentence, or None.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ComparisonError(ArchsearchError):
    """A device could not compare blocks; the message is its reason."""


class StoreError(ArchsearchError):
    """The store cannot be opened, read or written; what was committed before is unharmed."""


class StudyError(ArchsearchError):
    """A study that cannot be begun or continued as asked."""
