"""What `regress run --compare-runtimes` refuses, prints and answers with."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from archsearch.cli.exits import NO_DEVICE, NOTHING_MEASURED, OK, REGRESSION, CommandError
from archsearch.cli.regress_runtimes import _checked, exit_code, print_verdicts, summary, verdict_row
from profiler.errors import ConfigError
from reports.runtime_verdicts import RuntimeVerdict
from reports.values import Value
from reports.verdict import Kind

RUNTIMES = ("1.30.0", "1.31.1")


def verdict(kind: Kind = Kind.SAME, **changes: Any) -> RuntimeVerdict:
    fields: dict[str, Any] = {
        "device": "local", "what": "tiny", "workload": "16/4", "precision": "int4", "quantity": "decode_ms",
        "runtimes": RUNTIMES, "why": "it is so", "values": (1.0, 1.1), "minimum_effect": 0.04, "pairs": 6,
        "change": Value(value=0.1, low=0.08, high=0.12), "detectable": 0.06, **changes,
    }  # fmt: skip
    return RuntimeVerdict(kind=kind, **fields)


NOTHING = verdict(Kind.NO_DATA, values=(None, None), change=None, detectable=None)


@pytest.mark.parametrize("versions", [("newest", "1.31.1"), ("1.31.1", "../../etc"), ("1.31.1", "-r x")])
def test_what_is_no_version_is_refused(versions: tuple[str, str]):
    with pytest.raises(ConfigError, match="is no version of onnxruntime"):
        _checked(versions, [])


@pytest.mark.parametrize(
    ("versions", "typed", "said"),
    [
        (("1.30", "1.30.0"), [], "1.30 and 1.30.0 are the same version"),
        (RUNTIMES, ["devices", "tune"], "tunes nothing"),
        (RUNTIMES, ["junit"], "--junit tells the verdicts of a night"),
        (RUNTIMES, ["github"], "--github tells the verdicts of a night"),
        (RUNTIMES, ["report"], "--report tells the verdicts of a night"),
        (RUNTIMES, ["notify"], "--notify tells the verdicts of a night"),
    ],
)
def test_what_does_not_go_together_is_refused(versions: tuple[str, str], typed: list[str], said: str):
    with pytest.raises(CommandError, match=said):
        _checked(versions, typed)


def test_versions_are_written_as_they_should_be():
    assert _checked(("v1.30.0", "1.31.1RC1"), ["suite", "seed", "lowering"]) == ("1.30.0", "1.31.1rc1")


@pytest.mark.parametrize(
    ("verdicts", "lost", "code"),
    [
        ([verdict(), verdict(Kind.SLOWER)], {}, REGRESSION),
        ([verdict(Kind.INVALID, change=None)], {}, REGRESSION),
        ([verdict(), verdict(Kind.FASTER), verdict(Kind.AMBIGUOUS), NOTHING], {"gone": "why"}, OK),
        ([NOTHING], {}, NOTHING_MEASURED),
        ([], {}, NOTHING_MEASURED),
        ([NOTHING], {"gone": "why"}, NO_DEVICE),
    ],
)
def test_exit_codes(verdicts: list[RuntimeVerdict], lost: dict[str, str], code: int):
    assert exit_code(verdicts, lost) == code


def test_a_row_is_plain_and_finite():
    row = verdict_row(verdict(change=Value(value=0.1, low=-1.0, high=math.inf), why="a\x1b[2Jb"))
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert (row["change"], row["change_low"], row["change_high"]) == (0.1, -1.0, None)
    assert "\x1b" not in row["why"]
    assert (row["runtime_a"], row["runtime_b"], row["value_a"], row["value_b"]) == (*RUNTIMES, 1.0, 1.1)


@pytest.mark.parametrize("output_format", ["table", "md", "csv", "json"])
def test_every_format_shows_what_was_said(output_format: str, capsys: pytest.CaptureFixture[str]):
    wide = verdict(Kind.AMBIGUOUS, change=Value(value=0.1, low=-1.0, high=math.inf))
    print_verdicts([verdict(Kind.SLOWER), wide, NOTHING], RUNTIMES, output_format)
    said = capsys.readouterr().out.replace("\\", "")
    for word in ("SLOWER", "NO-DATA", "1.30.0", "1.31.1", "decode_ms", "it is so"):
        assert word in said
    if output_format in ("table", "md"):
        assert "+10.0% [+8.0%, +12.0%]" in said
        assert "6.0%" in said


def test_the_last_line():
    lines = summary([verdict(), verdict(), verdict(Kind.SLOWER)], {"gone": "no answer"}, RUNTIMES)
    assert lines == [
        "archsearch: gone was lost: no answer",
        "onnxruntime B = 1.31.1 against A = 1.30.0: 3 quantities: 2 SAME, 1 SLOWER",
    ]
