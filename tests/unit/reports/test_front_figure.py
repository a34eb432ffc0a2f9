"""What figures draw: every kind of point told apart, text that stays text, and sensible pictures of nearly nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from reports.budgets import parse_budgets
from reports.figures import THEMES, embedding_figure, front_figure, parallel_figure, progress_figure
from reports.figures.front import knee
from reports.figures.progress import progress
from reports.figures.text import hover, strip
from reports.objectives import quantity
from reports.page import Section, table_html, write_report
from reports.ranking import Ranking, rank

COLORS = {"C": "#e69f00", "G": "#0072b2"}
EVIL = "<img src=x onerror=alert(1)>"


def row(code: str, ttft: float | None, decode: float | None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "layout_id": f"id-{code}", "code": code, "name": None, "anchor": False, "device": "a", "workload": "w",
        "prompt": 16, "chunk": None, "decode": 4, "batch": 1, "precision": "int4", "status": "ok", "reason": "",
        "effective_params": 1_000_000, "total_params": 1_500_000, "embedding_share": 1 / 3, "width": 64,
        "depth": len(code), "vocab_size": 512, "embedding_rank": None, "created_unix": 1.0, "trial": 0, **more,
    }  # fmt: skip
    for name, value in (("ttft_ms", ttft), ("decode_ms", decode)):
        if value is not None:
            found |= {name: value, f"{name}_low": 0.99 * value, f"{name}_high": 1.01 * value}
    return found


ROWS = [
    row("GG", 2.0, 2.0, name="anchor-1", anchor=True, trial=None),
    row("CG", 1.0, 3.0, created_unix=2.0),
    row("CCG", 1.5, 1.5, created_unix=3.0),
    row("CCCG", 3.0, 1.0, created_unix=4.0),
    row("GCG", 3.5, 3.5),
    row("GCCG", 1.505, 1.51),
    row("GGG", 9.0, 0.5),
    row("CGC", None, None, status="failed"),
]


def ranking(rows: list[dict[str, Any]] | None = None, budgets: tuple[str, ...] = ("ttft_ms<=5",)) -> Ranking:
    return rank(ROWS if rows is None else rows, ["ttft_ms", "decode_ms"], parse_budgets(budgets))


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data if trace.name}


@pytest.mark.parametrize("theme", THEMES)
def test_every_kind_of_point_is_told_apart(theme: Any):
    figure = front_figure(ranking(), "ttft_ms", "decode_ms", colors=COLORS, theme=theme)
    of = traces(figure)
    assert {name: len(trace.x) for name, trace in of.items()} == {
        "dominated": 1, "outside the budgets": 1, "uncertain: intervals overlap": 1, "on the front": 3, "anchor": 1,
        "knee: a suggestion": 1,
    }  # fmt: skip
    assert len({trace.marker.symbol for trace in of.values()}) == len(of), "not by colour alone"
    assert (of["knee: a suggestion"].x[0], of["knee: a suggestion"].y[0]) == (1.5, 1.5)
    assert sorted(of["on the front"].error_x.array) == pytest.approx([0.01, 0.015, 0.03])
    assert figure.layout.xaxis.title.text == "TTFT, ms (lower is better)"
    assert figure.layout.annotations[0].text == "↙ better"
    [stairs] = [trace for trace in figure.data if trace.mode == "lines"]
    assert list(zip(stairs.x, stairs.y, strict=True)) == [(1.0, 3.0), (1.5, 3.0), (1.5, 1.5), (3.0, 1.5), (3.0, 1.0)]


def test_the_knee_is_of_the_two_axes_that_are_drawn():
    # All three are on the front for their parameters, and one beats the others in both times.
    rows = [row(code, ms, ms, effective_params=n) for code, ms, n in (("CG", 1, 10), ("CCG", 2, 20), ("CCCG", 3, 30))]
    found = rank(rows, ["ttft_ms", "decode_ms", "effective_params"])
    figure = front_figure(found, "ttft_ms", "decode_ms", colors=COLORS)
    assert {name: len(trace.x) for name, trace in traces(figure).items()} == {"on the front": 3}


def test_one_that_lacks_a_number_is_not_said_to_be_over_a_budget():
    rows = [row("CG", 1.0, 1.0), row("GG", 2.0, 2.0, peak_rss_mib=None)]
    found = front_figure(ranking(rows, ("peak_rss_mib<=5",)), "ttft_ms", "decode_ms", colors=COLORS)
    assert set(traces(found)) == {"not ranked: a number is missing"}


@pytest.mark.parametrize(
    "rows",
    [
        [], [row("CG", 1.0, 1.0)], [row("CG", None, None, status="failed")], [row("CG", math.nan, 1.0)],
        [row("CG", 9.0, 9.0)], [row("CG", 1.0, 1.0), row("CG", None, None, device="b", status="failed")],
        [row("CG", 1.0, 1.0, ttft_ms_high=None)],
    ],
    ids=["nothing", "one", "failed", "NaN", "nothing feasible", "half failed", "no upper end"],
)  # fmt: skip
def test_pictures_of_nearly_nothing(rows: list[dict[str, Any]]):
    found = ranking(rows)
    front = front_figure(found, "ttft_ms", "decode_ms", colors=COLORS)
    texts = [note.text for note in front.layout.annotations]
    drawn = sum(len(trace.x) for trace in front.data)
    assert texts == (["↙ better"] if drawn else ["nothing with both numbers yet"])
    for figure in (
        parallel_figure(found), embedding_figure(found, colors=COLORS), progress_figure(found, [(1.0, 60.0)])
    ):  # fmt: skip
        assert figure.to_json()


def test_names_are_text():
    evil = row("CG", 1.0, 1.0, name=EVIL, device=EVIL, reason=EVIL)
    for figure in (
        front_figure(ranking([evil]), "ttft_ms", "decode_ms", colors={"C": EVIL}),
        embedding_figure(ranking([evil]), colors={"C": EVIL}),
    ):
        assert "<img" not in figure.to_json()
        assert "&lt;img" in figure.to_json()
    assert "<img" not in table_html([evil], ["ttft_ms"], {"C": '"><img src=x>'})
    assert strip("C\x1b[31m<", {}) == "C[31m&lt;"


def test_a_hover_says_what_one_needs_to_decide():
    rows = [row("CG", 1.0, 2.0), row("CG", 3.0, 4.0, device="b", prompt=1024, chunk=512)]
    text = hover("CG", rows, ["ttft_ms", "decode_ms"], COLORS)
    assert '<span style="color:#e69f00">C</span><span style="color:#0072b2">G</span>' in text
    assert "a, prompt 16: TTFT <b>1.000 ±0.010 ms</b>, decode <b>2.00 ±0.02 ms</b>" in text
    assert "b, prompt 1,024 in pieces of 512: TTFT" in text
    assert "embedding share 33.3%" in text
    one = hover("CG", rows[:1], ["ttft_ms"], COLORS)
    assert "TTFT: <b>1.000 ±0.010 ms</b>" in one
    assert "width 64, 2 layers, vocabulary 512" in one


def test_the_knee_is_where_most_is_gained():
    axes = quantity("ttft_ms"), quantity("effective_params")
    assert knee([(1, 10), (2, 90), (10, 100)], axes) == 1
    assert knee([(1, 10), (9, 20), (10, 100)], axes) is None, "it bulges the other way"
    assert knee([(1, 1), (2, 2)], axes) is None


def test_progress_grows_to_the_whole_front():
    steps = progress(ranking(), [(1.0, 60.0), (2.0, 30.0), (3.0, 30.0), (4.0, 60.0)])
    assert [minutes for minutes, _, _ in steps] == sorted(minutes for minutes, _, _ in steps)
    shares = [share for _, share, _ in steps]
    assert shares == sorted(shares)
    assert steps[-1][0] == 3.0
    assert 0 < shares[-1] < 1


def test_a_report_is_one_file_that_needs_no_other(tmp_path: Path):
    found = ranking()
    page = tmp_path / "r.html"
    section = Section(
        title=EVIL, note="n", figure=front_figure(found, "ttft_ms", "decode_ms", colors=COLORS)
    )  # fmt: skip
    table = table_html(found.table(), ["ttft_ms", "decode_ms"], COLORS)
    write_report(page, title=EVIL, facts={"devices": EVIL}, sections=[section], table=table, notes=[EVIL])
    text = page.read_text(encoding="utf-8")
    assert "<img" not in text.replace("'<img", "")  # plotly's own code makes such elements
    head = text.partition("<script>")[0] + text.rpartition("</script>")[2]
    assert "http" not in head
    assert 'src="' not in text.partition("<body>")[0].partition("<script>")[0]
    assert list(tmp_path.iterdir()) == [page], "nothing half written stays"
