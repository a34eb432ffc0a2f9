"""What a dashboard asks of whoever has the data. It knows no store, no device and no layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from reports.details import Details
from reports.snapshot import Snapshot

Key = tuple[str, str]
"""Of an entry of a ranking: layout id (or name) and precision."""


class Source(Protocol):
    """One study. Called from several threads at once."""

    def version(self) -> str:
        """Changes whenever the study does; quick."""

    def snapshot(self) -> Snapshot:
        """The study now: the same object while nothing has changed.

        Raises:
            Exception: It cannot be read; the message is shown.
        """

    def going_on(self) -> str:
        """What measures for it at this moment, in words; empty when nothing does."""

    def state_mib(self, context: int) -> Mapping[str, float]:
        """Carried state of one sequence at a context, by layout id."""

    def details(self, key: Key) -> Details:
        """Everything of one layout.

        Raises:
            LookupError: The study has no such layout.
        """

    def file(self, key: Key, name: str) -> bytes:
        """One of the files that `details` names.

        Raises:
            LookupError: There is none of that name.
        """


class Library(Protocol):
    """The studies that can be looked at."""

    def names(self) -> Sequence[str]:
        """Their names, the latest first."""

    def open(self, name: str) -> Source:
        """One of them.

        Raises:
            LookupError: There is none of that name.
        """
