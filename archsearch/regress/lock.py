"""One night at a time in a store: a claim of it, as measurements have, with a sign of life while the night lasts.

A claim works alike for SQLite and for servers, on one host and across several. The claim of a process that died is
taken over: at once where that can be seen, else after `archsearch.owners.STALE_S` of silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from archsearch.errors import ArchsearchError, StoreError
from archsearch.owners import STALE_S
from archsearch.store import Store
from profiler.jobs import new_job_id

_KEY = "regress night"
"""Of the claim. Unlike those of fresh measurements, which a device's sweep ends, it has no '-'."""
_LOOK_S = 0.5


class NightAtWork(ArchsearchError):  # noqa: N818 - a state of the store, not a mistake
    """Another run measures a night into the same store."""


class Stopped(Exception):  # noqa: N818 - the user's wish, not an error
    """The user stopped waiting."""


@contextmanager
def only_night(
    store: Store, *, wait_s: float, cancel: Event, say: Callable[[str], None], look_s: float = _LOOK_S
) -> Iterator[None]:
    """Hold the store's night; wait for another run to end.

    Args:
        store: Where nights are kept.
        wait_s: How long to wait; 0 to look once.
        cancel: Set from outside to stop waiting.
        say: Told that it waits.
        look_s: Pause between two looks.

    Raises:
        NightAtWork: The other run did not end in time.
        Stopped: `cancel` was set.
        StoreError: The store cannot be written.
    """
    deadline = time.monotonic() + wait_s
    told = False
    while not (claim := store.claim(_KEY, new_job_id("night"))).mine:
        if time.monotonic() >= deadline:
            raise NightAtWork(
                f"another run measures a night into {store.where} ({claim.owner})",
                hint="--wait 2h waits for it to end",
            )
        if not told:
            told = True
            say(f"another run ({claim.owner}) measures a night into this store; waiting for it to end")
        if cancel.wait(min(look_s, max(0.0, deadline - time.monotonic()))):
            raise Stopped
    ended = Event()
    beating = Thread(target=_beat, args=(store, ended), name="night", daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        with suppress(StoreError):  # of one that is full or gone; the claim ends with this process
            store.release(_KEY)


def _beat(store: Store, ended: Event) -> None:
    while not ended.wait(STALE_S / 6):
        with suppress(StoreError):  # it may be readable again the next time
            store.beat(_KEY)
