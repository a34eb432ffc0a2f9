"""Errors of reports.

ReportError
├── UnknownNameError    a name that is no objective, column or format; lists those that are
├── BudgetError         a budget that cannot be read
└── RankingError        rows that cannot be ranked together
"""

from __future__ import annotations


class ReportError(Exception):
    """Root of this package's errors.

    Attributes:
        hint: What to try next, one sentence, or None.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UnknownNameError(ReportError):
    """A name that is not among the allowed ones."""


class BudgetError(ReportError):
    """A text such as ``peak_rss_mib<=1024`` that cannot be read."""


class RankingError(ReportError):
    """Rows that cannot be ranked together: nothing common to relate them to."""
