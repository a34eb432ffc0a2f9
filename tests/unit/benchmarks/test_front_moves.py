"""The simulation of fronts: the same for the same seed, and right where anybody can see it."""

from __future__ import annotations

import front_moves
from regression_gate import made
from reports.verdicts import replay


def test_a_row_is_the_same_every_time_and_holds_what_it_must():
    rows = [front_moves.cell("independent", 0.01, studies=6, series=32, nights=40, seed=3) for _ in range(2)]
    assert str(rows[0]) == str(rows[1])
    assert rows[0].moved == 0
    assert rows[0].found[-1] > 0.8
    assert all(0 <= share <= 1 for share in (*rows[0].found, *rows[0].left, rows[0].ambiguous, rows[0].points))
    assert "0.0%" in front_moves.line("independent", 0.01, rows[0])


def test_only_layouts_that_a_step_takes_off_the_front_are_slowed_down():
    import numpy as np

    costs = np.asarray([[1.0, 1.0, 0.0], [1.05, 1.05, 0.0], [2.0, 2.0, -1.0]])
    assert front_moves.made_dominated(costs, 0.01) == []
    assert front_moves.made_dominated(costs, 0.1) == [0]


def test_of_fresh_runs_those_count_that_a_night_would_have_taken():
    first, later = [0.0, 0.01, -0.01] * 6, [[0.0] * 18, [0.0] * 18]
    for night, level, fresh in ((15, 0.2, (0.2, 0.2)), (16, 0.2, (0.0, 0.2)), (17, 0.2, (0.2, 0.0))):
        first[night] = level
        for run, each in enumerate(fresh):
            later[run][night] = each
    whole = made(first, later, 0.01)
    verdicts = [verdict for _, (verdict,) in replay([whole])]
    asked = [len(front_moves.taken(*pair).confirmations) for pair in zip(whole.nights, verdicts, strict=True)]
    assert asked == [0] * 15 + [2, 1, 2]
