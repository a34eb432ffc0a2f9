"""Who is told how a study goes, and what is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from profiler.results import JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a study is.

    Attributes:
        done: Candidates that were measured or found unable to run.
        left_s: How long the wanted candidates will still take, or None while that cannot be said.
        best: The best candidate so far in each measured objective, in words.
    """

    done: int
    left_s: float | None
    best: tuple[str, ...]


class Observer(Protocol):
    """Told by the study's own thread, but for `device`, `idle` and `say`, which device threads call too."""

    def say(self, line: str) -> None:
        """Something worth a line happened."""

    def device(self, name: str, label: str, status: JobStatus | None) -> None:
        """A device reported what it does."""

    def idle(self, name: str) -> None:
        """A device has nothing to do."""

    def settled(self, standing: Standing) -> None:
        """A candidate was measured."""
