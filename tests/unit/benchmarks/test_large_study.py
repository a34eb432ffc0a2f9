"""The made-up study: it is the same every time, and such as a quiet device would have left it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import large_study
from archsearch.ranked import ranked, read_study
from archsearch.store import Store


def build(path: Path, **options: object) -> Path:
    with Store.open(path) as store:
        large_study.build_study(store, "made up", **options)
    return path


def test_it_is_measured_judged_and_ranked_as_any_study_is(tmp_path):
    path = build(tmp_path / "study.db", candidates=12, devices=large_study.DEVICES, seed=3)
    with Store.open(path, create=False) as store:
        study = read_study(store, "made up")
        assert Counter(m.role for m in study.measurements) == {"candidate": 24, "watch": 6, "anchor": 6}
        assert not study.judgement.unlike
        assert not study.judgement.wrong
        found = ranked(store, study)
        assert found.ranking.relative
        assert len(found.ranking.ranked) >= 9
        assert sum(entry.anchor and entry.rank is not None for entry in found.ranking.entries) == 3
        one = next(m for m in study.measurements if m.role == "candidate" and m.result is not None)
        assert 8_000 < len(store.result(one.job_id) or b"") < 20_000


def test_it_is_the_same_every_time(tmp_path):
    rows = []
    for name in ("one", "other"):
        with Store.open(build(tmp_path / name, candidates=5, seed=1), create=False) as store:
            rows.append(read_study(store, "made up").rows)
    assert rows[0] == rows[1]
    assert {row["status"] for row in rows[0]} <= {"ok", "timeout", "throttled"}
