"""`archsearch.open_study`: what notebooks and scripts read, without touching what lies there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from archsearch import open_study
from archsearch.errors import StoreError
from archsearch.measurement import ANCHOR
from archsearch.store import Store
from reports.errors import BudgetError
from tests.unit.archsearch.samples import LAYOUT, measurement
from tests.unit.archsearch.test_show import both, keep


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "s"
    with Store.open(folder / "study.db") as store:
        keep(store, *both())
    return folder


def test_rows_ranking_and_layouts_of_a_study(study: Path):
    opened = open_study(study)
    assert (opened.name, opened.config["objectives"], len(opened.measurements)) == ("s", ["decode_ms"], 2)
    assert repr(opened) == "<study s: 2 measurements>"
    rows = opened.rows
    assert list(rows["anchor"]) == [True, False]
    assert list(rows["decode_ms"]) == pytest.approx([1.0, 1.5], rel=1e-5)
    assert list(rows["decode_ms_low"] < rows["decode_ms"]) == [True, True]
    assert [entry.rank for entry in opened.ranking().entries] == [1, 1]
    assert opened.ranked().left_out == {}
    (one,) = opened.ranking(objectives=["peak_rss_mib"], budgets=["decode_ms<=2"]).ranked
    assert one.values["peak_rss_mib"].value == 100.0
    assert opened.ranking(budgets=["decode_ms<=1.2"]).nothing_feasible
    assert opened.layout(rows["layout_id"][1][:6]).layout == LAYOUT
    assert opened.layout("the anchor").name == "the anchor"
    with pytest.raises(BudgetError):
        opened.ranking(budgets=["fast"])
    for wrong in ("", "nobody"):
        with pytest.raises(StoreError, match="layout"):
            opened.layout(wrong)


def test_the_file_and_its_folder_stay_as_they_are(study: Path):
    file = study / "study.db"
    before = file.read_bytes()
    assert open_study(file).name == open_study(str(study), "s").name == "s"
    assert file.read_bytes() == before
    assert [path.name for path in study.iterdir()] == ["study.db"]


def test_a_study_that_goes_on_is_read_as_it_is_now(study: Path):
    with Store.open(study / "study.db") as running:
        before = open_study(study)
        keep(running, measurement(3, ANCHOR, job_id="later"))  # lies in the write-ahead log
        assert len(before.measurements) == 2
        assert len(open_study(study).measurements) == 3


def test_copies_are_gone_afterwards(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    opened = open_study(study)
    assert len(list(place.iterdir())) == 1
    assert opened.ranking().entries
    del opened
    assert not list(place.iterdir())
    with pytest.raises(StoreError):
        open_study(study, "another")
    assert not list(place.iterdir())


def test_what_cannot_be_opened_is_named(study: Path, tmp_path: Path):
    with pytest.raises(StoreError, match=f"there is no store at {tmp_path / 'nowhere'}"):
        open_study(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"study\.db holds no study 'another'; there are s"):
        open_study(study, "another")
    text = tmp_path / "text.db"
    text.write_text("no database at all, but words" * 40)
    with pytest.raises(StoreError, match=f"store {text}: file is not a database"):
        open_study(text)
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as other:
        other.execute("CREATE TABLE birds (name)")
        other.commit()
    with pytest.raises(StoreError, match=f"{foreign} is a database of something else"):
        open_study(foreign)
    empty = tmp_path / "empty.db"
    Store.open(empty).close()
    with pytest.raises(StoreError, match="holds no study; there are none"):
        open_study(empty)


def test_of_several_studies_the_ranked_one_is_meant(study: Path):
    with Store.open(study / "study.db") as store:
        store.create_study("measure", {"format": 1, "adhoc": True})
    assert open_study(study).name == "s"
    adhoc = open_study(study, "measure")
    assert adhoc.rows.empty
    with pytest.raises(StoreError, match="single measurements, which are not ranked"):
        adhoc.ranking()
    with Store.open(study / "study.db") as store:
        store.create_study("t", dict(open_study(study).config))
    with pytest.raises(StoreError, match="holds more than one study; there are s, measure, t"):
        open_study(study)
