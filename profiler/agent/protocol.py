"""Names, numbers and JSON files that the agent's processes and the host agree on."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

Json = dict[str, Any]

METHOD = "archsearch-6"
"""Name of the way of measuring. Any change to what is timed or counted gets a new one: it separates series."""

FORMAT = 1
"""Version of job.json and result.json."""

P95_SAMPLES = 130
"""Decode samples that a 95th percentile needs at 99% confidence (MLPerf early stopping)."""

PROCESS_SECONDS = ("start", "load", "warmup", "timed", "check", "profile", "other")
JOB_SECONDS = (
    "waiting", "weights", "start", "load", "warmup", "timed", "check", "profile", "memory", "other", "total",
)  # fmt: skip

PROTOCOL_DEFAULTS: dict[str, Any] = {
    "min_processes": 3,
    "max_processes": 6,
    "target_half_width": 0.02,
    "time_budget_s": 30.0,
    "min_repeats": 2,
    "max_repeats": 8,
    "warmup_tolerance": 0.03,
    "max_warmups": 5,
    "max_other_cpu": 0.10,
    "memory_pass": True,
    "profile": False,
    "seed": 0,
}


_MEMORY_WORDS = ("bad_alloc", "bad alloc", "failed to allocate", "out of memory", "available memory", "cannot allocate")


def is_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed: of the device's moment, and not of a graph."""
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in _MEMORY_WORDS)


class JobFailure(Exception):  # noqa: N818 - an outcome of a job, not a bug
    """The job ends with a status other than ok.

    Attributes:
        status: One of the result's statuses.
        reason: One or two lines for a person.
        record: What the worker had recorded until then.
    """

    def __init__(self, status: str, reason: str, record: Json | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.record: Json = record or {}


def read_json(path: Path) -> Json:
    """Read a JSON object.

    Raises:
        JobFailure: The file is missing, unreadable or no object; the reason names it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        raise JobFailure("failed", f"{path.name} cannot be read: {what}") from error
    if not isinstance(value, dict):
        raise JobFailure("failed", f"{path.name} holds no JSON object")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write a file that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(finite(value), allow_nan=False), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def finite(value: Any) -> Any:
    """The same value with null in place of NaN and infinities, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def one_line(error: BaseException | str, limit: int = 400) -> str:
    """An error's text on one line, cut to `limit` characters, with its type where the text alone says little."""
    if isinstance(error, BaseException):
        text = str(error).strip()
        name = type(error).__name__
        text = name if not text else text if isinstance(error, (JobFailure, OSError)) else f"{name}: {text}"
    else:
        text = error
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
