"""What a verdict on a night is: kind, level, and the numbers that it was made from.

| kind | level | when |
|---|---|---|
| SAME | fine | no alarm, and a change of `TOO_NOISY` or of twice the minimum effect would be seen |
| FASTER | fine | a confirmed alarm to the better side (faster, smaller); stays until accepted, as SLOWER does |
| SLOWER | WARN | a confirmed alarm to the worse side, for the first night, or while the anchors say nothing |
| SLOWER | FAIL | the same, established (`reports.gate`), until somebody accepts it or it goes back |
| device-wide | WARN | a confirmed alarm, and most anchors moved to that side too: by that much less the threshold |
| AMBIGUOUS | fine | there is a number, and nothing can be said: the series is learned; the alarm was not confirmed; |
| | | the interval is several times as wide as usual; or only a change beyond what SAME asks for would be seen |
| AMBIGUOUS | WARN | an alarm whose fresh runs were not taken or have no number; too few nights, a clock having jumped |
| | | or the device's settings having changed |
| INVALID | FAIL | wrong output, or a number that no measurement can have |
| NO-DATA | WARN | no number tonight |
| NO-DATA | FAIL | of a series that had good nights: out of memory, infeasible or timed out, two nights in a row |

Of a series that failed before, NO-DATA and a wide interval are a FAIL too: nobody saw it go back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reports.nights import Acceptance, Series
from reports.values import Value

TOO_NOISY: Final = 0.25
"""A series in which only larger changes would be seen is not called SAME; where twice the minimum effect is more, that
is the limit."""


class Kind(StrEnum):
    """What a night says of a series."""

    SAME = "SAME"
    FASTER = "FASTER"
    SLOWER = "SLOWER"
    AMBIGUOUS = "AMBIGUOUS"
    INVALID = "INVALID"
    NO_DATA = "NO-DATA"
    DEVICE_WIDE = "device-wide"


class Level(StrEnum):
    """What is to be done about it: nothing, look, stop."""

    FINE = "fine"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one night says of one series.

    Attributes:
        series: The series, with all its nights.
        time: The night, seconds since 1970.
        kind: See the module.
        level: See the module.
        why: One sentence for people.
        effect: Relative change of the quantity from the baseline, mean of tonight's runs; its interval is the wider one
            of what nights of this series scatter by (95%) and of what the first run itself says. None without a number
            or while the series is learned.
        threshold: Relative change beyond which there is an alarm: dearer by the factor 1 + threshold, or cheaper.
        detectable: The minimum detectable change: the relative step that is established by its second night with 95%
            probability, where noise is as it was and normal.
        baseline: What tonight is compared with, in the quantity's unit.
        good_nights: Behind the baseline, or gathered so far; 14 at most.
        since: First night of the present alarms, seconds since 1970.
        nights_in_row: Nights of the present alarms that were confirmed and the series' own, or that had a result
            without a number; counted until the change is established.
        established: Whether the change is one that stays until it is accepted or goes back.
        alarm: Whether the night's first run alone was an alarm that fresh runs had to decide on.
        wants_confirmation: They still have to: take a fresh run of the same night, put it after those that the night
            has, and judge again.
        accepted: Whose word the baseline is, if anybody's.
    """

    series: Series
    time: float
    kind: Kind
    level: Level
    why: str
    effect: Value | None = None
    threshold: float | None = None
    detectable: float | None = None
    baseline: float | None = None
    good_nights: int = 0
    since: float | None = None
    nights_in_row: int = 0
    established: bool = False
    alarm: bool = False
    wants_confirmation: bool = False
    accepted: Acceptance | None = None
