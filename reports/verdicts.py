"""Verdicts on a night: did anything get dearer, on which device, is it the device itself, and since when?

The statistics of one series are in `reports.gate`; which verdict is made when, in `reports.verdict`. Here the series
of all devices are led through their nights in order of time, and what one shows is set beside the anchors of its device
that have the same quantity.

An anchor that moved excuses nothing when the device's settings (`reports.nights.SETTINGS`) are others since the last
good night: half the threads make all slower, the anchor too, and that is what was changed and not the device. A
series that is young begins to learn anew with other settings, which is a WARN: its level would be one of both.

Nights that say nothing (NO-DATA, INVALID, device-wide, a wide interval, an alarm without its fresh runs) neither count
as nights of an alarm nor end it. Anchors that moved while nothing else of their device did are judged as any series.

Clocks: the night that is judged is the latest by its time. Nights dated after it are left out, and the verdict says so:
a clock that once jumped ahead spoils one night, and one that jumped back to before all others leaves nothing to compare
with, which is AMBIGUOUS and never an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from reports import verdict_reasons as reasons
from reports.gate import Gate
from reports.looks import Look
from reports.nights import RESULTS_WITHOUT_NUMBER, Acceptance, Night, Series
from reports.values import Value
from reports.verdict import TOO_NOISY, Kind, Level, Verdict

__all__ = ["TOO_NOISY", "Kind", "Level", "Verdict", "judge", "replay"]


def judge(series: Sequence[Series], *, at: float | None = None) -> tuple[Verdict, ...]:
    """Verdicts on one night, one for each series, in their order.

    Series of several devices may be given together. Judge first what was measured, take a fresh run of those that want
    one (`Verdict.wants_confirmation`), and judge again, until none does.

    Args:
        series: With their nights up to the one that is judged.
        at: Time of the night; the latest of all by default. A run passes its own, so that a clock that jumped back is
            noticed.

    Raises:
        ValueError: Two series have one key.
    """
    last: tuple[Verdict, ...] = ()
    for _, verdicts in replay(series, at=at):
        last = verdicts
    return last


def replay(series: Sequence[Series], *, at: float | None = None) -> Iterator[tuple[float, tuple[Verdict, ...]]]:
    """Time and verdicts of every night in order, each from what was known by then; the last is that of `judge`.

    On earlier nights only series that have that night have a verdict.

    Raises:
        ValueError: Two series have one key.
    """
    keys = [one.key for one in series]
    if len(set(keys)) < len(keys):
        raise ValueError(f"two series have one key: {next(key for key in keys if keys.count(key) > 1)!r}")
    if at is None:
        at = max((night.time for one in series for night in one.nights), default=0.0)
    tracks = [_Track(one, at) for one in series]
    times = sorted({time for track in tracks for time in track.nights} | {at})
    for time in times:
        tonight = [_Tonight(track, time) for track in tracks if time == at or time in track.nights]
        groups: dict[tuple[str, str], list[_Tonight]] = {}
        for one in tonight:
            groups.setdefault(one.group, []).append(one)
        anchors = {group: _anchors(members) for group, members in groups.items()}
        yield time, tuple(_verdict(one, anchors[one.group]) for one in tonight)


class _Track:
    """A series on its way through its nights."""

    def __init__(self, series: Series, at: float) -> None:
        self.series = series
        self.nights = {night.time: night for night in series.until(at)}
        self.future = len({night.time for night in series.nights if night.time > at})
        self.gate = Gate(series.direction, series.minimum_effect)
        self.accepted: Acceptance | None = None
        self.last_good: Night | None = None
        self.without: list[float] = []  # nights in a row with a result that has no number
        self.failed = False
        self._waiting: list[Acceptance] = []
        for word in series.acceptances:  # one that was given later holds from its time on, whatever was said before
            if word.time <= at:
                self._waiting = [*(one for one in self._waiting if one.time < word.time), word]

    def begin(self, time: float) -> None:
        """What somebody accepted from this night on holds from this night on."""
        while self._waiting and self._waiting[0].time <= time:
            self.accepted = self._waiting.pop(0)
            self.gate.accept(self.accepted)
            self.failed = False


class _Tonight:
    """One night of a series, looked at."""

    def __init__(self, track: _Track, time: float) -> None:
        track.begin(time)
        self.track = track
        self.time = time
        self.night = track.nights.get(time)
        self.fitness = "absent" if self.night is None else self.night.first.fitness
        self.look: Look | None = None
        if self.night is not None and self.fitness == "number":
            self.look = track.gate.look(self.night)

    @property
    def group(self) -> tuple[str, str]:
        """Within it anchors tell of the others."""
        return self.track.series.device, self.track.series.quantity

    @property
    def compared(self) -> bool:
        """Whether there is a number that could be compared with a baseline."""
        return self.look is not None and self.look.limits is not None and not self.look.vague

    @property
    def says(self) -> bool:
        """Whether it is known if the series moved."""
        look = self.look
        return look is not None and self.compared and (not look.side or bool(look.stands) or look.confirmed is True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Anchors:
    """What a device's anchors say of a quantity: nothing, that it moved to a side by an effect, that it did not."""

    exist: bool
    known: bool
    side: int = 0
    effect: float = 0.0


def _anchors(group: Sequence[_Tonight]) -> _Anchors:
    anchors = [one for one in group if one.track.series.anchor]
    looks = [one.look for one in anchors if one.look is not None and one.says]
    others = [one.look for one in group if not one.track.series.anchor and one.look is not None and one.compared]
    for side in (1, -1):
        effects = [look.mean_effect for look in looks if (look.side or look.stands) == side]
        alone = others and not any((look.side or look.stands) == side for look in others)
        if 2 * len(effects) > len(looks) and not alone:
            return _Anchors(exist=True, known=True, side=side, effect=median(effects))
    return _Anchors(exist=bool(anchors), known=bool(looks))


def _verdict(one: _Tonight, anchors: _Anchors) -> Verdict:
    track, look = one.track, one.look
    if one.fitness == "wrong":
        assert one.night is not None
        return _made(one, Kind.INVALID, Level.FAIL, reasons.wrong(one.night.first))
    if look is None:
        return _without_number(one)
    track.without.clear()
    gate = track.gate
    if look.limits is None:
        other = reasons.settings(track.last_good, look.night) if gate.young else []
        if other:
            gate.relearn()
        missing = gate.missing
        gate.good(look)
        track.last_good = look.night
        level = Level.WARN if track.future or other else Level.FINE
        return _made(one, Kind.AMBIGUOUS, level, reasons.learning(missing, track.accepted, gate, other))
    if look.vague:
        level = Level.FAIL if track.failed else Level.FINE
        return _made(one, Kind.AMBIGUOUS, level, reasons.vague(look) + reasons.standing(failed=track.failed))
    if not look.side and not look.stands:
        return _without_alarm(one, look)
    side = look.side or look.stands
    effect = gate.cost_factor(look.mean_effect) - 1
    if not look.stands and look.confirmed is not True:
        missing_run = look.confirmed is None
        why = reasons.unconfirmed(look, gate)
        if not missing_run:
            gate.passing(look)
            track.failed = False
        return _made(
            one, Kind.AMBIGUOUS, Level.WARN if missing_run else Level.FINE, why,
            wants_confirmation=missing_run and len(look.fresh) == len(look.night.confirmations) < look.night.fresh_runs,
        )  # fmt: skip
    moved_with_it = anchors.side == side and side * (look.mean_effect - anchors.effect) <= look.limits.threshold
    if moved_with_it and not reasons.settings(track.last_good, look.night):
        gate.device_wide(look)
        return _made(one, Kind.DEVICE_WIDE, Level.WARN, reasons.device_wide(look, gate, effect, anchors.effect))
    if look.side:
        gate.alarmed(look)
    else:
        gate.lingers(look)
    silent = anchors.exist and not anchors.known
    track.failed = side > 0 and gate.established > 0 and (track.failed or not silent)
    level = Level.FINE if side < 0 else Level.FAIL if track.failed else Level.WARN
    anchor = anchors.effect if anchors.side == side and not track.series.anchor else None
    why = reasons.alarm(look, gate, silent=silent, anchor=anchor, with_it=moved_with_it)
    return _made(one, Kind.SLOWER if side > 0 else Kind.FASTER, level, why)


def _without_number(one: _Tonight) -> Verdict:
    track, night = one.track, one.night
    level = Level.FAIL if track.failed else Level.WARN
    if night is not None and night.first.status in RESULTS_WITHOUT_NUMBER:
        track.without.append(night.time)
        if len(track.without) > 1 and track.gate.nights:
            level = Level.FAIL
    elif night is not None:
        track.without.clear()
    why = reasons.absent(None if night is None else night.first, len(track.without))
    return _made(one, Kind.NO_DATA, level, why + reasons.standing(failed=track.failed))


def _without_alarm(one: _Tonight, look: Look) -> Verdict:
    track, gate = one.track, one.track.gate
    assert look.limits is not None
    went_back = bool(gate.established)
    why = reasons.quiet(look, gate, went_back=went_back)
    noisy = math.expm1(look.limits.detectable) > max(TOO_NOISY, 2 * gate.minimum_effect)
    gate.good(look)
    track.last_good = look.night
    track.failed = False
    if noisy:
        return _made(one, Kind.AMBIGUOUS, Level.FINE, reasons.noisy(look, gate))
    return _made(one, Kind.SAME, Level.FINE, why)


def _made(one: _Tonight, kind: Kind, level: Level, why: str, *, wants_confirmation: bool = False) -> Verdict:
    track, look, gate = one.track, one.look, one.track.gate
    limits = None if look is None else look.limits
    effect = None
    if limits is None and look is None:
        limits = gate.limits()
    if look is not None and look.limits is not None:
        half = max(1.96 * look.limits.scatter, look.own_error)
        ends = [gate.cost_factor(look.mean_effect + shift) - 1 for shift in (-half, 0.0, half)]
        effect = Value(low=min(ends), value=ends[1], high=max(ends))
    alarmed = kind in (Kind.SLOWER, Kind.FASTER, Kind.DEVICE_WIDE)
    if kind not in (Kind.SAME, Kind.INVALID) and one.night is not None and track.last_good is not None:
        why += reasons.changes(track.last_good, one.night)
    if one.time == max(track.nights, default=one.time):
        why += reasons.future(track.future)
    since = gate.since if alarmed else None
    if kind is Kind.NO_DATA and track.without:
        since = track.without[0]
    return Verdict(
        series=track.series, time=one.time, kind=kind, level=level, why=why, effect=effect,
        threshold=None if limits is None else math.expm1(limits.threshold),
        detectable=None if limits is None else math.expm1(limits.detectable),
        baseline=None if limits is None else gate.cost_factor(limits.baseline),
        good_nights=gate.nights if limits is None else limits.nights, since=since,
        established=alarmed and gate.established != 0,
        alarm=look is not None and bool(look.side) and not look.stands,
        nights_in_row=gate.streak if alarmed else len(track.without) if kind is Kind.NO_DATA else 0,
        wants_confirmation=wants_confirmation, accepted=track.accepted,
    )  # fmt: skip
