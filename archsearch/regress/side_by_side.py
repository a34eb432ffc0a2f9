"""Devices at work at the same time, each in a thread of its own: one that is lost takes nothing from the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event

from archsearch.measuring import Interrupted
from profiler.errors import ProfilerError


def side_by_side(
    work: Mapping[str, Callable[[], None]],
    *,
    cancel: Event,
    losing: tuple[type[ProfilerError], ...],
    lost: Callable[[str, ProfilerError], None],
) -> bool:
    """Do each device's work; returns once none is at work any more.

    Args:
        work: By device, at least one. It looks at `cancel` and raises `Interrupted` then.
        cancel: Set here when the work of one fails for another reason: the others would measure for nobody.
        losing: What a device raises that is lost.
        lost: Told of each, in the calling thread; what it raises counts as the device's.

    Returns:
        Whether the user stopped it.

    Raises:
        Exception: The first that was none of these.
    """
    interrupted = False
    failure: Exception | None = None
    with ThreadPoolExecutor(max_workers=len(work), thread_name_prefix="device") as threads:
        names = {threads.submit(one): name for name, one in work.items()}
        for future in as_completed(names):
            try:
                try:
                    future.result()
                except losing as error:
                    if cancel.is_set():  # it may have been given up because of that
                        raise Interrupted from error
                    lost(names[future], error)
            except Interrupted:
                interrupted = True
            except Exception as error:  # noqa: BLE001 - raised below, once no device measures for nobody
                failure = failure or error
                cancel.set()
    if failure is not None:
        raise failure
    return interrupted
