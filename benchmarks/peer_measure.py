"""Two models measured in turns on one device, and their ratios over rounds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from archsearch.progress import duration
from archsearch.subjects import Subject, timeout_factor
from profiler.jobs import Job, Protocol, new_job_id
from profiler.results import Result, parse_result
from profiler.runner import DeviceSession
from profiler.stats import Interval, ratio_of_pairs
from profiler.workloads import Point

OURS, THEIRS = "ours", "theirs"
ROUND = Protocol(min_processes=1, max_processes=1, min_repeats=3, max_repeats=3, time_budget_s=120.0)
"""One fresh process that is timed, and one of its own for peak memory."""
TRIAL = Protocol(min_processes=1, max_processes=1, min_repeats=1, max_repeats=1, max_warmups=1, memory_pass=False)
_SPARE = ("throttled", "not_cooled")
Say = Callable[[str], None]


class NoNumbers(Exception):  # noqa: N818 - what the device said of a model
    """A model did not run; the message has the device's reason."""


class TimeLeft:
    """Time left, from the speed so far; work is counted in prompt and decode tokens times parameters.

    Args:
        work: All that there is to do.
    """

    def __init__(self, work: float) -> None:
        self._work = work
        self._done = 0.0
        self._spent = 0.0

    def after(self, work: float, seconds: float) -> str:
        """Count a job; what is left, for a message."""
        self._done += work
        self._spent += seconds
        return f"{duration(self._spent / self._done * max(0.0, self._work - self._done))} left"

    def drop(self, work: float) -> None:
        """Work that is not to be done after all; less than nothing for work that is to be done again."""
        self._work -= work


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two models, as jobs need it.

    Attributes:
        subject: What is measured.
        fields: Its fields of a job.
        files: What travels.
    """

    subject: Subject
    fields: Mapping[str, Any]
    files: Mapping[str, bytes]

    @classmethod
    def of(cls, subject: Subject) -> Side:
        """Prepare a subject; a foreign file is read once, for its hash."""
        return cls(subject=subject, fields=subject.job_fields(), files=subject.files())


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Ours over theirs: below 1 we are faster or smaller.

    Attributes:
        ours: Median over rounds, in the unit of the name it is filed under.
        theirs: Of the other model.
        value: Geometric mean over rounds of the ratios within one round, which saw the same state of the device, with
            the 95% t interval of their logarithms. One round has no interval.
    """

    ours: float
    theirs: float
    value: Interval


def run_job(session: DeviceSession, side: Side, point: Point, protocol: Protocol) -> Result:
    """Measure a model once; the result, ok or not."""
    device = session.device
    job = Job(
        job_id=new_job_id(side.subject.label), label=side.subject.label, runtime=session.runtime(), points=(point,),
        protocol=replace(protocol, max_other_cpu=device.cooling.max_other_cpu), memory_mib=device.memory_limit_mib,
        timeout_s=device.timeout_s * timeout_factor((point,)), cooling=device.cooling, **side.fields,
    )  # fmt: skip
    handle = session.submit(job, side.files)
    result = parse_result(session.wait(handle), job)
    session.cleanup(job.job_id)
    return result


def try_out(session: DeviceSession, side: Side, point: Point) -> None:
    """Run a model once, briefly, before anything long is begun with it.

    Raises:
        NoNumbers: It does not run.
    """
    result = run_job(session, side, replace(point, decode=1), TRIAL)
    if result.status not in ("ok", *_SPARE):
        raise NoNumbers(f"{side.subject.label}: {result.status}: {result.reason}")


def measure_in_turns(
    session: DeviceSession,
    sides: Mapping[str, Side],
    point: Point,
    rounds: int,
    say: Say,
    left: TimeLeft,
    work: float,
) -> dict[str, list[Result]]:
    """One timed process and one for memory per model and round, in turns, the order turned round each time.

    A round in which others used the processor is made again, for both models, at most `rounds` times in all. A slow
    one is not. `work` is that of one job, for the time left.

    Raises:
        NoNumbers: A model failed.
    """
    results: dict[str, list[Result]] = {name: [] for name in sides}
    spare = rounds
    done = 0
    while done < rounds:
        found = {}
        for name in sorted(sides, reverse=bool(done % 2)):
            began = time.monotonic()
            result = found[name] = run_job(session, sides[name], point, ROUND)
            ending = left.after(work, time.monotonic() - began)
            state = f"{result.status} {result.reason}".strip()
            say(f"{sides[name].subject.label} {point.text}, round {done + 1}/{rounds}: {state} ({ending})")
        if spare and any(result.status in _SPARE for result in found.values()):
            spare -= 1
            left.drop(-work * len(sides))
            continue
        for name, result in found.items():
            if result.status != "ok" or result.memory is None:
                raise NoNumbers(f"{sides[name].subject.label}: {result.status}: {result.reason}")
            results[name].append(result)
        done += 1
    return results


def ratios(results: Mapping[str, list[Result]]) -> dict[str, Ratio]:
    """Ratios of the first token's time, of the decode step and of peak memory."""
    found = {}
    for what, of in (("ttft_ms", _ttft_ms), ("decode_ms", _decode_ms), ("peak_rss_mib", _peak_rss_mib)):
        ours, theirs = ([of(result) for result in results[name]] for name in (OURS, THEIRS))
        found[what] = Ratio(ours=median(ours), theirs=median(theirs), value=paired_ratio(ours, theirs))
    return found


def _kept_ms(result: Result, steps: bool) -> list[float]:
    kept = [rep for process in result.timing for rep in process.points[0].repeats if rep.kept]
    return [ns / 1e6 for rep in kept for ns in (rep.decode_ns if steps else (rep.ttft_ns,))]


def _ttft_ms(result: Result) -> float:
    return median(_kept_ms(result, False))


def _decode_ms(result: Result) -> float:
    return median(_kept_ms(result, True))


def _peak_rss_mib(result: Result) -> float:
    assert result.memory is not None
    return result.memory.peak_rss_mib


def paired_ratio(ours: list[float], theirs: list[float]) -> Interval:
    """Ratio of two models over rounds, one value of each per round; see `Ratio.value`. One round has no interval."""
    unknown = Interval(value=ours[0] / theirs[0], low=0.0, high=math.inf)
    return ratio_of_pairs(ours, theirs) or unknown
