"""How fast a block could be at most on a device, so that a slow block and a slow kernel can be told apart.

The roofline model (Williams, Waterman & Patterson 2009, doi:10.1145/1498765.1498785): no less time than its bytes take
at the memory's rate, nor than its operations take at the processor's. Both rates are what the runtime's own matrix
products reach on the device, in a stack of large feed-forward networks timed like everything else: a kernel at 100% is
as good as the best that this runtime has, not as good as the hardware's data sheet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from archsearch.candidates import prepare
from archsearch.measurement import BLOCKS
from archsearch.stacks import (
    PREFILL_COPIES,
    block_weight_bytes,
    bytes_per_step,
    decode_copies,
    entrant_name,
    stack,
)
from archsearch.subjects import Entrant, Subject
from profiler.jobs import Protocol
from profiler.stats import summarise
from profiler.workloads import Point, Workload
from search_space.blocks import Block
from search_space.blocks.swiglu import SwiGLU
from search_space.export import export_block
from search_space.graph.precision import PrecisionName

if TYPE_CHECKING:
    from archsearch.measurement import Measurement
    from archsearch.measuring import Measurer

RATES = "rates"
"""Name of such measurements in the store."""
PROBE, PROBE_WIDTH = SwiGLU(hidden=8192), 2048
_PREFILL = Point(prompt=256, decode=1)
_DECODE = Point(prompt=1, decode=16)
_WORKLOAD = Workload(name="rates", points=(_PREFILL, _DECODE), description="large products, for the roofline")
RATES_PROTOCOL = Protocol(
    min_processes=2, max_processes=2, min_repeats=2, max_repeats=2, max_warmups=3, time_budget_s=9.0, memory_pass=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a device's products reach.

    Attributes:
        precision: Storage of the weights that `linear` is of.
        bandwidth: Bytes per second, of weights read in decode steps.
        linear: Operations per second of products with weights of this precision, in prefill.
        plain: The same in float32.
        job_id: The measurement behind it.
    """

    precision: PrecisionName
    bandwidth: float
    linear: float
    plain: float
    job_id: str


def measure_rates(measurer: Measurer, precision: PrecisionName, cache_bytes: int) -> Rates | None:
    """The device's rates, measured now where they are not known; None when that failed.

    Raises:
        Interrupted: The user stops.
        TransportError: The device is out of reach.
    """
    precisions: list[PrecisionName] = ["fp32"] if precision == "fp32" else ["fp32", precision]
    entrants = []
    for kind in precisions:
        for what, point in (("prefill", _PREFILL), ("decode", _DECODE)):
            count = PREFILL_COPIES
            if what == "decode":
                count = decode_copies(PROBE, PROBE_WIDTH, kind, context=1, batch=1, cache_bytes=cache_bytes, others=1)
            load = replace(_WORKLOAD, points=(point,))
            layout = stack(PROBE, PROBE_WIDTH, count)
            prepared = prepare(layout, workload=load, precision=kind)
            name = entrant_name(kind, what, count)
            entrants.append(Entrant(name=name, layout=layout, prepared=prepared, workload=load))
    subject = Subject(
        label=f"rates of large products ({precision})", workload=_WORKLOAD, precision=precision, role=BLOCKS,
        name=RATES, checked=False, entrants=tuple(entrants),
    )  # fmt: skip
    return read_rates(measurer.measure(subject, protocol=RATES_PROTOCOL).measurement, precision)


def read_rates(measurement: Measurement, precision: PrecisionName) -> Rates | None:
    """The rates that a measurement by `measure_rates` found; None when it failed."""
    if measurement.status != "ok" or measurement.result is None:
        return None
    precisions: list[PrecisionName] = ["fp32"] if precision == "fp32" else ["fp32", precision]
    names, copies = [], {}
    for contender in measurement.result.contenders:
        name, _, count = contender.name.rpartition("*")
        names.append(name)
        copies[name] = int(count)
    times = {names[summary.point]: summary for summary in summarise(measurement.result)}
    flops = PROBE.flops(PROBE_WIDTH, tokens=_PREFILL.prompt, context=_PREFILL.prompt)
    speed = {
        kind: flops * copies[f"{kind}/prefill"] / (times[f"{kind}/prefill"].ttft_ms.value * 1e-3)
        for kind in precisions
        if f"{kind}/prefill" in times
    }
    read = [
        block_weight_bytes(PROBE, PROBE_WIDTH, kind) * copies[f"{kind}/decode"]
        / (times[f"{kind}/decode"].decode_ms.value * 1e-3)
        for kind in precisions
        if f"{kind}/decode" in times
    ]  # fmt: skip
    if len(speed) < len(precisions) or not read:
        return None
    return Rates(
        precision=precision, bandwidth=max(read), linear=speed[precision], plain=speed["fp32"],
        job_id=measurement.job_id,
    )  # fmt: skip


@lru_cache(maxsize=512)
def _linear_params(block: Block, width: int) -> int:
    """Weights that stand in products with every token: what is stored at the graph's precision."""
    candidate = export_block(block, width, precision="fp32", context=1)
    return sum(parameter.count for parameter in candidate.parameters if parameter.encoding != "plain")


def prefill_roof_ms(block: Block, width: int, rates: Rates, point: Point) -> float:
    """Least time of a prefill of `point.prompt` tokens, in ms."""
    flops = block.flops(width, tokens=point.prompt, context=point.prompt)
    linear = min(2 * point.prompt * _linear_params(block, width), flops)
    rest = flops - linear
    seconds = point.batch * (linear / rates.linear + rest / rates.plain)
    # The weights once, the input and the output once.
    moved = block_weight_bytes(block, width, rates.precision) + 2 * 4 * point.batch * point.prompt * width
    return 1e3 * max(seconds, moved / rates.bandwidth)


def decode_roof_ms(block: Block, width: int, rates: Rates, point: Point) -> float:
    """Least time of one step behind `point.prompt` tokens, in ms: weights and carried state are read once."""
    flops = block.flops(width, tokens=1, context=point.prompt + 1)
    linear = min(2 * _linear_params(block, width), flops)
    rest = flops - linear
    seconds = point.batch * (linear / rates.linear + rest / rates.plain)
    visible = getattr(block, "visible", None)  # of a window's cache, rows about to be dropped need not be read
    behind = point.prompt if visible is None else min(point.prompt, visible)
    moved = bytes_per_step(block, width, rates.precision, context=behind, batch=point.batch)
    return 1e3 * max(seconds, moved / rates.bandwidth)
