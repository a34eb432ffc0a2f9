"""Tables in every format: what is shown, and that no text gets out of its cell."""

import csv
import io
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from reports.errors import UnknownNameError
from reports.formatting import clean, with_interval
from reports.ranking import rank
from reports.tables import FIELDS, FORMATS, render


def row(**fields):
    return {
        "layout_id": "ab12", "code": "CCGCCG", "name": None, "anchor": False, "device": "local", "status": "ok",
        "reason": "", "ttft_ms": 757.3, "ttft_ms_low": 753.9, "ttft_ms_high": 760.7, "decode_ms": 7.12,
        "decode_ms_low": 7.04, "decode_ms_high": 7.2, "peak_rss_mib": 651.25, "total_params": 354_483_968,
        "embedding_share": 0.1893,
    } | fields  # fmt: skip


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (7.12, 7.04, 7.20, "7.12 ±0.08"),
        (7.12, 7.05, 7.30, "7.12 [7.05, 7.30]"),
        (757.3, 745.3, 769.3, "757 ±12"),
        (1234.5, 1234.5, 1234.5, "1,234"),
        (0.142, None, None, "0.1420"),
        (757.3, 401.2, None, "757.3 [401.2, ∞)"),
        (7.1234, 7.1110, 7.1358, "7.123 ±0.013"),
        (0.0, None, None, "0"),
    ],
)
def test_numbers_with_intervals(value, low, high, text):
    assert with_interval(value, low, high) == text


@given(st.floats(1e-3, 1e6), st.floats(1e-6, 0.5))
def test_the_printed_half_width_is_never_narrower_than_the_interval(value, share):
    half = value * share
    found = re.fullmatch(r"[\d.,]+ ±([\d.,]+)", with_interval(value, value - half, value + half))
    assert found is not None
    assert float(found[1].replace(",", "")) >= half * (1 - 1e-6)


def test_a_plain_table_shows_what_was_asked():
    text = render(
        [row()], ["code", "ttft_ms", "decode_ms", "peak_rss_mib", "total_params", "embedding_share"], color=False
    )
    cells = re.split(r"  +", text.splitlines()[1])
    assert cells == ["CCGCCG", "757 ±4", "7.12 ±0.08", "651.2", "354.48M", "18.9%"]


def test_plain_text_has_no_escape_codes_and_colour_colours_each_letter():
    assert "\x1b" not in render([row()], color=False)
    colored = render([row()], ["code"], color=True)
    assert colored.count("\x1b[36mC") == 4
    assert colored.count("\x1b[31mG") == 2


def test_letters_of_ones_own_have_their_own_colour(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    colored = render([row()], ["code"], color=True, letter_styles={"C": "#17becf"})
    assert colored.count("\x1b[38;2;23;190;207mC") == 4
    monkeypatch.setenv("TERM", "dumb")  # asked for all the same: one of sixteen colours
    colored = render([row()], ["code"], color=True, letter_styles={"C": "#19be00"})  # rich remembers the codes of one
    assert len(re.findall(r"\x1b\[[39]\dmC", colored)) == 4


def test_anchors_and_ranks_and_fronts_are_marked():
    rows = [row(code="A", layout_id="a"), row(code="B", layout_id="b", anchor=True, name="lfm", decode_ms=9.0)]
    text = render(rank(rows, ["decode_ms"]).table(), color=False)
    assert re.search(r"^ +1  on +A", text, re.MULTILINE)
    assert re.search(r"^\(2\)  \w+ +lfm +B", text, re.MULTILINE)


def test_rows_without_numbers_are_shown_with_dashes_and_the_reason():
    failed = row(status="timeout", reason="ran for 30 s", ttft_ms=None, decode_ms=math.nan)
    lines = render([row(), failed], color=False).splitlines()
    assert "timeout" in lines[2]
    assert "ran for 30 s" in lines[2]
    assert "—" in lines[2]


def test_exported_kernels_are_named_under_the_table():
    both = {"own": "exported", "gqa": "fused"}
    rows = [row(code=code, name=None, lowerings=both) for code in "ABAC"]
    rows.append(row(code="D", name=None, lowerings={**both, "own": "exported+fused"}))  # two specs of one kind
    for style in ("table", "md"):
        text = render([*rows, row(code="E", lowerings={"gqa": "fused"})], ["code"], style, color=False)
        assert text.splitlines()[-1].startswith(
            "own as exported by torch, no kernel tuned for it: in A, B, C and 1 more"
        )
    assert "exported" not in render([row(lowerings={"gqa": "fused"})], ["code"], color=False)
    assert "exported" not in render([row()], ["code"], color=False)


def test_an_underpowered_p95_is_flagged_and_explained():
    flagged = row(decode_ms_p95=8.0, p95_underpowered=True)
    for format_ in ("table", "md"):
        text = render([flagged], ["decode_ms_p95"], format_, color=False)
        assert "8.000†" in text
        assert "underpowered" in text
    assert "†" not in render([row(decode_ms_p95=8.0, p95_underpowered=False)], ["decode_ms_p95"], color=False)


def test_a_narrow_table_first_drops_what_is_the_same_in_every_row():
    columns = ["rank", "code", "layout_id", "device", "status", "ttft_ms", "decode_ms", "peak_rss_mib"]
    wide = render([row(), row()], columns, color=False)
    width = max(map(len, wide.splitlines())) - 1
    rows = [row(layout_id="aaaaaa"), row(layout_id="bbbbbb")]
    lines = render(rows, columns, width=width, color=False).splitlines()
    assert lines[-1] == "the same in all rows: status ok"
    assert "aaaaaa" in lines[1]
    failed = [row(layout_id="aaaaaa", status="failed"), row(layout_id="bbbbbb", status="failed")]
    assert "failed" in render(failed, columns, width=width, color=False).splitlines()[1]


def test_rows_of_several_points_say_which_each_is():
    rows = [row(prompt=64, chunk=None, decode=4), row(prompt=64, chunk=16, decode=4)]
    heading, *lines = render(rows, color=False).splitlines()
    assert "chunk" in heading.split()
    assert {"prompt", "batch", "workload"}.isdisjoint(heading.split())
    assert [line.split()[1] for line in lines] == ["—", "16"]
    columns = ["code", "device", "prompt", "chunk", "layout_id", "ttft_ms", "decode_ms"]
    narrow = render(rows, columns, width=33, color=False)
    assert narrow.splitlines()[0].split() == ["layout", "chunk", "TTFT", "ms", "decode", "ms"]


def test_ratios_to_the_reference_have_a_short_heading_and_three_decimals():
    rows = [row(ttft_ms_relative=value) for value in (0.98765, 1.5, 1234.5, 0.012345, None)]
    for style in ("table", "md"):
        lines = render(rows, ["code", "ttft_ms_relative"], style, color=False).replace("|", " ").splitlines()
        found = [line.split() for line in lines if "---" not in line]
        assert found[0] == ["layout", "TTFT", "×ref"]
        assert [cells[1] for cells in found[1:]] == ["0.988", "1.500", "1,234", "0.01235", "—"]
    assert "relative" in render([row(own_relative=1)], ["own_relative"], color=False), "of no quantity: as it is"


def test_ids_stay_longest_where_two_layouts_have_one_code():
    columns = ["code", "total_params", "embedding_share", "ttft_ms", "layout_id"]
    rows = [row(layout_id="aaaaaa"), row(layout_id="bbbbbb")]
    assert "bbbbbb" in render(rows, columns, width=30, color=False)
    rows[1]["code"] = "WWWW"
    two_points = [rows[0], rows[0] | {"prompt": 5}, rows[1]]
    assert "bbbbbb" not in render(two_points, columns, width=30, color=False)
    assert "bbbbbb" not in render(rows, columns, width=30, color=False)


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 200])
def test_lines_fit_the_terminal_as_long_as_the_names_do(width):
    long = row(status="failed", reason="because of very many words " * 5, name=None)
    text = render(
        [row(), long],
        ["rank", "code", "status", "ttft_ms", "decode_ms", "peak_rss_mib", "layout_id", "reason"],
        width=width,
        color=False,
    )
    lines = text.splitlines()
    table = [line for line in lines if not line.startswith(("left out", "the same"))]
    assert all(cell_len(line) <= width for line in table)
    assert len(table) == 3
    if width >= 60:
        assert "757" in text
    if width <= 60:
        assert lines[-1].startswith("left out, the terminal is narrow: ")


def test_json_has_every_field_strictly_and_exactly():
    odd = {"lowerings": {"gqa": "fused"}, "x": math.nan, "y": np.float32(0.5), "z": math.inf}
    (found,) = json.loads(render([row(decode_ms=0.1 + 0.2, **odd)], ["code"], "json"), parse_constant=pytest.fail)
    assert set(FIELDS) <= set(found)
    assert found["decode_ms"] == 0.1 + 0.2
    assert (found["lowerings"], found["x"], found["y"], found["z"]) == ({"gqa": "fused"}, None, 0.5, None)
    assert found["bytes_sent"] is None
    assert found["total_params"] == 354_483_968
    assert json.loads(render([], None, "json")) == []


def test_csv_reads_back_with_full_precision():
    (found,) = csv.DictReader(io.StringIO(render([row(decode_ms=1 / 3, anchor=True)], ["code"], "csv")))
    assert next(iter(found)) == "code"
    assert set(FIELDS) <= set(found)
    assert float(found["decode_ms"]) == 1 / 3
    assert (found["anchor"], found["bytes_sent"]) == ("true", "")


def test_a_data_frame_gives_the_same_text():
    rows = [row(), row(status="failed", ttft_ms=None)]
    for format_ in FORMATS:
        text = render(pd.DataFrame(rows), None, format_, color=False)
        if format_ in ("table", "md"):
            assert text == render(rows, None, format_, color=False)
        else:
            assert "nan" not in text.lower()


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="table, json, csv, md"):
        render([], None, "yaml")


# text is data

HOSTILE = "=HYPERLINK(1)|[bold]x[/bold]\x1b[31m\x9b31m\r\n<b>\u202e\ud800:smile:`_*"


def test_hostile_text_stays_in_its_cell():
    rows = [row(reason=HOSTILE, name=HOSTILE, status="failed", code=HOSTILE)]
    table = render(rows, color=True, width=300)
    assert "[bold]x[/bold]" in re.sub(r"\x1b\[[\d;]*m", "", table)
    assert ":smile:" in re.sub(r"\x1b\[[\d;]*m", "", table)
    assert len(table.splitlines()) == 2
    assert "\x1b[31m\x9b" not in table
    markdown = render(rows, ["code", "reason"], "md").splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in markdown] == [3, 3, 3]
    assert "<b>" not in markdown[2]
    (found,) = csv.DictReader(io.StringIO(render(rows, None, "csv")))
    assert found["reason"].startswith("'=")
    (parsed,) = json.loads(render(rows, None, "json"))
    assert parsed["reason"] == clean(HOSTILE)


@given(st.text())
def test_no_text_adds_a_line_a_cell_or_a_control_character(text):
    rows = [row(reason=text, name=text, device=text)]
    for format_ in FORMATS:
        found = render(rows, ["code", "name", "device", "reason", "status"], format_, color=False)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", found)
        found.encode()
    assert len(render(rows, ["code", "reason"], "table", color=False).split("\n")) == 3
    assert len(render(rows, ["code", "reason"], "md").split("\n")) == 4
    (found,) = csv.DictReader(io.StringIO(render(rows, None, "csv")))
    assert not found["name"].lstrip().startswith(("=", "+", "-", "@"))
    lines = render(rows, ["code", "reason"], "md").replace("\\\\", "").replace("\\|", "").splitlines()
    assert len({line.count("|") for line in lines}) == 1
