"""What a report of a night says in words: title, facts, how to read the numbers. Nothing here is safe yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from reports.change_points import SEGMENT, ChangePoint
from reports.formatting import change_text, moment
from reports.gate import CONFIRMED, FIRST_DEVIATIONS, FIRST_NIGHTS, WINDOW
from reports.lost_devices import LostDevices, night_time, untold
from reports.nights import FRESH_RUNS
from reports.verdict import Verdict
from reports.verdict_summary import counts_text

NOTES: Final = (
    "Every number of a night comes from fresh processes; ± and bars are its 95% interval over them.",
    f"The baseline is the median of the last {WINDOW} good nights, or a value that somebody pinned. The band around it "
    "is what counts as no alarm: it follows how much this series scatters from night to night.",
    f"An alarm is confirmed by {FRESH_RUNS} fresh runs of the same night, one after the other, if each reaches "
    f"{CONFIRMED:.0%} of the threshold; without them there is no FAIL. SLOWER (or bigger) is WARN on its first night "
    "and FAIL from the second on, until it goes back or somebody accepts it (archsearch regress accept).",
    "device-wide: most anchors of the device moved too, so it is the device (system update, power mode, heat) and need "
    "not be what is measured on it.",
    "AMBIGUOUS: there is a number, and nothing can be said. INVALID: wrong output, whatever its speed. NO-DATA: no "
    "number.",
    f"A new series is judged from its {FIRST_NIGHTS + FIRST_DEVIATIONS + 1}th good night on.",
    "Smaller changes than what would be seen are not excluded. A change in steps below the band is followed by the "
    f"baseline and never raises an alarm; change points, which need {SEGMENT} nights on either side, may show it.",
)


def page_title(verdicts: Sequence[Verdict], lost: LostDevices | None = None) -> str:
    """Of which night."""
    at = night_time(verdicts, lost)
    return "archsearch: no night yet" if at is None else f"archsearch: the night of {moment(at)}"


def facts(verdicts: Sequence[Verdict], lost: LostDevices | None = None) -> Mapping[str, str]:
    """What the night comes to, by heading."""
    devices = dict.fromkeys(verdict.series.device for verdict in verdicts)
    since = min((verdict.since for verdict in verdicts if verdict.since is not None), default=None)
    found = {
        "verdicts": counts_text(verdicts, lost),
        "devices": ", ".join(devices) or "none",
        "series": f"{len(verdicts)}, of which {sum(verdict.series.anchor for verdict in verdicts)} are anchors",
    }
    if unseen := untold(lost, verdicts):
        found["without a verdict"] = "; ".join(f"{device}: {why}" for device, why in unseen.items())
    if since is not None:
        found["oldest change"] = f"since {moment(since)}"
    if at := night_time(verdicts, lost):
        found["times"] = clock_text(at)
    return found


def clock_text(at: float) -> str:
    """By which clock times are written: ``UTC+0100``."""
    try:
        found = datetime.fromtimestamp(at).astimezone()
    except (OverflowError, OSError, ValueError):
        return "unknown"
    return f"UTC{found:%z}"


def point_words(points: Sequence[ChangePoint]) -> str:
    """``+10.2% on 2026-03-01 02:30 (worse), ...``."""
    return ", ".join(
        f"{change_text(point.effect)} on {moment(point.time)} ({'worse' if point.worse else 'better'})"
        for point in points
    )
