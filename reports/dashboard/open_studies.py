"""The studies that pages look at, each opened once."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

from reports.dashboard.board import Asked, Board, Boards
from reports.dashboard.source import Library, Source


class OpenStudies:
    """Sources and rankings by the study's name; used from several threads."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = Lock()
        self._open: dict[str, Boards] = {}

    def names(self) -> list[str]:
        """Names of all studies, the latest first."""
        return list(self._library.names())

    def boards(self, study: str) -> Boards:
        """Rankings of a study.

        Raises:
            LookupError: There is none of that name.
        """
        with self._lock:
            if study not in self._open:
                self._open[study] = Boards(self._library.open(study))
            return self._open[study]

    def source(self, study: str) -> Source:
        """A study itself."""
        return self.boards(study).source

    def board(self, drawn: Mapping[str, Any]) -> Board:
        """The ranking that a page has on the screen, as its store `drawn` describes it."""
        limits = tuple(sorted((str(name), float(limit)) for name, limit in drawn["limits"].items()))
        asked = Asked(
            scope=drawn["scope"], x=drawn["x"], y=drawn["y"], of=drawn["of"], context=drawn["context"] or None,
            limits=limits,
        )  # fmt: skip
        return self.boards(drawn["study"]).board(asked)
