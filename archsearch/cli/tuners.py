"""What chooses lowerings, for every command that measures layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from archsearch.cli.studies import BLOCKS_STUDY, open_store

if TYPE_CHECKING:
    from archsearch.tuning import Tuner
    from profiler.runner import DeviceSession


@contextmanager
def open_tuners(
    sessions: Sequence[DeviceSession],
    *,
    store: str | None,
    runs: Path,
    cancel: Event,
    say: Callable[[str], None],
    exact: bool = True,
) -> Iterator[dict[str, Tuner]]:
    """A tuner for each device, by its name; comparisons of kernels are kept in a study of their own.

    `exact` is as in `Tuner`.

    Raises:
        StoreError: That study cannot be opened.
    """
    from archsearch.measuring import Measurer
    from archsearch.tuning import TUNING_PROTOCOL, Tuner

    with open_store(BLOCKS_STUDY, store=store, runs=runs, create=True) as database:
        database.create_study(BLOCKS_STUDY, {"format": 1, "blocks": True})
        yield {
            session.device.name: Tuner(
                Measurer(session, database, study=BLOCKS_STUDY, protocol=TUNING_PROTOCOL, cancel=cancel, say=say),
                say,
                exact=exact,
            )
            for session in sessions
        }
