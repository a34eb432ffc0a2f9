"""The table of a campaign: how often each fault struck, in which phase, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

_NAMES = {"local": "local", "ssh": "SSH", "adb": "phone"}


def markdown(runs: Sequence[Mapping[str, Any]], *, logs: bool = True) -> str:
    """The table of some runs, as they were written as JSON, and every violation, with its log if it is asked for."""
    faults = [fault for run in runs for fault in run["faults"]]
    broken = [run for run in runs if run["violations"]]
    head = f"{len(faults)} faults in {len(runs)} runs; {sum(len(run['violations']) for run in broken)} violations.\n"
    parts = [head, _by_kind(faults), _by_phase(faults)]
    if logs:
        parts += [_violation(run) for run in broken]
    return "\n".join(parts)


def _counts(values: Iterable[str]) -> str:
    return ", ".join(f"{value} {times}" for value, times in Counter(values).most_common())


def _by_kind(faults: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| fault | times | where | the job then | what came of it | next result after (median, longest) |",
        "|---|---:|---|---|---|---|",
    ]
    for kind in sorted({fault["kind"] for fault in faults}):
        those = [fault for fault in faults if fault["kind"] == kind]
        seconds = [fault["recovered_s"] for fault in those if fault["recovered_s"] is not None]
        after = f"{median(seconds):.0f} s, {max(seconds):.0f} s" if seconds else ""
        where = _counts(_NAMES[fault["device"]] for fault in those)
        phases, outcomes = _counts(fault["phase"] for fault in those), _counts(fault["outcome"] for fault in those)
        lines.append(f"| {kind} | {len(those)} | {where} | {phases} | {outcomes} | {after} |")
    return "\n".join(lines) + "\n"


def _by_phase(faults: Sequence[Mapping[str, Any]]) -> str:
    outcomes = [name for name, _ in Counter(fault["outcome"] for fault in faults).most_common()]
    lines = [f"| the job then | {' | '.join(outcomes)} |", "|---|" + "---:|" * len(outcomes)]
    for phase, _ in Counter(fault["phase"] for fault in faults).most_common():
        those = Counter(fault["outcome"] for fault in faults if fault["phase"] == phase)
        lines.append(f"| {phase} | {' | '.join(str(those[outcome] or '') for outcome in outcomes)} |")
    return "\n".join(lines) + "\n"


def _violation(run: Mapping[str, Any]) -> str:
    lines = [f"## Run {run['number']}: {len(run['violations'])} violations", ""]
    lines += [f"- {violation}" for violation in run["violations"]]
    lines += ["", "Faults:", ""]
    lines += [
        f"- {fault['kind']} ({fault['what']}) on {_NAMES[fault['device']]}, {fault['phase']}: {fault['outcome']}"
        for fault in run["faults"]
    ]
    return "\n".join([*lines, "", "```", *run["log"], "```", ""])
