"""What takes turns in a comparison of kernels: for each lowering of a block a stack to prefill and stacks to decode.

Beside them stand the products of `archsearch.roofline`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from archsearch.candidates import prepare
from archsearch.roofline import probes
from archsearch.stacks import PREFILL_COPIES, STEPS, decode_copies, stack
from archsearch.subjects import Entrant
from profiler.workloads import Point, Workload
from search_space.blocks import Block
from search_space.graph.precision import PrecisionName

FEW_TOKENS = 64
"""A prefill of fewer is bound by the memory, as a step is."""

MAX_SCRATCH = 512 << 20
"""Bytes above which a lowering's largest intermediate keeps it out of comparisons."""


def prefill_point(point: Point) -> Point:
    """What stands for a workload's prefill."""
    return replace(point, decode=1)


def decode_point(point: Point) -> Point:
    """What stands for a workload's steps: the states of its prompt are made up."""
    return Point(batch=point.batch, prompt=1, decode=STEPS, depth=point.prompt - 1)


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
    block: Block, width: int, precision: PrecisionName, workload: Workload, *, prefix: str = ""
) -> Iterator[Entrant]:
    """For every lowering a stack to prefill, and for every point of the workload one to decode.

    They are called ``shifted/prefill*2`` and ``shifted/decode0*16``: lowering, part, copies.

    Args:
        block: The spec.
        width: Model width.
        precision: Storage of its weights.
        workload: Its points say how long prompts are; caches hold its largest context.
        prefix: Before the lowering in the entrants' names.
    """
    for number, name in enumerate(compared(block, workload)):
        stacks: list[tuple[str, int, tuple[Point, ...]]] = []
        for at, point in enumerate(workload.points):
            step = decode_point(point)
            copies = decode_copies(block, width, precision, context=step.context, batch=point.batch)
            stacks.append((f"decode{at}", copies, (step,)))
        # A few tokens take no longer than reading the weights does.
        few = any(_few(point) for point in workload.points)
        copies = max(copies for _, copies, _ in stacks) if few else PREFILL_COPIES
        stacks.insert(0, ("prefill", copies, tuple(prefill_point(point) for point in workload.points)))
        for place, (part, copies, points) in enumerate(stacks):
            layout, load = stack(block, width, copies), replace(workload, points=points)
            prepared = prepare(  # a seed of its own: shared weights would be found in the cache
                layout,
                workload=load,
                precision=precision,
                lowerings={block.kind: name},
                context=max(workload.max_context, load.max_context),
                seed=number + len(block.lowerings) * place,
            )
            title = f"{prefix}{name}/{part}*{copies}"
            yield Entrant(name=title, layout=layout, prepared=prepared, points=points, traced=part == "prefill")


def beside(precision: PrecisionName, workload: Workload, cache_bytes: int) -> Iterator[Entrant]:
    """The products that take turns with the stacks of a workload.

    Args:
        precision: Of the blocks' weights.
        workload: That of the stacks.
        cache_bytes: Of the device's last-level cache.
    """
    cold = [decode_point(point) for point in workload.points]
    cold += [prefill_point(point) for point in workload.points if _few(point)]
    return probes(precision, tuple(cold), cache_bytes)


def _few(point: Point) -> bool:
    return min(point.prompt, point.chunk or point.prompt) < FEW_TOKENS
