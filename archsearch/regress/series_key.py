"""What makes two nightly measurements nights of one series: what is asked for, and under what.

Threads, cores, providers and lowerings are not in it. They are what a series was measured with: when one of them makes
it slower, that is a regression, and the verdict names it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from profiler.workloads import Point


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesKey:
    """Identity of a series; `text` is `reports.nights.Series.key`, and `parse` its inverse.

    Attributes:
        device: Name of the device.
        item: Name of the thing in its suite.
        anchor: Whether it is an anchor of the device.
        precision: Storage of the weights; ``file`` for a file from elsewhere.
        point: Which point of the workload, as `Point.to_list`.
        quantity: Name of the quantity.
        identity: Layout id, or sha256 of a file.
        points: All that are timed together: the longest decides how long a cache is.
        seed: Of the weights.
        fingerprint: Of the device and its fixed conditions.
        runtime_version: Of ONNX Runtime there.
        method: Of the measuring code.
    """

    device: str
    item: str
    anchor: bool
    precision: str
    point: tuple[int, ...]
    quantity: str
    identity: str
    points: tuple[tuple[int, ...], ...]
    seed: int
    fingerprint: str
    runtime_version: str
    method: str

    @property
    def text(self) -> str:
        """Canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `text`."""
        data: dict[str, Any] = json.loads(text)
        data["point"] = tuple(data["point"])
        data["points"] = tuple(map(tuple, data["points"]))
        return cls(**data)

    @property
    def id(self) -> str:
        """A short name, for command lines: 10 hex digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:10]

    @property
    def workload(self) -> str:
        """The point for people: ``256/32``."""
        return Point.from_list(self.point).text

    @property
    def label(self) -> str:
        """What is measured, for people and for globs: ``lfm2.5-350m 256/32 int4``."""
        return f"{self.item} {self.workload} {self.precision}" + (" (anchor)" if self.anchor else "")

    @property
    def place(self) -> tuple[Any, ...]:
        """What a reader takes for the same thing: series of one place follow each other when their key changes."""
        return (self.device, self.item, self.anchor, self.precision, self.point, self.quantity)
