"""Chooses, for each block spec on a device, the lowering that serves a workload best, by measuring all of them there.

A choice rests on one stored comparison; it is made once per device, runtime version, providers and threads, and found
again by every later run. A pinned lowering is not compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from archsearch.candidates import prepare
from archsearch.kernels import (
    KernelTime,
    Tuning,
    capped,
    choose,
    decode_point,
    kernel_times,
    prefill_point,
    stored_times,
)
from archsearch.measurement import BLOCKS
from archsearch.records import from_record
from archsearch.roofline import Rates, measure_rates
from archsearch.stacks import PREFILL_COPIES, cache_bytes, decode_copies, entrant_name, stack
from archsearch.subjects import Entrant, Subject
from profiler.jobs import Protocol
from profiler.workloads import Point, Workload
from search_space.blocks import Block, FeedForward
from search_space.graph.precision import PrecisionName
from search_space.layout import Layout, block_id, block_name

if TYPE_CHECKING:
    from archsearch.measuring import Measurer, OnStatus

FEW_TOKENS = 64
"""A prefill of fewer is bound by the memory, as a step is."""

MAX_SCRATCH = 512 << 20
"""Bytes above which a lowering's largest intermediate keeps it out of comparisons."""

TUNING_PROTOCOL = Protocol(
    min_processes=3, max_processes=3, min_repeats=2, max_repeats=2, max_warmups=3, time_budget_s=9.0, memory_pass=False
)
SEARCH_PROTOCOL = replace(TUNING_PROTOCOL, min_processes=2, max_processes=2, time_budget_s=6.0)
"""In a search, whose time is for candidates: enough for a choice, too little for its intervals."""


class Tuner:
    """Chooses lowerings on one device; belongs to the thread of its measurer.

    Attributes:
        measurer: Measures the comparisons.

    Args:
        measurer: Measures the comparisons, in the study that keeps them.
        say: Told what was chosen, and what could not be compared.
        exact: Whether every spec is compared by itself; else a choice made for a spec like it is taken over. A search
            meets a new spec in nearly every candidate, and would compare kernels most of the time.
    """

    def __init__(self, measurer: Measurer, say: Callable[[str], None], *, exact: bool = True) -> None:
        self.measurer = measurer
        self._say = say
        self._exact = exact
        self._near: dict[tuple[str, Workload], list[tuple[str, str]]] = {}
        self._rates: dict[PrecisionName, Rates | None] = {}
        self._chosen: dict[tuple[Block, int, str, Workload], Tuning | None] = {}

    def tuned(self, subject: Subject, on_status: OnStatus | None = None) -> Subject:
        """The subject exported with the best lowerings for its workload on this device.

        Raises:
            Interrupted: The user stops.
            TransportError: The device is out of reach.
        """
        if subject.layout is None or subject.prepared is None:
            return subject
        precision = subject.prepared.candidate.precision
        self.rates(precision)  # what `show` tells of kernels needs them
        wanted = dict(subject.pins)
        for block, width in distinct_blocks(subject.layout):
            names = compared(block, subject.workload)  # at the prompts as they are: what is kept fits there too
            if block.kind in subject.pins or len(names) < 2:
                continue
            stands_for, load = representative(block), capped(subject.workload)
            choice = self._choice(stands_for, width, precision, load, names, on_status)
            if choice is not None:
                wanted[block_id(block, width)] = choice
        prepared = prepare(
            subject.layout, workload=subject.workload, precision=precision, lowerings=wanted, seed=subject.seed
        )
        return replace(subject, prepared=prepared)

    def _choice(
        self,
        block: Block,
        width: int,
        precision: PrecisionName,
        workload: Workload,
        names: Sequence[str],
        on_status: OnStatus | None,
    ) -> str | None:
        """The choice for a spec, among `names`."""
        name = block_name(block, width)
        near = self._near.get((precision, workload))
        if not self._exact and near is None:
            near = self._near[precision, workload] = list(self._stored_choices(precision, workload))
        if near and all(known != name for known, _ in near):
            for known, taken in reversed(near):  # the latest first
                if taken in names and alike(name, known):
                    return taken
        tuning = self.tuning(block, width, precision, workload, on_status)
        if tuning is None or tuning.choice is None:
            return None
        choice, _ = choose([time for time in tuning.times if time.lowering in names])
        if near is not None and choice is not None:
            near.append((name, choice))
        return choice

    def _stored_choices(self, precision: PrecisionName, workload: Workload) -> Iterator[tuple[str, str]]:
        """Specs that were compared on this device under these conditions for this workload, with the choice made."""
        conditions = self.measurer.conditions()
        points = sum(1 for _ in workload.points)
        for record in self.measurer.store.measurements(self.measurer.study):
            same = record.precision == precision and record.workload == workload.name and record.status == "ok"
            if not same or not record.name or not record.name.startswith("{"):
                continue
            measurement = from_record(record, {})
            prefills = tuple(prefill_point(point) for point in workload.points)
            if measurement.points[:points] != prefills:
                continue  # another workload of this name
            if {name: record.key.get(name) for name in conditions} == conditions:
                choice, _ = choose(stored_times(measurement, workload)[1])
                if choice is not None:
                    yield record.name, choice

    def tuning(
        self,
        block: Block,
        width: int,
        precision: PrecisionName,
        workload: Workload,
        on_status: OnStatus | None = None,
    ) -> Tuning | None:
        """What is known of a block's lowerings, measured now where nothing is; None when that failed.

        Raises:
            Interrupted: The user stops.
            TransportError: The device is out of reach.
        """
        key = (block, width, precision, workload)
        if key not in self._chosen:
            self._chosen[key] = self._compare(block, width, precision, workload, on_status)
        return self._chosen[key]

    @property
    def cache_bytes(self) -> int:
        """The device's last-level cache."""
        return cache_bytes((self.measurer.session.environment.__pydantic_extra__ or {}).get("last_level_cache"))

    def rates(self, precision: PrecisionName) -> Rates | None:
        """The device's rates for the roofline, measured now where they are not known; None when that failed.

        Raises:
            Interrupted: The user stops.
            TransportError: The device is out of reach.
        """
        if precision not in self._rates:
            self._rates[precision] = measure_rates(self.measurer, precision, self.cache_bytes)
        return self._rates[precision]

    def _compare(
        self, block: Block, width: int, precision: PrecisionName, workload: Workload, on_status: OnStatus | None
    ) -> Tuning | None:
        device = self.measurer.session.device.name
        label = f"kernels of {block_id(block, width)} ({precision}, {workload.name})"
        subject = Subject(
            label=label, workload=workload, precision=precision, role=BLOCKS, name=block_name(block, width),
            entrants=tuple(
                lowering_entrants(
                    block, width, precision, workload, self.cache_bytes, contenders=len(compared(block, workload))
                )
            ),
        )  # fmt: skip
        protocol = TUNING_PROTOCOL if self._exact else SEARCH_PROTOCOL
        outcome = self.measurer.measure(subject, protocol=protocol, on_status=on_status)
        known = outcome.measurement.result
        if outcome.reused and known is not None and len(known.timing) < protocol.min_processes:
            outcome = self.measurer.measure(subject, fresh=True, protocol=protocol, on_status=on_status)
        measurement = outcome.measurement
        if measurement.status != "ok":
            self._say(f"{device}: {label}: {measurement.status}: {measurement.reason}; the first lowering is used")
            return None
        times = kernel_times(measurement, compared(block, workload), workload)
        times += tuple(KernelTime(lowering=name, error=why) for name, why in left_out(block, workload).items())
        choice, why = choose(times)
        if not outcome.reused:
            self._say(f"{device}: {label}: {choice or 'none'}: {why}")
        return Tuning(
            block=block, width=width, precision=precision, device=device, workload=workload, times=times,
            choice=choice, why=why, job_id=measurement.job_id,
        )  # fmt: skip


def alike(one: str, other: str) -> bool:
    """Whether two specs (as `block_name` writes them) may share a choice of kernel.

    Of one kind, with equal switches, and every size within a factor of two.
    """
    a, b = json.loads(one), json.loads(other)
    if a.keys() != b.keys():
        return False
    for field, value in a.items():
        if type(value) is int and type(b[field]) is int:
            if not value <= 2 * b[field] <= 4 * value:
                return False
        elif type(value) is not float and value != b[field]:
            return False
    return True


def left_out(block: Block, workload: Workload) -> dict[str, str]:
    """Lowerings that are not compared, with the reason: what they hold at once would fill the device."""
    found = {}
    for name, lowering in block.lowerings.items():
        if lowering.scratch is None:
            continue
        for point in workload.points:
            tokens = min(point.prompt, point.chunk or point.prompt)
            size = 4 * point.batch * lowering.scratch(block, tokens, point.prompt)
            if size > MAX_SCRATCH:
                found[name] = (
                    f"left out: a prefill of {point.prompt} tokens would hold {size / 2**30:.1f} GiB of scores"
                )
    return found


def compared(block: Block, workload: Workload) -> list[str]:
    """The lowerings that are compared, in the block's order."""
    large = left_out(block, workload)
    return [name for name in block.lowerings if name not in large]


def lowering_entrants(
    block: Block,
    width: int,
    precision: PrecisionName,
    workload: Workload,
    cache: int,
    *,
    contenders: int,
    prefix: str = "",
) -> Iterator[Entrant]:
    """For every lowering a stack to prefill, and for every point of the workload one to decode.

    Args:
        block: The spec.
        width: Model width.
        precision: Storage of its weights.
        workload: Its points say how long prompts are; caches hold its largest context.
        cache: Bytes of the device's last-level cache.
        contenders: How many lowerings take turns, these included.
        prefix: Before the lowering in the entrants' names.
    """
    for number, name in enumerate(compared(block, workload)):
        stacks: list[tuple[str, int, tuple[Point, ...]]] = []
        for at, point in enumerate(workload.points):
            step = decode_point(point)
            copies = decode_copies(
                block, width, precision, context=step.context, batch=point.batch, cache_bytes=cache,
                others=contenders - 1,
            )  # fmt: skip
            stacks.append((f"decode{at}", copies, (step,)))
        # A few tokens take no longer than reading the weights does: they must not lie in the cache then either.
        few = any(min(point.prompt, point.chunk or point.prompt) < FEW_TOKENS for point in workload.points)
        copies = max(copies for _, copies, _ in stacks) if few else PREFILL_COPIES
        stacks.insert(0, ("prefill", copies, tuple(prefill_point(point) for point in workload.points)))
        for place, (part, copies, points) in enumerate(stacks):
            layout, load = stack(block, width, copies), replace(workload, points=points)
            largest = max(workload.max_context, load.max_context)
            prepared = prepare(  # a seed of its own: shared weights would be found in the cache
                layout,
                workload=load,
                precision=precision,
                lowerings={block.kind: name},
                context=largest,
                seed=number + len(block.lowerings) * place,
            )
            title = entrant_name(f"{prefix}{name}", part, copies)
            yield Entrant(name=title, layout=layout, prepared=prepared, workload=load, traced=part == "prefill")


def distinct_blocks(layout: Layout) -> Iterator[tuple[Block, int]]:
    """Every block spec of a layout once, with the width."""
    seen: set[Block] = set()
    for layer in layout.layers:
        for block in (layer.mixer, layer.ffn):
            if block is not None and block.kind != "none" and block not in seen:
                seen.add(block)
                yield block, layout.width


def representative(block: Block) -> Block:
    """The spec that is measured in a block's place.

    Feed-forward networks of a search differ in their hidden width, which makes up for the mixers' parameters: widths
    within an eighth of an octave are one for the choice of a kernel.
    """
    if not isinstance(block, FeedForward) or block.hidden < _FINE:
        return block
    step = 1 << (block.hidden.bit_length() - 4)
    return replace(block, hidden=(block.hidden + step // 2) // step * step)


_FINE = 64
