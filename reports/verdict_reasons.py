"""The one sentence in which a verdict says why, for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports.formatting import clean, plain_number
from reports.gate import Gate
from reports.looks import Limits, Look
from reports.nights import INVALID, OK, SETTINGS, Acceptance, Night, Run


def wrong(run: Run) -> str:
    """Of a run whose output or number is wrong."""
    if run.status == INVALID:
        return f"wrong output{_because(run.reason)}"
    value = None if run.value is None else run.value.value
    return f"{value} was measured, which no measurement can be"


def absent(run: Run | None, nights: int) -> str:
    """Of a night without a number."""
    if run is None:
        return "not measured tonight"
    status = "measured, with no number" if run.status == OK else clean(run.status).replace("_", " ")
    return f"no number: {status}{_because(run.reason)}{_row(nights)}"


def learning(missing: int, accepted: Acceptance | None, gate: Gate, anew: Sequence[str] = ()) -> str:
    """Of a series that has too few good nights, which begin again with other settings."""
    since = "" if accepted is None else f" since {clean(accepted.by)} accepted a new level"
    nights = (
        "one more good night (this one) is" if missing == 1 else f"{missing} more good nights (this one included) are"
    )
    what = "scatter" if gate.pinned else "level"
    other = f"; the nights before had other settings ({', '.join(anew)}), so the {what} is learned anew" if anew else ""
    return f"nothing can be said yet: {nights} needed{since}{other}"


def vague(look: Look) -> str:
    """Of a night whose interval is too wide."""
    return (
        f"tonight's interval (±{math.expm1(look.own_error):.1%}) is several times as wide as usual and holds the "
        "baseline: this night says nothing"
    )


def noisy(look: Look, gate: Gate) -> str:
    """Of a series in which nothing that matters would be seen."""
    limits = _limits(look)
    scatter = f"±{1.96 * limits.scatter:.0%}"
    return f"no alarm, but nights scatter by {scatter}: only a change above {_seen(limits, gate)} would be seen"


def quiet(look: Look, gate: Gate, *, went_back: bool) -> str:
    """Of a night without an alarm."""
    limits = _limits(look)
    first = gate.cost_factor(look.effect) - 1
    ends = sorted(gate.cost_factor(side * limits.threshold) - 1 for side in (-1, 1))
    return (
        f"{'it went back: ' if went_back else ''}{first:+.1%}, within {ends[0]:+.1%} and {ends[1]:+.1%} of "
        f"{_baseline(limits, gate)}{_together(look, gate)}; a change of {_seen(limits, gate)} would be seen"
    )


def unconfirmed(look: Look, gate: Gate) -> str:
    """Of an alarm that is not confirmed."""
    first = gate.cost_factor(look.effect) - 1
    alarm = f"{first:+.1%} against {_baseline(_limits(look), gate)}, beyond {_limit(look, gate)}"
    if look.confirmed is None:
        return f"{alarm}; {_lacking(look)}"
    return f"{alarm}, but {_fresh(look, gate)}: not confirmed"


def device_wide(look: Look, gate: Gate, effect: float, anchor: float) -> str:
    """Of a night on which the device moved."""
    moved = gate.cost_factor(anchor) - 1
    return (
        f"{effect:+.1%} against {_baseline(_limits(look), gate)}, and the device's anchor moved by {moved:+.1%}: it is "
        "the device (system update, power mode, heat), and need not be what is measured on it"
    )


def alarm(look: Look, gate: Gate, *, silent: bool, anchor: float | None, with_it: bool) -> str:
    """Of a confirmed alarm, or an established change.

    Args:
        look: The night.
        gate: The series, this night taken in.
        silent: There are anchors and they say nothing.
        anchor: Effect of the device's anchors where they moved to the same side; None for an anchor itself.
        with_it: That is all of the change, but the device's settings are others, too.
    """
    limits = _limits(look)
    threshold = _limit(look, gate)
    beyond = f"beyond {threshold}" if look.side else f"within {threshold} and not yet back"
    first = gate.cost_factor(look.effect) - 1
    text = f"{first:+.1%} against {_baseline(limits, gate)}, {beyond}{_together(look, gate)}"
    if anchor is not None:
        meaning = "with other settings as well" if with_it else "which explains a part"
        text += f"; the device's anchor moved by {gate.cost_factor(anchor) - 1:+.1%}, {meaning}"
    elif silent:
        text += "; the device's anchor says nothing tonight, so it may be the device"
    if gate.established:
        return f"{text}; stays until it is accepted or goes back"
    return f"{text}; the first night"


def standing(*, failed: bool) -> str:
    """Of a night that says nothing of a series that failed before."""
    return "; what failed before stands until it is accepted or seen to be back" if failed else ""


def changes(before: Night, now: Night) -> str:
    """What is another in the environment since the last good night."""
    if not now.environment:  # a night that was not measured knows nothing of it
        return ""
    found = _changes(before, now, sorted(set(before.environment) | set(now.environment)))
    return f"; since the last good night: {', '.join(found)}" if found else ""


def settings(before: Night | None, now: Night) -> list[str]:
    """Which settings of the device are others since the last good night."""
    if before is None:
        return []
    return _changes(before, now, [name for name in SETTINGS if name in before.environment and name in now.environment])


def _changes(before: Night, now: Night, names: Sequence[str]) -> list[str]:
    return [
        f"{clean(name)} {clean(old)} -> {clean(new)}"
        for name in names
        if (old := before.environment.get(name, "unknown")) != (new := now.environment.get(name, "unknown"))
    ]


def future(nights: int) -> str:
    """Of nights that are dated after the one that is judged."""
    if not nights:
        return ""
    counted = "one night is" if nights == 1 else f"{nights} nights are"
    return f"; {counted} dated after this one and left out: did a clock jump?"


def _limits(look: Look) -> Limits:
    assert look.limits is not None
    return look.limits


def _baseline(limits: Limits, gate: Gate) -> str:
    value = plain_number(gate.cost_factor(limits.baseline))
    return f"the pinned {value}" if gate.pinned else f"{value}, the median of {limits.nights} good nights"


def _limit(look: Look, gate: Gate) -> str:
    """The threshold on the side of the night, as a change of the quantity: +20% up is -16.7% down."""
    return f"{gate.cost_factor(math.copysign(_limits(look).threshold, look.effect)) - 1:+.1%}"


def _fresh(look: Look, gate: Gate) -> str:
    """What tonight's fresh runs say."""
    said = [f"{gate.cost_factor(effect) - 1:+.1%}" for effect in look.fresh]
    return f"a fresh run says {said[0]}" if len(said) == 1 else f"fresh runs say {', '.join(said)}"


def _together(look: Look, gate: Gate) -> str:
    """What they and the first run come to, where there are any."""
    return f"; {_fresh(look, gate)} ({gate.cost_factor(look.mean_effect) - 1:+.1%} together)" if look.fresh else ""


def _lacking(look: Look) -> str:
    """What an alarm waits for."""
    silent = next((run for run in look.night.confirmations if run.fitness != "number"), None)
    if silent is not None:
        return f"the fresh run has no number{_because(silent.reason)}"
    return "a fresh run is wanted" if not look.fresh else "another fresh run is wanted"


def _seen(limits: Limits, gate: Gate) -> str:
    """The change to the worse side that would be seen, as a change of the quantity."""
    return f"{gate.cost_factor(limits.detectable) - 1:+.1%}"


def _because(reason: str) -> str:
    return f" ({clean(reason)})" if reason.strip() else ""


def _row(nights: int) -> str:
    return f", {nights} nights in a row" if nights > 1 else ""
