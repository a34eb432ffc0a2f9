"""The figure of a series over nights: what is drawn for what, and nothing breaks it."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest

from reports.figures.history import history_figure
from reports.figures.verdict_marks import MARKS, symbol_of
from reports.formatting import moment
from reports.histories import History, environment_changes, histories, night_rows, series_row
from reports.nights import Acceptance, Night, Run
from reports.values import Value
from reports.verdict import Kind, Level
from tests.unit.reports.nightly import DAY, QUIET, night, nights, run, series


def past(*given: Night, at: float | None = None, **options: Any) -> History:
    (found,) = histories([series(*given, **options)], at=at)
    return found


def drawn(history: History, **options: Any) -> Any:
    return history_figure(history.series, history.verdicts, points=history.points, **options)


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data if trace.name}


def texts(figure: Any) -> str:
    return json.dumps(figure.to_plotly_json(), default=str)


def test_every_kind_has_a_symbol_and_a_glyph_of_its_own():
    assert set(MARKS) == set(Kind)
    assert len({mark.symbol for mark in MARKS.values()}) == len(Kind)
    assert len({mark.glyph for mark in MARKS.values()}) == len(Kind)


def test_levels_of_a_kind_differ_in_shape_too():
    assert len({symbol_of(Kind.AMBIGUOUS, level) for level in Level}) == 3
    assert symbol_of(Kind.SLOWER, Level.WARN) != symbol_of(Kind.SLOWER, Level.FAIL)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_nights(theme: Any, count: int):
    one = series(*nights(QUIET[:count]))
    assert history_figure(one, theme=theme).layout.height
    for history in histories([one]):
        assert drawn(history, theme=theme).data


def test_no_night_says_so_without_axes():
    figure = history_figure(series())
    assert [note.text for note in figure.layout.annotations] == ["no night yet"]
    assert figure.layout.xaxis.visible is False


def test_values_with_intervals_by_verdict():
    found = traces(drawn(past(*nights([*QUIET, 12.0, 12.1]))))
    first, second = found["SLOWER, WARN"], found["SLOWER, FAIL"]
    assert (list(first.x), list(first.y)) == ([moment(20 * DAY, seconds=True)], [12.0])
    assert (list(second.x), list(second.y)) == ([moment(21 * DAY, seconds=True)], [12.1])
    assert list(first.error_y.array) == pytest.approx([0.12])
    assert list(first.error_y.arrayminus) == pytest.approx([0.12])
    assert first.marker.symbol == "diamond-open"
    assert second.marker.symbol == "diamond"
    assert "against 10.00, the median of 14 good nights" in first.text[0]


def test_the_axis_has_the_unit_and_an_unknown_quantity_its_name():
    assert drawn(past(*nights(QUIET))).layout.yaxis.title.text == "decode, ms"
    assert drawn(past(*nights(QUIET), quantity="odd_one")).layout.yaxis.title.text == "odd_one"


def test_the_band_is_that_of_each_night_and_does_not_span_gaps():
    history = past(*nights([*QUIET, *[None] * 5, 10.0, 10.1]))
    judged = [v for v in history.verdicts if v.baseline is not None]
    band = traces(drawn(history))["no alarm within"]
    assert max(y for y in band.y if y is not None) == pytest.approx(
        max((v.baseline or 0) * (1 + (v.threshold or 0)) for v in judged)
    )
    assert None not in band.y  # nights without a number have a baseline, too
    apart = past(*nights(QUIET), night(40, 10.0))
    assert None in list(traces(drawn(apart))["no alarm within"].y)


def test_nights_without_a_number_are_marked_below():
    found = traces(drawn(past(*nights(QUIET), night(20, None, status="timeout"), night(21, 9.0, status="invalid"))))
    assert list(found["NO-DATA, WARN"].x) == [moment(20 * DAY, seconds=True)]
    assert found["NO-DATA, WARN"].yaxis == "y2"
    assert found["INVALID, FAIL"].yaxis == "y2"
    assert found["INVALID, FAIL"].marker.symbol == "x"


def test_fresh_runs_stand_beside_their_night():
    found = traces(drawn(past(*nights(QUIET), night(20, 12.0, 11.9))))["fresh run"]
    assert found.y[-1] == 11.9
    assert moment(20 * DAY, seconds=True) < found.x[-1] < moment(21 * DAY, seconds=True)


def test_changes_of_the_environment_are_named_where_they_were():
    before, after = {"runtime": "1.31", "os": "a"}, {"runtime": "1.32", "os": "a"}
    figure = drawn(past(*(night(i, 10.0, environment=before if i < 9 else after) for i in range(20))))
    mark = traces(figure)["environment changed"]
    assert list(mark.x) == [moment(9 * DAY, seconds=True)]
    assert "runtime: 1.31 -&gt; 1.32" in mark.text[0]
    assert "os" not in mark.text[0]
    assert "runtime" in [note.text for note in figure.layout.annotations]


def test_nights_that_say_nothing_of_their_environment_change_nothing():
    given = [night(0, 1, environment={"a": "1"}), night(1, 1), night(2, 1, environment={"a": "1"})]
    assert environment_changes(given) == ()
    (change,) = environment_changes([*given, night(3, 1, environment={"a": "1", "b": "2"})])
    assert change.text == "b unknown -> 2"


def test_acceptances_are_marked_with_their_reason():
    word = Acceptance(time=5 * DAY, reason="on purpose", by="ann", pinned=10.5)
    mark = traces(drawn(past(*nights(QUIET), acceptances=(word,))))["accepted"]
    assert "by ann, pinned to 10.50<br>on purpose" in mark.text[0]


def test_change_points_are_drawn_with_their_effect():
    history = past(*nights([*QUIET, *(1.1 * value for value in QUIET)]))
    assert len(history.points) == 1
    figure = drawn(history)
    assert "<b>▲ +10.0%</b>" in [note.text for note in figure.layout.annotations]
    level = traces(figure)["level between change points"]
    assert list(level.y) == pytest.approx([10.0, 10.0, 11.0, 11.0], rel=0.01)


def test_what_a_change_point_comes_to_stands_above_the_values_and_the_names_of_changes():
    values = [*QUIET, *(1.1 * value for value in QUIET), *(1.5 * value for value in QUIET[:4])]
    given = [night(at, value, environment={"os": "a" if at < 20 else "b"}) for at, value in enumerate(values)]
    figure = drawn(past(*given))
    notes = [note for note in figure.layout.annotations if note.text.startswith("<b>")]
    (name,) = [note for note in figure.layout.annotations if note.text == "os"]
    assert [note.xanchor for note in notes] == ["left", "right"], "the last one would leave the figure"
    assert all((note.y, note.yref, note.yanchor) == (1, "y domain", "bottom") for note in notes)
    shifts = [name.yshift, *(note.yshift for note in notes)]
    assert all(above - below >= 15 for below, above in pairwise(shifts))
    assert figure.layout.margin.t >= shifts[-1] + 17
    assert drawn(past(*nights(QUIET))).layout.margin.t == 14


def test_numbers_that_none_are_do_no_harm():
    odd = [
        Night(time=30 * DAY, first=Run(value=Value(value=math.nan, low=math.nan, high=math.nan))),
        Night(time=31 * DAY, first=Run(value=Value(value=10.0, low=math.nan, high=math.inf))),
        Night(
            time=32 * DAY, first=Run(value=Value(value=-1.0, low=-2.0, high=0.0)), confirmations=(Run(status="lost"),)
        ),
        Night(time=33 * DAY, first=Run(value=Value(value=10.0, low=11.0, high=9.0))),
    ]
    figure = drawn(past(*nights(QUIET), *odd))
    assert list(traces(figure)["INVALID, FAIL"].x) == [moment(at * DAY, seconds=True) for at in (30, 32)]
    lengths = [x for trace in figure.data if trace.error_y.array is not None for x in trace.error_y.array]
    assert all(math.isfinite(x) and x >= 0 for x in lengths)


def test_times_beyond_the_calendar_are_only_odd():
    assert drawn(past(*nights(QUIET), Night(time=1e20, first=run(10.0)))).data


def test_every_name_is_text():
    hostile = "<img src=x onerror=alert(1)>"
    word = Acceptance(time=3 * DAY, reason=hostile, by=hostile)
    given = [night(i, 10.0, environment={hostile: f"{i // 10}{hostile}"}) for i in range(20)]
    given.append(night(20, None, status=hostile, reason=hostile))
    figure = drawn(past(*given, device=hostile, label=hostile, quantity=hostile, acceptances=(word,)))
    assert hostile not in texts(figure)
    assert "&lt;img" in texts(figure)


def test_nights_after_the_last_verdict_are_left_out():
    history = past(*nights([*QUIET, 12.0]), at=19 * DAY)
    assert len(history.verdicts) == 20
    assert 12.0 not in [y for trace in drawn(history).data for y in trace.y or ()]


def test_rows_of_nights_tell_what_fell_on_them():
    word = Acceptance(time=4.5 * DAY, reason="on purpose", by="ann")
    given = [night(i, 10.0 if i < 20 else 11.0, 11.0, environment={"os": "a" if i < 20 else "b"}) for i in range(40)]
    history = past(*given, acceptances=(word,))
    rows = night_rows(history)
    assert [row["night_unix"] for row in rows if row["accepted_tonight"]] == [5 * DAY]
    assert [row["night_unix"] for row in rows if row["environment_changes"]] == [20 * DAY]
    assert rows[20]["environment_changes"] == {"os": ["a", "b"]}
    assert rows[20]["change_point"] == pytest.approx(0.1)
    assert series_row(history)["nights"] == 40
    assert series_row(history)["change_points"][0]["worse"] is True
    json.dumps([rows, series_row(history)], allow_nan=False)
