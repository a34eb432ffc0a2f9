"""How fast a block could be at most on a device, so that a slow block and a slow kernel can be told apart.

The roofline model (Williams, Waterman & Patterson 2009, doi:10.1145/1498765.1498785): no less time than its bytes take
at the memory's rate, nor than its operations take at the processor's. Both rates are what the runtime's own matrix
products reach on the device: a kernel at 100% is as good as the best that this runtime has, not as good as the
hardware's data sheet.

The products are timed within each comparison, in its processes and minutes: a share of a roofline that was measured in
another hour would tell the hours apart, and not the kernels. They have a second duty: in decode they take their turn
with the stacks of blocks, and read so much that no stack finds its weights in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from archsearch.candidates import prepare
from archsearch.stacks import PREFILL_COPIES, STEPS, block_weight_bytes, bytes_per_step, stack
from archsearch.subjects import Entrant
from profiler.stats import medians
from profiler.workloads import Point, Workload
from search_space.blocks import Block, Mixer
from search_space.blocks.swiglu import SwiGLU
from search_space.export import export_block
from search_space.graph.precision import PrecisionName

if TYPE_CHECKING:
    from archsearch.measurement import Measurement

PROBE, PROBE_WIDTH = SwiGLU(hidden=4096), 1024
PRODUCT = Point(prompt=256, decode=1)
"""Prefill whose products give the rate of operations."""
STEP = Point(prompt=1, decode=STEPS)
"""Steps whose products give the rate of the memory, where none of the blocks' is of one sequence: with more of them a
product is no longer bound by its weights."""
SPILL = 4
"""Between two steps of a stack, the products read as much as the last-level cache holds, times this."""
MAX_COPIES = 16
"""Of the products: 0.8 GB, more than twice the largest caches."""
_PREFIX = "rates:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a device's products reach.

    Attributes:
        precision: Storage of the weights that `linear` is of.
        bandwidth: Bytes per second, of float32 weights read in decode steps.
        linear: Operations per second of products with weights of this precision, in prefill.
        plain: The same in float32.
    """

    precision: PrecisionName
    bandwidth: float
    linear: float
    plain: float


def probes(precision: PrecisionName, cold: tuple[Point, ...], cache_bytes: int) -> Iterator[Entrant]:
    """The products that give the rates: in float32, which also empty the cache, and in the precision of the blocks.

    Args:
        precision: Of the blocks.
        cold: Points at which the blocks must not find their weights in the cache.
        cache_bytes: Of the device's last-level cache.
    """
    wanted = math.ceil(SPILL * cache_bytes / block_weight_bytes(PROBE, PROBE_WIDTH, "fp32"))
    copies = min(MAX_COPIES, max(PREFILL_COPIES, wanted))
    steps = () if any(map(_is_step, cold)) else (STEP,)
    yield _probe("fp32", copies, (PRODUCT, *dict.fromkeys(cold), *steps))
    if precision != "fp32":
        yield _probe(precision, PREFILL_COPIES, (PRODUCT,))


def _probe(precision: PrecisionName, copies: int, points: tuple[Point, ...]) -> Entrant:
    load = Workload(name="rates", points=(PRODUCT,), description="large products, for the roofline")
    layout = stack(PROBE, PROBE_WIDTH, copies)
    prepared = prepare(layout, workload=load, precision=precision, context=max(point.context for point in points))
    return Entrant(
        name=f"{_PREFIX}{precision}*{copies}", layout=layout, prepared=prepared, points=points, traced=False,
        checked=False,
    )  # fmt: skip


def _is_step(point: Point) -> bool:
    """Whether a point has steps of one sequence, several in a row."""
    return point.batch == 1 and point.decode > 1


def not_emptied(measurement: Measurement) -> str | None:
    """Why nothing emptied the cache in a comparison, whose steps are then of no use; None when all is well."""
    assert measurement.result is not None
    for contender in measurement.result.contenders:
        if contender.name.startswith(f"{_PREFIX}fp32*") and contender.error:
            return f"the products that empty the cache did not run: {contender.error}"
    return None


def read_rates(measurement: Measurement, precision: PrecisionName) -> Rates | None:
    """The rates that a comparison found beside its blocks; None where its products did not run.

    Those of the process that was fastest: a rate is what can be reached.
    """
    assert measurement.result is not None
    result = measurement.result
    speeds: dict[str, float] = {}
    read: list[float] = []
    flops = PROBE.flops(PROBE_WIDTH, tokens=PRODUCT.prompt, context=PRODUCT.prompt)
    for contender in measurement.result.contenders:
        name, _, copies = contender.name.removeprefix(_PREFIX).rpartition("*")
        if not contender.name.startswith(_PREFIX) or contender.error:
            continue
        product, *cold = contender.points
        speeds[name] = flops * int(copies) / (min(medians(result, product, "ttft")) * 1e-3)
        weights = block_weight_bytes(PROBE, PROBE_WIDTH, "fp32") * int(copies)
        steps = [at for at in cold if _is_step(measurement.points[at])]
        read += [weights / (min(medians(result, at, "decode")) * 1e-3) for at in steps]
    if not read or "fp32" not in speeds or precision not in speeds:
        return None
    return Rates(precision=precision, bandwidth=max(read), linear=speeds[precision], plain=speeds["fp32"])


@lru_cache(maxsize=512)
def _linear_params(block: Block, width: int) -> int:
    """Weights that stand in products with every token: what is stored at the graph's precision."""
    candidate = export_block(block, width, precision="fp32", context=1)
    return sum(parameter.count for parameter in candidate.parameters if parameter.encoding != "plain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a block cannot do without at one point.

    Attributes:
        linear: Operations of products with stored weights.
        plain: All others, in float32: scores, recurrences, gates.
        moved: Bytes that are read or written at least once.
    """

    linear: int
    plain: int
    moved: int

    @property
    def flops(self) -> int:
        """All operations; a multiply-add counts as two."""
        return self.linear + self.plain

    def least_ms(self, rates: Rates) -> float:
        """The time below which it cannot be done: operations or bytes, whichever take longer."""
        return 1e3 * max(self.linear / rates.linear + self.plain / rates.plain, self.moved / rates.bandwidth)


def prefill_work(block: Block, width: int, precision: PrecisionName, point: Point) -> Work:
    """Of a prefill of `point.prompt` tokens: the weights are read once, input and output move once."""
    flops = block.flops(width, tokens=point.prompt, context=point.prompt)
    linear = min(2 * point.prompt * _linear_params(block, width), flops)
    moved = block_weight_bytes(block, width, precision) + 2 * 4 * point.batch * point.prompt * width
    return Work(linear=point.batch * linear, plain=point.batch * (flops - linear), moved=moved)


def decode_work(block: Block, width: int, precision: PrecisionName, point: Point) -> Work:
    """Of one step behind `point.prompt` tokens: weights and carried state are read once."""
    flops = block.flops(width, tokens=1, context=point.prompt + 1)
    linear = min(2 * _linear_params(block, width), flops)
    # Of a window's cache, rows about to be dropped need not be read.
    visible = block.visible if isinstance(block, Mixer) else None
    behind = point.prompt if visible is None else min(point.prompt, visible)
    moved = bytes_per_step(block, width, precision, context=behind, batch=point.batch)
    return Work(linear=point.batch * linear, plain=point.batch * (flops - linear), moved=moved)


def prefill_roof_ms(block: Block, width: int, rates: Rates, point: Point) -> float:
    """Least time of a prefill of `point.prompt` tokens, in ms."""
    return prefill_work(block, width, rates.precision, point).least_ms(rates)


def decode_roof_ms(block: Block, width: int, rates: Rates, point: Point) -> float:
    """Least time of one step behind `point.prompt` tokens, in ms."""
    return decode_work(block, width, rates.precision, point).least_ms(rates)
