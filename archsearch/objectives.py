"""Objectives: named numbers of one measured point, each with unit and direction. A new one is one function here.

A name given here works at once as a command-line objective and budget and as a column of every table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from profiler.stats import Interval
from reports.objectives import define

if TYPE_CHECKING:
    from archsearch.measurement import MeasuredPoint

_NOTHING = 0.01
"""Share of a time below which its lower end says no more than that it is positive."""

Value = Interval | float | int | None
Direction = Literal["min", "max"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A number of a measured point.

    Attributes:
        name: Column and option name; ends in its unit where it has one.
        unit: For axes.
        direction: Which way is better.
        measured: False for numbers that follow from the layout alone.
        timed: Whether it is a time or a rate, which move when the device does.
        value: Computes it; None where the measurement does not have it.
        doc: One line.
    """

    name: str
    unit: str
    direction: Direction
    measured: bool
    timed: bool
    value: Callable[[MeasuredPoint], Value]
    doc: str


_registry: dict[str, Objective] = {}


def objective(
    unit: str, direction: Direction, *, measured: bool = True, per_point: bool = False
) -> Callable[[Callable[[MeasuredPoint], Value]], Callable[[MeasuredPoint], Value]]:
    """Register the decorated function under its own name; its docstring's first line describes it.

    Args:
        unit: For axes.
        direction: Which way is better.
        measured: False for numbers that follow from the layout.
        per_point: Of these, those that depend on the measured point too.
    """

    def register(function: Callable[[MeasuredPoint], Value]) -> Callable[[MeasuredPoint], Value]:
        name = function.__name__
        if name in _registry:
            raise ValueError(f"an objective called {name} exists already")
        doc = (function.__doc__ or "").strip().splitlines()[0]
        define(name, unit=unit, direction=direction, per_layout=not measured and not per_point)
        _registry[name] = Objective(
            name=name,
            unit=unit,
            direction=direction,
            measured=measured,
            timed=unit in ("ms", "tokens/s"),
            value=function,
            doc=doc,
        )
        return function

    return register


def objectives() -> Mapping[str, Objective]:
    """All objectives by name, in table order."""
    return _registry


def _rate(tokens: int, ms: Interval) -> Interval:
    """Tokens per second; the slow end of the time is the low end of the rate.

    Of a time that is known so badly that its interval reaches down to nothing, the rate has no upper end.
    """
    per_ms = 1e3 * tokens
    high = per_ms / ms.low if ms.low > _NOTHING * ms.value else math.inf
    return Interval(value=per_ms / ms.value, low=per_ms / ms.high, high=high)


@objective("ms", "min")
def ttft_ms(m: MeasuredPoint) -> Value:
    """Time to the first token: prefill of the prompt with empty state, and arg-max."""
    return m.summary.ttft_ms if m.summary else None


@objective("tokens/s", "max")
def prefill_tokens_per_s(m: MeasuredPoint) -> Value:
    """Prompt tokens of the batch per second of prefill."""
    return _rate(m.point.batch * m.point.prompt, m.summary.ttft_ms) if m.summary else None


@objective("ms", "min")
def decode_ms(m: MeasuredPoint) -> Value:
    """Time of one decode step at the workload's depth: the mean over processes of each process's median."""
    return m.summary.decode_ms if m.summary else None


@objective("ms", "min")
def decode_ms_p95(m: MeasuredPoint) -> Value:
    """95th percentile of one decode step, over the samples of all processes together."""
    return m.summary.decode_ms_p95 if m.summary else None


@objective("tokens/s", "max")
def decode_tokens_per_s(m: MeasuredPoint) -> Value:
    """Tokens per second of the whole batch while decoding."""
    return _rate(m.point.batch, m.summary.decode_ms) if m.summary else None


MEMORY_REPEATABILITY = 0.01
"""Relative half width given to peak memory, which is taken once: repeated passes over one model lay within 0.8% of
their middle (7 passes each of three 350M-class models on two x86-64 cores; threads allocate in changing order)."""


@objective("MiB", "min")
def peak_rss_mib(m: MeasuredPoint) -> Value:
    """Peak resident memory of the whole measuring process, at the workload's largest point."""
    peak = m.peak_rss_mib
    if peak is None:
        return None
    return Interval(value=peak, low=peak * (1 - MEMORY_REPEATABILITY), high=peak * (1 + MEMORY_REPEATABILITY))


@objective("MiB", "min", measured=False)
def weights_mib(m: MeasuredPoint) -> Value:
    """Stored weights with their scales, each table once; position tables and padding are left out."""
    return None if m.weights_bytes is None else m.weights_bytes / 2**20


@objective("MiB", "min", measured=False, per_point=True)
def state_mib(m: MeasuredPoint) -> Value:
    """Carried state of the batch at the point's full context."""
    carried = m.state_bytes
    return None if carried is None else carried / 2**20


@objective("MiB", "min", measured=False, per_point=True)
def memory_mib(m: MeasuredPoint) -> Value:
    """Stored weights and carried state of the batch at the point's full context."""
    return None if m.weights_bytes is None or m.state_bytes is None else (m.weights_bytes + m.state_bytes) / 2**20


@objective("ms", "min")
def load_ms(m: MeasuredPoint) -> Value:
    """Loading the model into a session, with the file in the page cache."""
    return m.load_ms


@objective("", "min", measured=False)
def total_params(m: MeasuredPoint) -> Value:
    """Parameters of the language model."""
    return m.counts.total if m.counts else None


@objective("", "min", measured=False)
def embedding_params(m: MeasuredPoint) -> Value:
    """Parameters of the embedding and output-head tables."""
    return m.counts.vocabulary if m.counts else None


@objective("", "max", measured=False)
def effective_params(m: MeasuredPoint) -> Value:
    """Parameters outside the embedding and output-head tables."""
    return m.counts.effective if m.counts else None


@objective("", "min", measured=False)
def embedding_share(m: MeasuredPoint) -> Value:
    """Embedding and output-head tables over all parameters."""
    return m.counts.embedding_share if m.counts else None


@objective("params/MiB", "max")
def effective_params_per_mib(m: MeasuredPoint) -> Value:
    """Effective parameters per MiB of peak memory."""
    if not m.counts or not m.peak_rss_mib:
        return None
    value = m.counts.effective / m.peak_rss_mib
    return Interval(value=value, low=value / (1 + MEMORY_REPEATABILITY), high=value / (1 - MEMORY_REPEATABILITY))
