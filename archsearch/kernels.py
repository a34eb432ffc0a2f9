"""How fast a block is with each of its lowerings on a device, and which of them a workload should use.

The numbers come from a comparison (`archsearch.comparisons`): stacks of the same block, lowered differently, timed in
turns with each other and with the products that give the roofline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from archsearch.roofline import Rates, decode_roof_ms, prefill_roof_ms, read_rates
from archsearch.stacks import STEPS
from profiler.stats import Interval, medians, summarise
from profiler.workloads import Point, Workload
from search_space.blocks import Block
from search_space.graph.precision import PRECISIONS, PrecisionName
from search_space.layout import block_fields, block_id

if TYPE_CHECKING:
    from archsearch.measurement import Measurement
    from profiler.results import ContenderRecord

MAX_PROMPT = 4096
"""A choice is made at the workload's prompt, or at this one where that is longer."""
MIN_GAIN = 0.02
"""A lowering takes the place of the block's first only when it is faster by this share, and so in every process."""


def capped(workload: Workload) -> Workload:
    """The workload that a choice of kernels is weighed for: prompts of at most `MAX_PROMPT`, each prefill once.

    Points that differ in their steps alone are one point with the mean of their steps.
    """
    steps: dict[Point, list[int]] = {}
    for point in workload.points:
        steps.setdefault(replace(point, prompt=min(point.prompt, MAX_PROMPT), decode=1), []).append(point.decode)
    points = tuple(replace(point, decode=round(fmean(found))) for point, found in steps.items())
    return replace(workload, points=points)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTime:
    """One lowering of one block, per copy.

    Attributes:
        lowering: Its name.
        error: Why it does not run on the device; empty when it does. The times are empty then.
        prefill_ms: Of the prompt of each point of the workload.
        decode_ms: Of one step behind that prompt.
        costs_ms: Of the whole workload, in each process: prefills and as many steps as each point has.
        prefill_runs_ms: For each point, the median prefill of each process: what is compared pair by pair.
        decode_runs_ms: The same of a step.
        copies: In the stack of each point's steps.
        warm: For each point, whether warm-up was seen to end, of prefill and steps in every process.
    """

    lowering: str
    error: str = ""
    prefill_ms: tuple[Interval, ...] = ()
    decode_ms: tuple[Interval, ...] = ()
    costs_ms: tuple[float, ...] = ()
    prefill_runs_ms: tuple[tuple[float, ...], ...] = ()
    decode_runs_ms: tuple[tuple[float, ...], ...] = ()
    copies: tuple[int, ...] = ()
    warm: tuple[bool, ...] = ()

    @property
    def cost_ms(self) -> float:
        """Mean of `costs_ms`."""
        return fmean(self.costs_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """All lowerings of one block spec on one device, and the choice among them.

    Attributes:
        block: The spec.
        width: Model width.
        precision: Storage of its weights.
        device: Name of the device.
        workload: What the choice weighs.
        times: In the block's order of lowerings.
        choice: The lowering to use, or None when none of them runs.
        why: In words.
        rates: Of the device's products, timed beside them; None where those did not run.
        job_id: The comparison behind it.
    """

    block: Block
    width: int
    precision: PrecisionName
    device: str
    workload: Workload
    times: tuple[KernelTime, ...]
    choice: str | None
    why: str
    rates: Rates | None
    job_id: str


def choose(times: Sequence[KernelTime]) -> tuple[str | None, str]:
    """The lowering to use, and why: the first that runs, unless another is faster beyond doubt.

    Faster beyond doubt is a mean gain of at least `MIN_GAIN` and a gain in every process. Processes are compared one
    by one, since in each of them the contenders took turns.
    """
    running = [time for time in times if not time.error]
    if not running:
        return None, f"no lowering runs here: {times[0].error}" if times else "it has no lowering"
    first = running[0]
    if len(running) == 1:
        return first.lowering, "the only one that runs here" if len(times) > 1 else "the only one"
    best, gain = first, 0.0
    for time in running[1:]:
        ratios = [ours / theirs for ours, theirs in zip(time.costs_ms, first.costs_ms, strict=True)]
        saved = 1 - fmean(ratios)
        if max(ratios) < 1 and saved >= MIN_GAIN and saved > gain:
            best, gain = time, saved
    if best is first:
        return first.lowering, f"no other is faster by {MIN_GAIN:.0%}"
    return best.lowering, f"{gain:.1%} faster than {first.lowering} over the workload"


def kernel_times(measurement: Measurement, names: Sequence[str], workload: Workload) -> tuple[KernelTime, ...]:
    """Read a comparison of lowerings.

    Args:
        measurement: The comparison, with status ok. Of each lowering it has a stack called ``prefill``, with a point
            for each of the workload, and stacks called ``decodeI``, with one point for the workload's point I.
        names: The lowerings, or what its stacks are called in their place.
        workload: What they are weighed for.
    """
    assert measurement.result is not None
    result = measurement.result
    summaries = {summary.point: summary for summary in summarise(result)}
    stacks = {contender.name.rpartition("*")[0]: contender for contender in result.contenders}
    found = []
    for name in names:
        prefill = stacks[f"{name}/prefill"]
        decodes = [stacks[f"{name}/decode{at}"] for at in range(len(workload.points))]
        if error := next((part.error for part in (prefill, *decodes) if part.error), ""):
            found.append(KernelTime(lowering=name, error=error))
            continue
        of_prefill, of_steps = _copies(prefill), tuple(map(_copies, decodes))
        firsts = [part.points[0] for part in decodes]
        prefill_runs = [tuple(ms / of_prefill for ms in medians(result, at, "ttft")) for at in prefill.points]
        step_runs = [
            tuple(ms / copies for ms in medians(result, at, "decode"))
            for at, copies in zip(firsts, of_steps, strict=True)
        ]
        costs = [0.0] * len(result.timing)
        for point, prefill_ms, step_ms in zip(workload.points, prefill_runs, step_runs, strict=True):
            for process, (once, each) in enumerate(zip(prefill_ms, step_ms, strict=True)):
                costs[process] += once + point.decode * each
        found.append(
            KernelTime(
                lowering=name, copies=of_steps, costs_ms=tuple(costs),
                prefill_ms=tuple(summaries[at].ttft_ms.scaled(1 / of_prefill) for at in prefill.points),
                decode_ms=tuple(
                    summaries[at].decode_ms.scaled(1 / copies) for at, copies in zip(firsts, of_steps, strict=True)
                ),
                prefill_runs_ms=tuple(prefill_runs), decode_runs_ms=tuple(step_runs),
                warm=tuple(
                    summaries[a].warm and summaries[b].warm for a, b in zip(prefill.points, firsts, strict=True)
                ),
            )
        )  # fmt: skip
    return tuple(found)


def _copies(contender: ContenderRecord) -> int:
    return int(contender.name.rpartition("*")[2])


def stored_times(measurement: Measurement) -> tuple[tuple[Point, ...], tuple[KernelTime, ...], Rates | None]:
    """A stored comparison of one block's lowerings: the points it was made for, the times, and the rates beside them.

    The points have as many steps as were timed in a row.
    """
    assert measurement.result is not None
    names = [contender.name.rpartition("*")[0] for contender in measurement.result.contenders]
    lowerings = [name.removesuffix("/prefill") for name in names if name.endswith("/prefill")]
    first = next(part for part in measurement.result.contenders if part.name.startswith(f"{lowerings[0]}/prefill*"))
    points = tuple(replace(measurement.points[at], decode=STEPS) for at in first.points)
    workload = Workload(name=measurement.workload, points=points, description="stored")
    precision = next(name for name in PRECISIONS if name == measurement.precision)
    return points, kernel_times(measurement, lowerings, workload), read_rates(measurement, precision)


def tuning_rows(tuning: Tuning) -> Iterator[dict[str, Any]]:
    """A row for each lowering and point of the workload: what was measured, the roofline, and what was chosen."""
    for time in tuning.times:
        for at, point in enumerate(tuning.workload.points):
            row: dict[str, Any] = {
                "device": tuning.device, "kind": tuning.block.kind, "width": tuning.width,
                "block_id": block_id(tuning.block, tuning.width), "spec": block_fields(tuning.block),
                "precision": tuning.precision, "lowering": time.lowering, "chosen": time.lowering == tuning.choice,
                "why": tuning.why, "error": time.error, "batch": point.batch, "prompt": point.prompt,
                "workload": tuning.workload.name, "decode_copies": time.copies[at] if time.copies else None,
                "job_id": tuning.job_id,
                "cost_ms": None if time.error else time.cost_ms, "warm": time.warm[at] if time.warm else None,
            }  # fmt: skip
            for phase, times, roof_of in (
                ("prefill", time.prefill_ms, prefill_roof_ms),
                ("decode", time.decode_ms, decode_roof_ms),
            ):
                roof = None if tuning.rates is None else roof_of(tuning.block, tuning.width, tuning.rates, point)
                interval = times[at] if times else None
                row[f"{phase}_ms"] = interval and interval.value
                row[f"{phase}_ms_low"], row[f"{phase}_ms_high"] = interval and interval.low, interval and interval.high
                row[f"{phase}_roof_ms"] = roof
                row[f"{phase}_roof_share"] = None if roof is None or interval is None else roof / interval.value
            yield row
