"""Thousands of points as one path: nothing is lost of what the pointer, the legend and a filter need."""

from __future__ import annotations

import re
from typing import Any

import pytest

from reports.figures import front_figure
from reports.figures.cloud import CLOUD
from reports.figures.static import svg
from reports.figures.text import beside
from reports.ranking import Ranking, rank
from tests.unit.reports.test_front_figure import COLORS, row


def ranking(beaten: int) -> Ranking:
    rows = [row("CG", 1.0, 1.0), row("GG", 5.0, 5.0, name="anchor-1", anchor=True)]
    rows += [{**row("CCG", 2.0 + at / beaten, 2.0 + at / beaten), "layout_id": f"id-{at}"} for at in range(beaten)]
    return rank(rows, ["ttft_ms", "decode_ms"])


def traces(figure: Any, name: str) -> list[Any]:
    return [trace for trace in figure.data if trace.name == name]


@pytest.mark.parametrize("beaten", [CLOUD - 1, CLOUD])
def test_many_points_are_one_path_and_still_answer_the_pointer(beaten: int):
    figure = front_figure(ranking(beaten), "ttft_ms", "decode_ms", colors=COLORS, clouds=True)
    [trace] = traces(figure, "dominated")
    assert len(trace.x) == len(trace.customdata) == len(trace.hovertext) == beaten
    if beaten < CLOUD:
        assert (trace.mode, len(figure.layout.shapes)) == ("markers", 0)
        return
    [shape] = figure.layout.shapes
    assert trace.mode == "none"
    assert shape.path.count("M") == beaten
    assert shape.path.startswith(f"M{trace.x[0]:.7g},{trace.y[0]:.7g}H")
    assert (shape.name, shape.legendgroup, shape.showlegend) == ("dominated", trace.legendgroup, True)
    assert not trace.showlegend, "the path stands in the legend"


def test_what_a_filter_leaves_out_stands_back_and_nobody_is_lost():
    found = ranking(CLOUD)
    faded = [entry.key for entry in found.entries if entry.front == "dominated"][:100]
    figure = front_figure(found, "ttft_ms", "decode_ms", colors=COLORS, faded=faded, clouds=True)
    back, kept = figure.layout.shapes
    assert [shape.path.count("M") for shape in (back, kept)] == [100, CLOUD - 100]
    assert back.opacity < kept.opacity / 3
    assert [shape.showlegend for shape in (back, kept)] == [False, True]


def test_a_still_picture_has_every_point_of_a_cloud_and_its_place_in_the_legend():
    found = ranking(CLOUD)
    faded = [entry.key for entry in found.entries if entry.front == "dominated"][:100]
    drawn = svg(front_figure(found, "ttft_ms", "decode_ms", colors=COLORS, faded=faded, clouds=True))
    paths = re.findall(r'<path d="((?:M[-0-9. ]+h0)+)" opacity="([0-9.]+)"', drawn)
    assert [path.count("M") for path, _ in paths] == [100, CLOUD - 100]
    assert float(paths[0][1]) < float(paths[1][1]) / 3
    assert drawn.count(">dominated</text>") == 1


def test_a_still_picture_puts_a_cloud_where_it_puts_its_points():
    found = ranking(CLOUD)
    one_by_one = svg(front_figure(found, "ttft_ms", "decode_ms", colors=COLORS))
    as_cloud = svg(front_figure(found, "ttft_ms", "decode_ms", colors=COLORS, clouds=True))
    places = set(re.findall(r'cx="([-0-9.]+)" cy="([-0-9.]+)"', one_by_one))
    dots = re.findall(r"M([-0-9.]+) ([-0-9.]+)h0", as_cloud)
    assert len(dots) == CLOUD
    assert set(dots) <= places


def test_a_page_without_the_style_gets_markers():
    figure = front_figure(ranking(CLOUD), "ttft_ms", "decode_ms", colors=COLORS)
    assert traces(figure, "dominated")[0].mode == "markers"
    assert not figure.layout.shapes


def test_labels_lean_towards_the_middle():
    assert beside([1.0, 9.0], [0.0, 1.0, 9.0, 10.0]) == ["top right", "top left"]
    assert beside([], []) == []
    figure = front_figure(ranking(3), "ttft_ms", "decode_ms", colors=COLORS)
    [anchor] = traces(figure, "anchor")
    assert list(anchor.textposition) == ["top left"]
    assert 'text-anchor="end">anchor-1' in svg(figure)
