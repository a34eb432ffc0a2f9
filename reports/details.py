"""One layout of a study, closely: what the dashboard shows beside its ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reports.values import Row

SampleKind = Literal["counts", "warm-up", "discarded: others used the device"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sequence as it was timed: a prefill and single steps.

    Attributes:
        process: Index of the fresh process that it ran in.
        kind: Whether it counts, and if not why.
        ttft_ms: To the first token.
        decode_ms: Each step.
    """

    process: int
    kind: SampleKind
    ttft_ms: float
    decode_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measurement of a layout on one device.

    Attributes:
        title: Device, workload and when; not safe as markup.
        device: What tables call the device.
        status: ``ok``, or what became of it.
        reason: Why, when not ok.
        samples: By the title of a measured point, its sequences in the order of measuring.
        breakdown: Where the time goes: rows of ``block``, ``operator``, ``prefill_ms`` and ``decode_ms``.
        breakdown_note: What was profiled, in words.
        conditions: What it was measured under, in words, by heading.
        command: What to type to measure it again.
    """

    title: str
    device: str
    status: str
    reason: str = ""
    samples: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    breakdown: Sequence[Row] = ()
    breakdown_note: str = ""
    conditions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What there is to know of a layout.

    Attributes:
        facts: What follows from the layout alone, in words, by heading.
        runs: Its measurements, latest last.
        times: For latency against context: rows of ``series``, ``prompt``, ``context`` and times with their ends.
        growth: Carried state: by title, pairs of tokens and MiB.
        files: Names of what can be downloaded.
    """

    facts: Mapping[str, str]
    runs: Sequence[Run] = ()
    times: Sequence[Row] = ()
    growth: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    files: Sequence[str] = ()
