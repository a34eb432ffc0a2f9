"""Figures of notebooks: curves, the roofline, still pictures, and what a cell shows."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import plotly.graph_objects as go
import pytest

from reports.figures import blocks_figure, curves_figure, roofline_figure, svg
from reports.notebook import PLOTLY, say, show, table
from tests.unit.reports.test_figures import row

SVG = "{http://www.w3.org/2000/svg}"
POINTS = [
    {"V": 1024, "ms": 2.0, "ms_low": 1.5, "ms_high": 3.0, "kind": "tied"}, {"V": 4096, "ms": None, "kind": "tied"},
    {"V": 2048, "ms": 4.0, "kind": "tied"}, {"V": 2048, "ms": 5.0, "kind": "<b>untied</b>"},
]  # fmt: skip


def curves(**more: Any) -> go.Figure:
    return curves_figure(POINTS, x="V", y="ms", line="kind", x_title="tokens", y_title="ms", **more)


def block(name: str, **changes: Any) -> dict[str, Any]:
    roofs = {f"{phase}_{field}": value for phase in ("prefill", "decode") for field, value in (
        ("flops", 4e9), ("bytes", 2e7), ("ms", 10.0), ("roof_share", 0.5))}  # fmt: skip
    rates = {"best_bandwidth": 4e10, "best_linear": 8e11, "best_plain": 2e11}
    return {"block": name, "color": "#e69f00", **roofs, **rates, **changes}


def drawing(figure: go.Figure) -> ElementTree.Element:
    return ElementTree.fromstring(svg(figure))


def texts(figure: go.Figure) -> list[str]:
    return [str(found.text) for found in drawing(figure).iter(f"{SVG}text")]


def test_a_line_for_each_kind_in_order_of_size():
    tied, untied = curves().data
    assert list(tied.x) == [1024, 2048, 4096]
    assert list(tied.y) == [2.0, 4.0, None]
    assert list(tied.error_y.array) == [1.0, 0.0, 0.0]
    assert list(tied.error_y.arrayminus) == [0.5, 0.0, 0.0]
    assert untied.error_y.array is None
    assert untied.name == "&lt;b&gt;untied&lt;/b&gt;"
    assert curves().layout.xaxis.ticktext == ("1,024", "2,048", "4,096")


def test_marks_and_a_limit_are_drawn_beside():
    *_, marks, limit = curves(marks=[{"V": 8192, "ms": 1.0, "label": "a model"}], limit=(4.5, "budget")).data
    assert (marks.text, list(limit.x), list(limit.y)) == (("a model",), [1024, 8192], [4.5, 4.5])
    assert curves(share=True).layout.yaxis.tickformat == ".0%"


def test_a_block_stands_at_its_operations_per_byte_under_the_roof():
    figure = roofline_figure([block("A"), block("B", decode_ms=None), block("C", best_bandwidth=None)])
    decode, prefill, other, slope, level = figure.data
    assert (list(prefill.x), list(prefill.y)) == ([200.0], [400.0])
    assert (decode.marker.symbol, prefill.marker.symbol, other.name) == ("circle-open", "circle", "B")
    assert list(slope.x) == [100.0, 100.0, 400.0]  # the bend, at 20 operations per byte, lies left of all that is shown
    assert list(slope.y) == [800.0, 800.0, 800.0]
    assert list(level.y) == [200.0] * 3
    assert not roofline_figure([]).data


def test_a_still_picture_has_every_mark_bar_and_word():
    figure = curves(marks=[{"V": 8192, "ms": 1.0, "label": "a & b"}])
    found = texts(figure)
    assert {"tokens", "ms", "tied", "<b>untied</b>", "published models", "a & b", "1,024", "4,096"} <= set(found)
    circles = list(drawing(figure).iter(f"{SVG}circle"))
    assert len(circles) == 2 + 1  # two points with a value, and the one of the legend
    lowest, highest = (float(circle.get("cy", "nan")) for circle in circles[:2])
    assert highest < lowest  # 4 ms above 2 ms
    picture = drawing(figure)
    assert (picture.get("width"), picture.get("height")) == ("860", "420")
    for circle in circles:
        assert 0 < float(circle.get("cx", "nan")) < 860
        assert 0 < float(circle.get("cy", "nan")) < 420


def test_places_on_logarithmic_axes_and_in_panels():
    figure = blocks_figure([row("A", 512), row("A", 2048), row("B", 512, prefill_ms=None)])
    assert len({float(circle.get("cx", "nan")) for circle in drawing(figure).iter(f"{SVG}circle")}) == 4 + 1
    assert texts(figure).count("context, tokens") == 4
    assert "carried state, KiB per block" in texts(figure)


def test_a_range_of_its_own_leaves_out_what_lies_beyond():
    figure = curves(marks=[{"V": 8192, "ms": 100.0, "label": "far away"}])
    assert "far away" in texts(figure)
    figure.update_yaxes(range=[0, 6])
    picture = drawing(figure)
    assert "far away" not in texts(figure)
    marks = [float(circle.get("cy", "nan")) for circle in picture.iter(f"{SVG}circle")]
    assert len(marks) == 2 + 1  # two points, and the one of the legend
    (box, *_) = list(picture.iter(f"{SVG}svg"))[1:]
    top, height = float(box.get("y", "nan")), float(box.get("height", "nan"))
    assert marks[1] == pytest.approx(top + height / 3, abs=0.1)  # 4 of 6 ms


def test_bars_at_one_place_stand_side_by_side():
    points = [{"V": 1024, "ms": 2.0, "ms_low": 1.0, "ms_high": 3.0, "kind": kind} for kind in "ab"]
    one, other = curves_figure(points, x="V", y="ms", line="kind", x_title="tokens", y_title="ms").data
    assert (list(one.x), list(one.customdata), list(other.customdata)) == ([1024], [1024], [1024])
    assert 1024 < other.x[0] < 1.1 * 1024


def test_labels_stand_where_there_is_room():
    figure = curves(marks=[{"V": 2048, "ms": 1.0, "label": "here", "at": "middle left"}])
    (label,) = (found for found in drawing(figure).iter(f"{SVG}text") if found.text == "here")
    assert label.get("text-anchor") == "end"
    assert figure.data[-1].textposition == ("middle left",)


def test_other_traces_are_refused():
    with pytest.raises(ValueError, match="scatter traces only, not of bar"):
        svg(go.Figure(go.Bar(x=[1], y=[2])))


@pytest.mark.parametrize("form", [None, ".0%", "~s"])
def test_ticks_are_round_numbers(form: str | None):
    figure = go.Figure(go.Scatter(x=[0.0, 1.0], y=[0.0, 1.0 if form == ".0%" else 3e6]))
    figure.update_yaxes(tickformat=form, rangemode="tozero")
    shown = texts(figure)
    assert {None: "2,000,000", ".0%": "40%", "~s": "2M"}[form] in shown


def test_a_cell_shows_a_figure_twice_words_and_tables():
    forms = show(curves())._repr_mimebundle_()
    assert set(forms) == {PLOTLY, "image/svg+xml", "text/plain"}
    assert json.loads(json.dumps(forms[PLOTLY]))["data"][0]["x"] == [1024, 2048, 4096]
    assert say("\n    one\n      two\n")._repr_mimebundle_()["text/markdown"] == "one\n  two"
    made = table([{"a|b": "1", "word": "x*"}, {"a|b": "—", "word": "<y>"}])._repr_mimebundle_()["text/markdown"]
    assert made.splitlines() == ["| a\\|b | word |", "| ---: | --- |", "| 1 | x\\* |", "| — | &lt;y&gt; |"]
