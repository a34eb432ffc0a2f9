"""Verdicts as workflow commands of GitHub Actions, which shows them beside a run.

Few: a run shows ten of each level, and nobody reads more. Each device has at most one ``error`` (FAIL), one ``warning``
(WARN) and one ``notice`` (FASTER), which names the three worst and says how many more there are. A device without any
verdict has a ``warning``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from reports.formatting import clean
from reports.lost_devices import LostDevices, untold
from reports.verdict import Kind, Level, Verdict
from reports.verdict_summary import by_device, headline

NAMED: Final = 3
_LONGEST: Final = 160
_COMMANDS: Final[Sequence[tuple[str, str, Callable[[Verdict], bool]]]] = (
    ("error", "FAIL", lambda verdict: verdict.level is Level.FAIL),
    ("warning", "WARN", lambda verdict: verdict.level is Level.WARN),
    ("notice", "FASTER", lambda verdict: verdict.kind is Kind.FASTER and verdict.level is Level.FINE),
)


def workflow_commands(verdicts: Sequence[Verdict], lost: LostDevices | None = None) -> list[str]:
    """Lines to print, all errors first; within a level the worst device first."""
    devices = by_device(verdicts)
    found = []
    for command, name, of_it in _COMMANDS:
        for device in devices:
            some = [verdict for verdict in device.verdicts if of_it(verdict)]
            if some:
                title = f"archsearch: {clean(device.device)}: {len(some)} {name}"
                found.append(f"::{command} title={_property(title)}::{_data(_message(some))}")
        if command == "warning":
            for name_of, why in untold(lost, verdicts).items():
                title = f"archsearch: {clean(name_of)}: no verdict"
                found.append(f"::{command} title={_property(title)}::{_data(_short(clean(why)))}")
    return found


def _message(verdicts: Sequence[Verdict]) -> str:
    lines = [_short(clean(headline(verdict))) for verdict in verdicts[:NAMED]]
    if len(verdicts) > NAMED:
        lines.append(f"and {len(verdicts) - NAMED} more")
    return "\n".join(lines)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _data(text: str) -> str:
    """The message of a command; lines are kept, in the only way in which it can hold them."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """A property of a command, which ends at a colon or comma."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
