"""Where the time of a measured layout goes: its profile told by layers, parts, blocks and operators.

Profiling slows a model down, most of all many small operators: shares are what one reads, and the measured time stands
beside the sum. Node names carry the block's path (`search_space.graph.builder`), which says what a node belongs to;
what onnxruntime has inserted under a name of its own, and a file that is none of our exports, are `other`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from archsearch.measurement import Measurement
from profiler.results import OperatorProfile, ProfileEntry
from profiler.workloads import Point
from search_space.layout import Layout

Part = Literal["embedding", "mixer", "ffn", "norm", "head", "other"]

_IN_A_LAYER = re.compile(r"layers\.([0-9]{1,4})(?:\.(mixer|ffn)(?:\..*)?)?")
_AT_THE_TOP = re.compile(r"/[A-Za-z0-9]+_([0-9]{1,9})")
_EMBEDDING_NODES = 2
"""Look-up and cut to the rank; a projection and a scale are added where the layout has them. They come first."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTime:
    """Time in nodes of one operator.

    Attributes:
        layer: Index of the layer, or None for what is in none or, in a sum, in several.
        part: Of the layer or the model; a norm has the residual sum before it.
        block: Kind of the block, for mixers and feed-forward networks.
        letter: Of the layer's mixer; None outside of layers, and in sums over layers of several.
        operator: Operator type; empty for a sum of several, and for what was too small to be listed.
        prefill_ms: In the prefill.
        decode_ms: In one decode step, mean over those recorded.
        prefill_share: Of the time of all nodes in the prefill.
        decode_share: Of the time of all nodes in a step.
    """

    layer: int | None
    part: Part
    block: str | None
    letter: str | None
    operator: str
    prefill_ms: float
    decode_ms: float
    prefill_share: float
    decode_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One prefill or one decode step.

    Attributes:
        nodes_ms: Time in nodes, under the profiler.
        outside_ms: What the calls took beyond it: between nodes, and of it the profiler's own work.
        measured_ms: What was measured without a profiler: the median TTFT, or decode step; None where nothing was.
    """

    nodes_ms: float
    outside_ms: float
    measured_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """A profile and what its nodes belong to.

    Attributes:
        point: The measured point.
        prompt: Tokens of the profiled prefill; fewer than the point's where that would have taken too long, and then
            `prefill` compares a short prefill with the measured one of the point.
        steps: Decode steps that were recorded.
        rows: Every operator of every part; their times add up to those of the nodes.
        prefill: The prefill as a whole.
        decode: One step as a whole.
    """

    point: Point
    prompt: int
    steps: int
    rows: tuple[PartTime, ...]
    prefill: Phase
    decode: Phase

    def by_block(self) -> tuple[PartTime, ...]:
        """Sums over layers and operators: one row for each kind of block and each other part, largest first."""
        return _sums(self.rows, lambda row: (row.part, row.block))

    def by_operator(self) -> tuple[PartTime, ...]:
        """Sums over layers: one row for each operator of a kind of block or of another part, largest first."""
        return _sums(self.rows, lambda row: (row.part, row.block, row.operator))

    def by_layer(self) -> tuple[PartTime, ...]:
        """Sums over operators: one row for each part of each layer, and for what is in no layer, largest first."""
        return _sums(self.rows, lambda row: (row.layer, row.part))

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the sums by block."""
        return {
            "prompt": self.prompt,
            "steps": self.steps,
            "prefill": asdict(self.prefill),
            "decode": asdict(self.decode),
            "blocks": [asdict(row) for row in self.by_block()],
            "rows": [asdict(row) for row in self.rows],
        }


def breakdown(measurement: Measurement) -> Breakdown | None:
    """Where the time of a measurement goes; None where it has no profile.

    Of a file that is none of our exports, all is `other`: its operators are still told apart.
    """
    profile = measurement.result.profile if measurement.result is not None else None
    if profile is None or profile.reason or profile.point >= len(measurement.points):
        return None
    view = measurement.measured_points[profile.point]
    totals = _total(profile, "prefill_ns"), _total(profile, "decode_ns")
    ttft, step = (view.summary.ttft_ms.value, view.summary.decode_ms.value) if view.summary else (None, None)
    return Breakdown(
        point=view.point,
        prompt=profile.prompt,
        steps=profile.steps,
        rows=tuple(_row(entry, measurement.layout, *totals) for entry in profile.entries),
        prefill=_phase(profile.prefill_ns, totals[0], ttft),
        decode=_phase(profile.decode_ns, totals[1], step),
    )


def _total(profile: OperatorProfile, column: str) -> int:
    return sum(getattr(entry, column) for entry in profile.entries)


def _phase(whole_ns: int, nodes_ns: int, measured_ms: float | None) -> Phase:
    return Phase(nodes_ms=nodes_ns / 1e6, outside_ms=max(0, whole_ns - nodes_ns) / 1e6, measured_ms=measured_ms)


def _row(entry: ProfileEntry, layout: Layout | None, prefill_ns: int, decode_ns: int) -> PartTime:
    layer, part = (None, "other") if layout is None else _place(entry, layout)
    block = None
    if layout is not None and layer is not None:
        found = {"mixer": layout.layers[layer].mixer, "ffn": layout.layers[layer].ffn}.get(part)
        block = None if found is None else found.kind
    return PartTime(
        layer=layer,
        part=part,
        block=block,
        letter=None if layout is None or layer is None else layout.layers[layer].mixer.letter,
        operator=entry.operator,
        prefill_ms=entry.prefill_ns / 1e6,
        decode_ms=entry.decode_ns / 1e6,
        prefill_share=entry.prefill_ns / max(1, prefill_ns),
        decode_share=entry.decode_ns / max(1, decode_ns),
    )


def _place(entry: ProfileEntry, layout: Layout) -> tuple[int | None, Part]:
    """The layer and the part that an entry of a profile is of."""
    if (found := _IN_A_LAYER.fullmatch(entry.group)) is not None:
        index = int(found[1])
        if index < len(layout.layers):
            return index, "mixer" if found[2] == "mixer" else "ffn" if found[2] == "ffn" else "norm"
    elif (found := _AT_THE_TOP.fullmatch(entry.group)) is not None:
        # Nodes are numbered through the whole model, and there are layers between its two ends.
        embedding = layout.embedding
        if int(found[1]) < _EMBEDDING_NODES + (embedding.rank is not None) + embedding.scaled:
            return None, "embedding"
        return None, "norm" if entry.operator.endswith("LayerNormalization") else "head"
    return None, "other"


def _sums(rows: Iterable[PartTime], key: Callable[[PartTime], K]) -> tuple[PartTime, ...]:
    """One row for all with the same key; what they do not share is None, or empty."""
    groups: dict[K, list[PartTime]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return tuple(sorted(map(_sum, groups.values()), key=lambda row: -(row.prefill_share + row.decode_share)))


def _sum(rows: list[PartTime]) -> PartTime:
    first = rows[0]
    return PartTime(
        layer=first.layer if all(row.layer == first.layer for row in rows) else None,
        part=first.part,
        block=first.block,
        letter=first.letter if all(row.letter == first.letter for row in rows) else None,
        operator=first.operator if all(row.operator == first.operator for row in rows) else "",
        prefill_ms=sum(row.prefill_ms for row in rows),
        decode_ms=sum(row.decode_ms for row in rows),
        prefill_share=sum(row.prefill_share for row in rows),
        decode_share=sum(row.decode_share for row in rows),
    )
