"""What is kept of comparisons of two runtimes, in the study of nights and never taken for a night: notes and events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

COMPARED = "runtimes compared"
"""Kind of event: a comparison began; what it is to measure, on which devices."""
UNCOMPARED = "runtimes: device lost"
"""Kind of event: a device could not be used, or not to the end; `compared`, `device`, `reason`."""

Side = Literal["a", "b"]
Stage = Literal["pairs", "fresh pairs"]
"""The first round of pairs; and a second one of what the first has found to differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeNote:
    """What a measurement was made for. It has no `part`, without which `archsearch.regress.notes.Note` reads nothing.

    Attributes:
        compared: Seconds since 1970 at which the comparison began.
        suite: Name of the suite.
        item: Name of the thing in it.
        identity: Layout id, or sha256 of a file.
        runtimes: The versions A and B.
        side: Which of them ran.
        stage: Of the comparison.
        pair: Number of the pair in its stage, from 0.
        quantities: What is judged of it.
        minimum_effect: Smallest relative change that counts.
        archsearch: Version of this program.
    """

    compared: float
    suite: str
    item: str
    identity: str
    runtimes: tuple[str, str]
    side: Side
    stage: Stage
    pair: int
    quantities: tuple[str, ...]
    minimum_effect: float
    archsearch: str

    def to_json(self) -> dict[str, Any]:
        """As the record holds it."""
        return {**asdict(self), "runtimes": list(self.runtimes), "quantities": list(self.quantities)}

    @classmethod
    def read(cls, notes: Mapping[str, Any]) -> RuntimeNote | None:
        """The inverse of `to_json`; None for what is no note of a comparison."""
        values: dict[str, Any] = {name: notes.get(name) for name in cls.__slots__}
        if values["side"] not in get_args(Side) or values["stage"] not in get_args(Stage):
            return None
        if not isinstance(values["runtimes"], list) or not isinstance(values["quantities"], list):
            return None
        try:
            a, b = map(str, values["runtimes"])
            note = cls(**{
                **values, "compared": float(notes["compared"]), "runtimes": (a, b), "pair": int(notes["pair"]),
                "suite": str(notes["suite"]), "item": str(notes["item"]), "identity": str(notes["identity"]),
                "quantities": tuple(map(str, values["quantities"])), "archsearch": str(notes["archsearch"]),
                "minimum_effect": float(notes["minimum_effect"]),
            })  # fmt: skip
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        return note if math.isfinite(note.compared) and 0 < note.minimum_effect < math.inf else None
