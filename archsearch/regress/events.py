"""Events of nights, read so that one that is damaged, or of a newer version, is passed over and can be counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from archsearch.regress.notes import ACCEPTED, LOST, NIGHT, STUDY, Plan
from archsearch.regress.runtime_notes import COMPARED, UNCOMPARED
from archsearch.store import Store
from profiler.errors import WorkloadError
from reports.nights import Acceptance

_DAMAGED: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError, WorkloadError)
T = TypeVar("T")


def plan_of(event: Mapping[str, Any]) -> Plan | None:
    """What a night was to measure; None for what `Plan.to_json` did not write."""
    return _read(Plan.from_json, event)


def loss_of(event: Mapping[str, Any]) -> tuple[tuple[float, str], str] | None:
    """Night and device, and the reason for which it could not be used; None for what is no such event."""
    return _read(
        lambda data: ((_finite(data["night"]), _text(data["device"])), _text(data["reason"])), event
    )  # fmt: skip


def acceptance_of(event: Mapping[str, Any]) -> tuple[str, Acceptance] | None:
    """A series' key and what was accepted for it; None for what is no such event."""
    return _read(_accepted, event)


def comparison_of(event: Mapping[str, Any]) -> tuple[float, str, tuple[str, str]] | None:
    """When two runtimes were compared, of what suite, and which; None for what is no such event."""
    return _read(_compared, event)


def comparison_loss_of(event: Mapping[str, Any]) -> tuple[float, str, str] | None:
    """Comparison, device, and the reason for which it could not be used; None for what is no such event."""
    return _read(
        lambda data: (_finite(data["compared"]), _text(data["device"]), _text(data["reason"])), event
    )  # fmt: skip


def damaged(store: Store) -> int:
    """How many events of nights and comparisons are passed over.

    Raises:
        StoreError: They cannot be read.
    """
    readers: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
        NIGHT: plan_of, LOST: loss_of, ACCEPTED: acceptance_of, COMPARED: comparison_of, UNCOMPARED: comparison_loss_of,
    }  # fmt: skip
    return sum(reader(event) is None for kind, reader in readers.items() for _, _, event in store.events(STUDY, kind))


def _read(reader: Callable[[Mapping[str, Any]], T], event: Mapping[str, Any]) -> T | None:
    try:
        return reader(event)
    except _DAMAGED:
        return None


def _accepted(event: Mapping[str, Any]) -> tuple[str, Acceptance]:
    pinned = event.get("pinned")
    return _text(event["series"]), Acceptance(
        time=_finite(event["time"]), reason=_text(event["reason"]), by=_text(event["by"]),
        pinned=None if pinned is None else _finite(pinned),
    )  # fmt: skip


def _compared(event: Mapping[str, Any]) -> tuple[float, str, tuple[str, str]]:
    a, b = event["runtimes"]
    return _finite(event["compared"]), _text(event["suite"]), (_text(a), _text(b))


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(value):
        raise ValueError("no finite number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
