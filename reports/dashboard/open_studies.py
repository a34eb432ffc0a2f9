"""The studies that pages look at, each opened once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, TypeVar

from reports.dashboard.board import Asked, Board, Boards
from reports.dashboard.source import Library, Source

Made = TypeVar("Made")


class OpenStudies:
    """Sources and rankings by the study's name; used from several threads."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = Lock()
        self._open: dict[str, Boards] = {}
        self._latest: tuple[Board, str, Any] | None = None
        self._making = Lock()

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

    def once(self, board: Board, how: str, make: Callable[[], Made]) -> Made:
        """What `make` makes of a board, or what it made when that was asked for just before.

        A page asks for its front twice while it opens, for the still picture and for itself.

        Args:
            board: Of which.
            how: All else that it depends on.
            make: Makes it; nobody may change what it returns.
        """
        with self._making:
            if self._latest is None or self._latest[0] is not board or self._latest[1] != how:
                self._latest = (board, how, make())
            made: Made = self._latest[2]
            return made
