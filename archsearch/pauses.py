"""Without the collector of reference cycles while thousands of objects are made that all stay.

It would go through all of them again and again, for a third of the time, and find nothing. Afterwards it leaves them
alone (`gc.freeze`). What has no cycles is freed as ever, so nothing that is made meanwhile may have any.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_pauses = 0
_was_on = True


@contextmanager
def no_collection() -> Iterator[None]:
    """Pause it, unless somebody else did; several threads may pause it at the same time."""
    global _pauses, _was_on  # noqa: PLW0603 - as the collector is: one for the process
    with _lock:
        if not _pauses:
            _was_on = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if not _pauses and _was_on:
                gc.freeze()
                gc.enable()
