"""The operator table: ShortConv, SWA, GQA, GLA and Gated DeltaNet as whole blocks, against context.

A whole block is what stands between two residual sums: norm, projections, mixing, output projection. At equal
parameters, by default: the numbers of heads are chosen so that every block has as many as ShortConv has at that width.
All lowerings of all blocks take turns in the same processes at each context; each block is shown at the one that is
best for a prefill and `STEPS_WEIGHED` steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from archsearch.candidates import prepare
from archsearch.comparisons import beside, compared, left_out, lowering_entrants, prefill_point
from archsearch.errors import ComparisonError
from archsearch.kernels import KernelTime, choose, kernel_times
from archsearch.measurement import BLOCKS
from archsearch.roofline import Rates, decode_work, not_emptied, prefill_work, read_rates
from archsearch.stacks import PREFILL_COPIES, stack
from archsearch.subjects import Entrant, Subject
from profiler.jobs import Protocol
from profiler.stats import Interval, ratio_of_pairs
from profiler.workloads import Point, Workload
from search_space.blocks import Mixer
from search_space.blocks.gdn import GDN
from search_space.blocks.gla import GLA
from search_space.blocks.gqa import GQA
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swa import SWA
from search_space.graph.precision import PrecisionName

if TYPE_CHECKING:
    from archsearch.measuring import Measurer, OnStatus

M = TypeVar("M", bound=Mixer)
Iso = Literal["params", "width"]
WINDOW = 512
STEPS_WEIGHED = 256
"""Decode steps that a choice of lowering weighs against one prefill of the context."""
TABLE_PROTOCOL = Protocol(
    min_processes=3, max_processes=3, min_repeats=2, max_repeats=3, max_warmups=6, time_budget_s=60.0, memory_pass=False
)
MEMORY_PROTOCOL = Protocol(
    min_processes=1, max_processes=1, min_repeats=1, max_repeats=1, max_warmups=2, time_budget_s=1.0, memory_pass=True
)


def contestants(width: int, iso: Iso) -> tuple[Mixer, ...]:
    """The five blocks at a model width.

    Args:
        width: Model width D; a multiple of 256.
        iso: ``params`` for head counts that come nearest to ShortConv's parameters; ``width`` for the proportions in
            which they were published: LFM2 (GQA with D/64 heads, two to a key-value head), GLA (K = 128, V = 256, inner
            width D), Qwen3.5 (Gated DeltaNet with D/64 heads of 128).
    """
    conv = ShortConv(kernel=3)
    if iso == "width":
        heads = max(1, width // 64)
        attention = GQA(heads=heads, kv_heads=max(1, heads // 2), head_dim=64)
        linear = GLA(heads=max(1, width // 256), key_dim=128, value_dim=256)
        delta = GDN(key_heads=heads, value_heads=heads, key_dim=128, value_dim=128)
        return conv, _windowed(attention), attention, linear, delta
    target = conv.params(width)
    attention = _nearest(_attentions(width), target, width)
    linear = _nearest([GLA(heads=n, key_dim=128, value_dim=256) for n in _counts(width)], target, width)
    deltas = [
        GDN(key_heads=n, value_heads=n * ratio, key_dim=128, value_dim=128) for n in _counts(width) for ratio in (1, 2)
    ]
    return conv, _windowed(attention), attention, linear, _nearest(deltas, target, width)


def _windowed(full: GQA) -> SWA:
    return SWA(heads=full.heads, kv_heads=full.kv_heads, head_dim=full.head_dim, window=WINDOW)


def _counts(width: int) -> range:
    return range(1, max(2, width // 16))


def _attentions(width: int) -> list[GQA]:
    return [GQA(heads=groups * ratio, kv_heads=groups, head_dim=64) for ratio in (2, 3, 4) for groups in _counts(width)]


def _nearest(choices: Sequence[M], target: int, width: int) -> M:
    return min(choices, key=lambda mixer: abs(mixer.params(width) - target))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One block at one context on one device.

    Attributes:
        block: The spec.
        width: Model width.
        device: Name of the device.
        context: Tokens of the prefill, and behind each step.
        times: Of every lowering, in the block's order.
        choice: The lowering that is shown: the best for the context's prefill and `STEPS_WEIGHED` steps.
        why: Why that one.
        first: The first block of the table at the same context, as timed beside this one.
        peak_rss_mib: Of a process that prefills a stack of `PREFILL_COPIES` copies; None where it was not taken.
        rates: Of the device's products, timed beside the blocks, for the roofline.
    """

    block: Mixer
    width: int
    device: str
    context: int
    times: tuple[KernelTime, ...]
    choice: str | None
    why: str
    first: KernelTime | None
    peak_rss_mib: float | None
    rates: Rates | None

    def to_json(self) -> dict[str, Any]:
        """A row of the table: plain values, None where there is none."""
        best = next((time for time in self.times if time.lowering == self.choice), None)
        state = self.block.state_bytes(self.width, context=self.context)
        row: dict[str, Any] = {
            "block": self.block.title, "kind": self.block.kind, "letter": self.block.letter, "color": self.block.color,
            "device": self.device, "context": self.context, "width": self.width,
            "params": self.block.params(self.width), "lowering": self.choice, "why": self.why,
            "state_bytes": state, "peak_rss_mib": self.peak_rss_mib, "warm": None if best is None else best.warm[0],
        }  # fmt: skip
        point = Point(prompt=self.context, decode=1)
        for phase in ("prefill", "decode"):
            interval = None if best is None else getattr(best, f"{phase}_ms")[0]
            row[f"{phase}_ms"] = None if interval is None else interval.value
            row[f"{phase}_ms_low"] = None if interval is None else interval.low
            row[f"{phase}_ms_high"] = None if interval is None else interval.high
            times = self._times_the_first(best, phase)
            row[f"{phase}_ratio"] = None if times is None else times.value
            row[f"{phase}_ratio_low"] = None if times is None else times.low
            row[f"{phase}_ratio_high"] = None if times is None else times.high
            work = roof = None
            if self.rates is not None:
                of = prefill_work if phase == "prefill" else decode_work
                work = of(self.block, self.width, self.rates.precision, point)
                roof = work.least_ms(self.rates)
            row[f"{phase}_flops"] = None if work is None else work.flops
            row[f"{phase}_bytes"] = None if work is None else work.moved
            row[f"{phase}_roof_ms"] = roof
            row[f"{phase}_roof_share"] = None if roof is None or interval is None else roof / interval.value
        for name in ("bandwidth", "linear", "plain"):  # bytes, and twice operations, per second
            row[f"best_{name}"] = None if self.rates is None else getattr(self.rates, name)
        row["lowerings"] = [
            {
                "lowering": time.lowering, "error": time.error,
                "prefill_ms": time.prefill_ms[0].value if time.prefill_ms else None,
                "decode_ms": time.decode_ms[0].value if time.decode_ms else None,
            }
            for time in self.times
        ]  # fmt: skip
        return row

    def _times_the_first(self, best: KernelTime | None, phase: str) -> Interval | None:
        """How many times the first block's time: a ratio for each process, in which both took turns."""
        if best is None or self.first is None or best.error or self.first.error:
            return None
        ours, theirs = (getattr(time, f"{phase}_runs_ms")[0] for time in (best, self.first))
        return ratio_of_pairs(ours, theirs)


def measure_context(
    measurer: Measurer,
    mixers: Sequence[Mixer],
    width: int,
    precision: PrecisionName,
    context: int,
    cache: int,
    on_status: OnStatus | None = None,
) -> Iterator[Row]:
    """Compare the blocks at one context; a row for each. `cache` is the size of the device's last-level cache.

    Raises:
        ComparisonError: The device gave no numbers; the message is its reason.
        Interrupted: The user stops.
        TransportError: The device is out of reach.
    """
    workload = Workload(
        name=f"context {context}",
        points=(Point(prompt=context, decode=STEPS_WEIGHED),),
        description="a prefill and the steps behind it",
    )
    entrants = [
        entrant
        for mixer in mixers
        for entrant in lowering_entrants(mixer, width, precision, workload, prefix=f"{mixer.kind}:")
    ]
    subject = Subject(
        label=f"blocks at context {context} ({precision}, width {width})", workload=workload, precision=precision,
        role=BLOCKS, entrants=(*entrants, *beside(precision, workload, cache)),
    )  # fmt: skip
    measurement = measurer.measure(subject, protocol=TABLE_PROTOCOL, on_status=on_status).measurement
    if measurement.status != "ok":
        raise ComparisonError(f"context {context}: {measurement.status}: {measurement.reason}")
    if (missing := not_emptied(measurement)) is not None:
        raise ComparisonError(f"context {context}: {missing}")
    found: dict[Mixer, tuple[tuple[KernelTime, ...], str | None, str]] = {}
    for mixer in mixers:
        prefix = f"{mixer.kind}:"
        times = kernel_times(measurement, [prefix + name for name in compared(mixer, workload)], workload)
        named = tuple(replace(time, lowering=time.lowering.removeprefix(prefix)) for time in times)
        named += tuple(KernelTime(lowering=name, error=why) for name, why in left_out(mixer, workload).items())
        found[mixer] = (named, *choose(named))
    peaks = _peaks(measurer, {mixer: choice for mixer, (_, choice, _) in found.items()}, width, precision, workload)
    firsts, first_choice, _ = found[mixers[0]]
    rates = read_rates(measurement, precision)
    first = next((time for time in firsts if time.lowering == first_choice), None)
    for mixer, (times, choice, why) in found.items():
        yield Row(
            block=mixer, width=width, device=measurer.session.device.name, context=context, times=times, choice=choice,
            why=why, first=first, peak_rss_mib=peaks.get(mixer), rates=rates,
        )  # fmt: skip


def _peaks(
    measurer: Measurer, choices: Mapping[Mixer, str | None], width: int, precision: PrecisionName, workload: Workload
) -> dict[Mixer, float]:
    """Peak memory of each block's prefill, at the lowering that is shown."""
    load = replace(workload, points=tuple(prefill_point(point) for point in workload.points))
    chosen = [(mixer, name) for mixer, name in choices.items() if name is not None]
    if not chosen:
        return {}
    entrants = []
    for mixer, name in chosen:
        layout = stack(mixer, width, PREFILL_COPIES)
        prepared = prepare(
            layout, workload=load, precision=precision, lowerings={mixer.kind: name}, context=workload.max_context
        )
        entrants.append(
            Entrant(name=f"memory of {mixer.kind}:{name}", layout=layout, prepared=prepared, points=load.points)
        )
    subject = Subject(
        label=f"memory of blocks, {workload.name}", workload=workload, precision=precision, role=BLOCKS,
        entrants=tuple(entrants),
    )  # fmt: skip
    result = measurer.measure(subject, protocol=MEMORY_PROTOCOL).measurement.result
    if result is None:
        return {}
    peaks = {p.memory.point: p.memory.peak_rss_mib for p in result.processes if p.kind == "memory" and p.memory}
    return {mixer: peaks[at] for at, (mixer, _) in enumerate(chosen) if at in peaks}
