"""What figures draw: every kind of point told apart, text that stays text, and sensible pictures of nearly nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from reports.budgets import parse_budgets
from reports.details import Sample
from reports.figures import (
    THEMES,
    agreement_figure,
    breakdown_figure,
    context_figure,
    embedding_figure,
    front_figure,
    growth_figure,
    parallel_figure,
    progress_figure,
    samples_figure,
)
from reports.figures.agreement import compared
from reports.figures.front import knee
from reports.figures.progress import progress
from reports.figures.spread import coordinate, parallel_axes, within
from reports.figures.text import hover, strip
from reports.kendall import agreement
from reports.objectives import quantity
from reports.page import Section, table_html, write_sections
from reports.ranking import Ranking, rank
from reports.snapshot import Spent
from reports.values import Value

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
    return {trace.name: trace for trace in figure.data if trace.name not in (None, "selected")}


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
        parallel_figure(found), embedding_figure(found, colors=COLORS), progress_figure(found, spent(60.0))
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


def spent(*seconds: float) -> list[Spent]:
    return [Spent(device="a", ended_unix=1.0 + at, seconds=took) for at, took in enumerate(seconds)]


def test_progress_grows_to_the_whole_front():
    steps = progress(ranking(), spent(60.0, 30.0, 30.0, 60.0))
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
    write_sections(page, title=EVIL, facts={"devices": EVIL}, sections=[section], table=table, notes=[EVIL])
    text = page.read_text(encoding="utf-8")
    assert "<img" not in text.replace("'<img", "")  # plotly's own code makes such elements
    head = text.partition("<script>")[0] + text.rpartition("</script>")[2]
    assert "http" not in head
    assert 'src="' not in text.partition("<body>")[0].partition("<script>")[0]
    assert list(tmp_path.iterdir()) == [page], "nothing half written stays"


def exact(values: Any) -> list[Value]:
    return [Value(value=value, low=value, high=value) for value in values]


def test_rank_agreement():
    same = agreement(exact(range(10)), exact(value**2 for value in range(10)))
    assert same is not None
    assert (same.tau, same.low, same.high, same.candidates) == (1.0, 1.0, 1.0, 10)
    assert (same.told_apart, same.alike) == (45, 45)
    opposite = agreement(exact(range(10)), exact(-value for value in range(10)))
    assert opposite is not None
    assert (opposite.tau, opposite.told_apart, opposite.alike) == (-1, 45, 0)
    mixed = agreement(exact([1, 2, 3, 4, 5, 6]), exact([1, 3, 2, 4, 6, 5]))
    assert mixed is not None
    assert mixed.tau == pytest.approx(11 / 15)
    assert mixed.low < mixed.tau < mixed.high or mixed.high == 1
    assert agreement(exact([1, 2, 3]), exact([1, 2, 3])) is None, "too few"
    assert agreement(exact([1, 1, 1, 1]), exact([1, 2, 3, 4])) is None, "no order"
    with pytest.raises(ValueError, match="4 values of one device and 3"):
        agreement(exact([1, 2, 3, 4]), exact([1, 2, 3]))


def test_noise_tells_no_pair_apart():
    wide = [Value(value=value, low=value - 10, high=value + 10) for value in (1.0, 2.0, 3.0, 40.0)]
    found = agreement(wide, exact([4, 3, 2, 50]))
    assert found is not None
    assert (found.told_apart, found.alike) == (3, 3), "only the last lies apart from the others"
    assert found.tau == 0, "the point estimates of the others are in the opposite order"


def test_devices_are_compared_without_anchors():
    there = [{**row, "device": "b"} for row in ROWS]
    rows = [*ROWS, *there]
    [ttft, decode] = compared(rows, ["ttft_ms", "decode_ms", "effective_params"])
    assert (ttft.objective, ttft.one, ttft.other) == ("ttft_ms", "a, prompt 16", "b, prompt 16")
    assert (ttft.agreement.candidates, ttft.agreement.tau) == (6, 1.0)
    figure = agreement_figure([ttft, decode])
    assert list(figure.data[0].x) == [1.0, 1.0]
    assert compared(ROWS, ["ttft_ms"]) == []
    assert "two devices" in agreement_figure([]).layout.annotations[0].text


def test_what_stands_back_keeps_no_bars_and_anchors_never_do():
    keys = {entry.key for entry in ranking().entries}
    of = traces(front_figure(ranking(), "ttft_ms", "decode_ms", colors=COLORS, faded=keys))
    assert max(of["on the front"].marker.opacity) < 0.2
    assert of["on the front"].error_x.array is None
    assert of["anchor"].marker.opacity == 1.0
    assert of["anchor"].error_x.array is not None


def test_a_figure_that_only_tells_what_is_pointed_at():
    figure = front_figure(
        ranking(), "ttft_ms", "decode_ms", colors=COLORS, hovering=False, selected=[("id-CG", "int4")]
    )
    assert all(trace.hovertext is None for trace in figure.data)
    assert {trace.hoverinfo for trace in figure.data if trace.customdata is not None} == {"none"}
    assert (list(figure.data[0].x), list(figure.data[0].y)) == ([1.0], [3.0])


def test_a_brush_is_on_its_axes():
    found = ranking()
    assert parallel_axes(found) == ("ttft_ms", "decode_ms", "embedding_share", "depth")
    drawn = parallel_figure(found, brush={"decode_ms": [(1.0, 2.0)], "width": [(0.0, 1.0)]})
    ranges = [dimension.constraintrange for dimension in drawn.data[0].dimensions]
    assert ranges == [None, (1.0, 2.0), None, None]
    entry = next(entry for entry in found.entries if entry.title == "CCG")
    assert coordinate(entry, "depth") == 3
    assert within(entry, {"decode_ms": [(0, 1), (1.4, 1.6)]})
    assert not within(entry, {"decode_ms": [(1.4, 1.6)], "ttft_ms": [(9, 10)]})


PARTS = [
    {"block": block, "operator": operator, "prefill_ms": prefill, "decode_ms": decode}
    for block, operator, prefill, decode in (
        ("short_conv", "MatMulNBits", 4.0, 1.0), ("short_conv", "Mul", 1.0, 0.5), (EVIL, EVIL, 2.0, 0.25),
    )
]  # fmt: skip


def test_a_breakdown_adds_up():
    figure = breakdown_figure(PARTS)
    sums = [sum(sum(trace.x) for trace in figure.data if trace.xaxis == axis) for axis in ("x", "x2")]
    assert sums == [7.0, 1.75]
    many = [{**PARTS[0], "operator": f"op{number}", "prefill_ms": 1.0} for number in range(30)]
    folded = breakdown_figure(many)
    assert {trace.name for trace in folded.data} >= {"22 others"}
    assert sum(sum(trace.x) for trace in folded.data if trace.xaxis == "x") == 30.0
    assert "no profile" in breakdown_figure([]).layout.annotations[-1].text


def test_samples_that_do_not_count_are_hollow():
    kinds = ("warm-up", "counts", "discarded: others used the device", "counts")
    samples = [Sample(process=n // 2, kind=kind, ttft_ms=1.0 + n, decode_ms=(0.5, 0.6)) for n, kind in enumerate(kinds)]
    figure = samples_figure(samples)
    of = {(trace.name, trace.yaxis): trace for trace in figure.data}
    assert list(of["counts", "y"].x) == [2, 4]
    assert len(of["counts", "y2"].x) == 4
    assert of["warm-up", "y"].marker.symbol == "circle-open"
    assert len(figure.layout.shapes) == 2, "a line in each panel parts the processes"
    assert "nothing was timed" in samples_figure([]).layout.annotations[-1].text


@pytest.mark.parametrize("theme", THEMES)
def test_no_figure_takes_a_name_for_markup(theme: Any):
    point = {"series": EVIL, "prompt": 8, "context": 12, "ttft_ms": 1.0, "ttft_ms_low": None, "decode_ms": None}
    figures = [
        breakdown_figure(PARTS, theme=theme), context_figure([point], theme=theme),
        growth_figure({EVIL: [(128, 1.0), (256, 2.0)]}, theme=theme),
        agreement_figure(compared([{**r, "device": d} for r in ROWS for d in ("a", EVIL)], ["ttft_ms"]), theme=theme),
    ]  # fmt: skip
    for figure in figures:
        text = figure.to_json()
        assert "<img" not in text
        assert "&lt;img" in text


def test_bars_that_are_left_out_are_missed_in_words():
    best = row("G", 1.0, 1.0)
    close = [row("C" * n, 1.001 + n / 1e6, 1.001 + n / 1e6) for n in range(1, 152)]
    names = traces(front_figure(rank([best, *close], ["ttft_ms", "decode_ms"]), "ttft_ms", "decode_ms", colors=COLORS))
    assert names["uncertain: intervals overlap (bars left out)"].error_x.array is None
