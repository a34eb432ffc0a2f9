"""What is measured: a layout as exported, a file from elsewhere, or several layouts compared in turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from archsearch.measurement import ADHOC
from profiler.jobs import Contender, comparison_id, contender_files
from profiler.workloads import Point, Workload
from search_space.layout import Layout

if TYPE_CHECKING:
    from archsearch.candidates import Prepared
    from profiler.foreign import ForeignModel

TIMEOUT_TOKENS = 4096
"""Prompt tokens of a workload, over points and batch, that a device's `timeout_s` is meant for."""

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "uint8": 1, "int32": 4, "int64": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """One layout of a comparison.

    Attributes:
        name: Unlike the others'.
        layout: The layout, often a stack of one block.
        prepared: As exported.
        points: What of it is timed.
        traced: Whether the device loads it beforehand and counts its operators.
        checked: Whether the device compares its blocks with their reference first.
    """

    name: str
    layout: Layout
    prepared: Prepared
    points: tuple[Point, ...]
    traced: bool = True
    checked: bool = True

    def contender(self) -> Contender:
        """As the job names it."""
        return Contender(
            name=self.name,
            signature=self.prepared.candidate.signature,
            content_id=self.prepared.content_id,
            points=self.points,
            traced=self.traced,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is to be measured: a layout with its prepared candidate, a foreign file, or a comparison.

    Attributes:
        label: For people.
        workload: Its points; of a comparison, what it is made for.
        precision: ``fp32``, ``int8``, ``int4``, or ``file`` for a foreign file.
        role: Role in its study.
        layout: None for a foreign file and a comparison.
        prepared: Exported candidate, for a layout; None when it could not be exported.
        foreign: The inspected file.
        entrants: Of a comparison.
        name: Anchor or file name.
        trial: Number in its study.
        pins: Lowerings that are not to be chosen, by block kind.
        chosen: Whether all lowerings are chosen already: those of `prepared`.
        seed: Of the weights.
        notes: Kept with the measurement, as plain JSON.
    """

    label: str
    workload: Workload
    precision: str
    role: str = ADHOC
    layout: Layout | None = None
    prepared: Prepared | None = None
    foreign: ForeignModel | None = None
    entrants: tuple[Entrant, ...] = ()
    name: str | None = None
    trial: int | None = None
    pins: Mapping[str, str] = field(default_factory=dict)
    chosen: bool = False
    seed: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def points(self) -> tuple[Point, ...]:
        """What is timed: the workload's points, or those of all entrants, one after the other."""
        theirs = tuple(point for entrant in self.entrants for point in entrant.points)
        return theirs or self.workload.points

    def job_fields(self) -> dict[str, Any]:
        """The fields of a `Job` that say what it measures."""
        if self.foreign is not None:
            return {
                "signature": self.foreign.signature,
                "content_id": self.foreign.content_id(),
                "model_path": str(self.foreign.path.resolve()),
            }
        if self.entrants:
            contenders = tuple(entrant.contender() for entrant in self.entrants)
            return {"signature": {}, "content_id": comparison_id(contenders), "contenders": contenders}
        if self.prepared is None:  # it could not be exported: only that is stored
            assert self.layout is not None
            return {"signature": {}, "content_id": f"layout {self.layout.layout_id}, not exported"}
        return {"signature": self.prepared.candidate.signature, "content_id": self.prepared.content_id}

    def files(self) -> dict[str, bytes]:
        """What travels with the job, but for its checks."""
        files = {} if self.prepared is None else dict(self.prepared.files)
        for at, entrant in enumerate(self.entrants):
            names = contender_files(at)
            files[names["graph"]] = entrant.prepared.files["model.onnx"]
            files[names["recipe"]] = entrant.prepared.files["recipe.json"]
        return files

    def exports(self) -> Iterator[tuple[int | None, Layout, Prepared]]:
        """Every exported layout whose blocks are to be checked, with its index in a comparison."""
        if self.layout is not None and self.prepared is not None:
            yield None, self.layout, self.prepared
        for at, entrant in enumerate(self.entrants):
            if entrant.checked:
                yield at, entrant.layout, entrant.prepared

    def weights_bytes(self) -> int | None:
        """Stored weights; None for a comparison."""
        if self.prepared is not None:
            return sum(tensor.nbytes for tensor in self.prepared.candidate.trained_tensors())
        return self.foreign.weight_bytes if self.foreign else None

    def lowerings(self) -> Mapping[str, str]:
        """The lowering of each block, by `block_id`."""
        return {} if self.prepared is None else self.prepared.candidate.lowerings

    def foreign_state_bytes(self) -> tuple[int, ...] | None:
        """State bytes of a foreign graph at each point, from its signature."""
        if self.foreign is None:
            return None
        totals = []
        for point in self.workload.points:
            symbols = {"batch": point.batch, "capacity": point.context}
            totals.append(
                sum(
                    _BYTES[state["dtype"]]
                    * prod(symbols[dim] if isinstance(dim, str) else dim for dim in state["shape"])
                    for state in self.foreign.signature["states"]
                )
            )
        return tuple(totals)


def timeout_factor(points: Iterable[Point]) -> float:
    """How much a device's time-out grows: 1 up to `TIMEOUT_TOKENS` prompt tokens in all, then in proportion."""
    tokens = sum(point.batch * point.prompt for point in points)
    return max(1.0, tokens / TIMEOUT_TOKENS)
