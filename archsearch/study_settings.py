"""What makes two runs the same study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from profiler.workloads import Workload
from reports.budgets import Budget
from search_space.graph.precision import PrecisionName
from search_space.layout_file import NamedLayout
from search_space.space import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Fixed when a study begins; `archsearch.configuration` reads and writes them as JSON.

    Attributes:
        space: The space.
        workload: Its points are measured.
        precision: Storage of the weights.
        objectives: Names, in order.
        budgets: Limits.
        anchors: Reference layouts; the first is watched.
        sampler: Name of the sampler.
        seed: Of everything random.
        across: How several devices are combined.
        tune: Whether each device's lowerings are chosen by measuring them.
        pins: Lowerings that are given, by block kind.
    """

    space: Space
    workload: Workload
    precision: PrecisionName
    objectives: tuple[str, ...]
    budgets: tuple[Budget, ...]
    anchors: tuple[NamedLayout, ...]
    sampler: str
    seed: int
    across: str
    tune: bool = True
    pins: Mapping[str, str] = field(default_factory=dict)

    @property
    def watched(self) -> NamedLayout | None:
        """The anchor that is measured again and again to see whether a device drifts."""
        return self.anchors[0] if self.anchors else None
