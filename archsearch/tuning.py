"""Chooses, for each block spec on a device, the lowering that serves a workload best, by measuring all of them there.

A choice rests on one stored comparison; it is made once per device, runtime version, providers and threads, and found
again by every later run. A pinned lowering is not compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from archsearch.candidates import prepare
from archsearch.comparisons import beside, compared, left_out, lowering_entrants
from archsearch.kernels import KernelTime, Tuning, capped, choose, kernel_times
from archsearch.measurement import BLOCKS, Measurement
from archsearch.roofline import not_emptied, read_rates
from archsearch.stacks import cache_bytes
from archsearch.subjects import Subject
from profiler.jobs import MAX_JOB_POINTS, Protocol
from profiler.workloads import Workload
from search_space.blocks import Block, FeedForward
from search_space.errors import LayoutError
from search_space.graph.precision import PrecisionName
from search_space.layout import block_id, block_name, distinct_blocks
from search_space.layout_file import parse_block

if TYPE_CHECKING:
    from archsearch.measuring import Measurer, OnStatus

TUNING_PROTOCOL = Protocol(
    min_processes=3, max_processes=3, min_repeats=2, max_repeats=2, max_warmups=6, time_budget_s=9.0, memory_pass=False
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
        self._known: dict[tuple[PrecisionName, Workload], list[tuple[Block, int]]] = {}
        self._tunings: dict[tuple[Block, int, PrecisionName, Workload], Tuning | None] = {}
        self._stored: dict[tuple[Block, int, PrecisionName, Workload], Tuning | None] = {}

    def tuned(self, subject: Subject, on_status: OnStatus | None = None) -> Subject:
        """The subject exported with the best lowerings for its workload on this device.

        Raises:
            Interrupted: The user stops.
            TransportError: The device is out of reach.
        """
        if subject.layout is None or subject.prepared is None or subject.chosen:
            return subject
        precision = subject.prepared.candidate.precision
        wanted = dict(subject.pins)
        for block, width in distinct_blocks(subject.layout):
            names = compared(block, subject.workload)  # at the prompts as they are: what is kept fits there too
            if block.kind in subject.pins or len(names) < 2:
                continue
            choice = self._choice(representative(block), width, precision, capped(subject.workload), names, on_status)
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
        tuning = None if self._exact else self._like(block, width, precision, workload)
        tuning = tuning or self.tuning(block, width, precision, workload, on_status)
        return None if tuning is None else choose([time for time in tuning.times if time.lowering in names])[0]

    def _like(self, block: Block, width: int, precision: PrecisionName, workload: Workload) -> Tuning | None:
        """The latest comparison of this spec or of one like it that would still be measured in the same way.

        A comparison is found under its key, which holds the graphs of all its stacks: once a lowering is written
        differently, or the runtime is another, it is not found.
        """
        key = (precision, workload)
        if key not in self._known:
            self._known[key] = list(self._compared_before(precision, workload))
        specs = self._known[key]
        alike_ones = [spec for spec in reversed(specs) if alike(block_name(block, width), block_name(*spec))]
        for known, at_width in sorted(alike_ones, key=lambda spec: spec != (block, width)):  # its own first
            tuning = self._looked_up(known, at_width, precision, workload)
            if tuning is not None:
                return tuning
        return None

    def _looked_up(self, block: Block, width: int, precision: PrecisionName, workload: Workload) -> Tuning | None:
        """A comparison of just this spec, if it is known."""
        key = (block, width, precision, workload)
        if key not in self._stored:
            subject = self._subject(block, width, precision, workload)
            outcome = self.measurer.known(subject) if len(subject.points) <= MAX_JOB_POINTS else None
            known = None if outcome is None else outcome.measurement
            usable = known is not None and known.status == "ok" and not_emptied(known) is None
            self._stored[key] = self._read(known, *key) if known is not None and usable else None
        return self._stored[key]

    def _compared_before(self, precision: PrecisionName, workload: Workload) -> list[tuple[Block, int]]:
        found = []
        for name in self.measurer.store.names(self.measurer.study, workload=workload.name, precision=precision):
            try:
                found.append(parse_block(name))
            except LayoutError:  # of a plug-in that is no longer here
                continue
        return found

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
        if key not in self._tunings:
            tuning = self._tunings[key] = self._compare(block, width, precision, workload, on_status)
            self._stored[key] = tuning
            if tuning is not None and (precision, workload) in self._known:
                self._known[precision, workload].append((block, width))
        return self._tunings[key]

    @property
    def cache_bytes(self) -> int:
        """The device's last-level cache."""
        return cache_bytes(self.measurer.session.environment.further("last_level_cache"))

    def _compare(
        self, block: Block, width: int, precision: PrecisionName, workload: Workload, on_status: OnStatus | None
    ) -> Tuning | None:
        subject = self._subject(block, width, precision, workload)
        where = f"{self.measurer.session.device.name}: {subject.label}"
        if len(subject.points) > MAX_JOB_POINTS:
            self._say(
                f"{where}: {len(subject.points)} timings are more than a comparison may have ({MAX_JOB_POINTS}); the "
                "first lowering is used, unless --lowering names one"
            )
            return None
        protocol = TUNING_PROTOCOL if self._exact else SEARCH_PROTOCOL
        outcome = self.measurer.measure(subject, protocol=protocol, on_status=on_status)
        known = outcome.measurement.result
        if outcome.reused and known is not None and len(known.timing) < protocol.min_processes:
            outcome = self.measurer.measure(subject, fresh=True, protocol=protocol, on_status=on_status)
        measurement = outcome.measurement
        if measurement.status != "ok":
            self._say(f"{where}: {measurement.status}: {measurement.reason}; the first lowering is used")
            return None
        if (missing := not_emptied(measurement)) is not None:
            self._say(f"{where}: {missing}; the first lowering is used")
            return None
        tuning = self._read(measurement, block, width, precision, workload)
        if not outcome.reused:
            self._say(f"{where}: {tuning.choice or 'none'}: {tuning.why}")
        return tuning

    def _subject(self, block: Block, width: int, precision: PrecisionName, workload: Workload) -> Subject:
        return Subject(
            label=f"kernels of {block_id(block, width)} ({precision}, {workload.name})", workload=workload,
            precision=precision, role=BLOCKS, name=block_name(block, width),
            entrants=(
                *lowering_entrants(block, width, precision, workload),
                *beside(precision, workload, self.cache_bytes),
            ),
        )  # fmt: skip

    def _read(
        self, measurement: Measurement, block: Block, width: int, precision: PrecisionName, workload: Workload
    ) -> Tuning:
        times = kernel_times(measurement, compared(block, workload), workload)
        times += tuple(KernelTime(lowering=name, error=why) for name, why in left_out(block, workload).items())
        choice, why = choose(times)
        return Tuning(
            block=block, width=width, precision=precision, device=measurement.device, workload=workload, times=times,
            choice=choice, why=why, rates=read_rates(measurement, precision), job_id=measurement.job_id,
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
