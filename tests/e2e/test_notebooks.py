"""The notebooks: their outputs are those of their data, and fit for a site that runs nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import nbformat
import pytest
from execute import HERE, executed
from nbformat import NotebookNode

NAMES = ("embedding_shares", "operators", "read_a_study")
MOST_BYTES, MOST_DATA_BYTES = 500_000, 1_000_000
PLACES = (*(f"/{name}/" for name in ("home", "tmp", "root", "Users")), str(HERE.parent))
SCRIPTS = ("<script", "javascript:", "http://", "https://cdn")


def read(name: str) -> NotebookNode:
    return nbformat.read(HERE / f"{name}.ipynb", as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: NotebookNode) -> list[Any]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def words(notebook: NotebookNode) -> str:
    return "\n".join(output.data.get("text/markdown", "") for output in outputs(notebook))


def close(one: Any, other: Any) -> bool:
    """Equal, but for the last digits of computed numbers, which differ between processors."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-6, abs=1e-9)
    return bool(one == other)


@pytest.fixture(scope="module", params=NAMES)
def twice(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[NotebookNode, NotebookNode]:
    """A notebook as committed, and executed anew beside a copy of its data."""
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copytree(HERE / "data", folder / "data")
    before = {path.name: path.read_bytes() for path in (folder / "data").iterdir()}
    fresh = executed(HERE / f"{request.param}.ipynb", folder)
    assert {path.name: path.read_bytes() for path in (folder / "data").iterdir()} == before
    return read(request.param), fresh


def test_all_notebooks_are_tested():
    assert {path.stem for path in HERE.glob("*.ipynb")} == set(NAMES)


def test_committed_outputs_are_those_of_the_data(twice: tuple[NotebookNode, NotebookNode]):
    committed, fresh = twice
    assert [cell.source for cell in committed.cells] == [cell.source for cell in fresh.cells]
    for old, new in zip(code_cells(committed), code_cells(fresh), strict=True):
        assert [output.output_type for output in new.outputs] in ([], ["execute_result"])
        assert len(old.outputs) == len(new.outputs), old.source
        for one, other in zip(old.outputs, new.outputs, strict=True):
            assert one.data.keys() == other.data.keys()
            for form in ("text/markdown", "text/plain"):
                assert one.data.get(form) == other.data.get(form)
            plotly = "application/vnd.plotly.v1+json"
            assert close(json.loads(json.dumps(one.data.get(plotly))), json.loads(json.dumps(other.data.get(plotly))))


@pytest.mark.parametrize("name", NAMES)
def test_committed_as_executed_from_top_to_bottom(name: str):
    cells = code_cells(read(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) - 2  # imports show nothing


@pytest.mark.parametrize("name", NAMES)
def test_small_and_without_scripts_and_machines(name: str):
    path = HERE / f"{name}.ipynb"
    assert path.stat().st_size < MOST_BYTES
    text = json.dumps([output.data for output in outputs(read(name))]).replace("http://www.w3.org/2000/svg", "")
    assert not [word for word in SCRIPTS if word in text]
    assert not [place for place in PLACES if place in text]


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_there_as_a_still_picture_too(name: str):
    figures = [output.data for output in outputs(read(name)) if "application/vnd.plotly.v1+json" in output.data]
    assert figures
    assert all(data["image/svg+xml"].startswith("<svg ") for data in figures)


def test_shares_of_published_models():
    said = words(read("embedding_shares"))
    for share in ("62.58%", "33.80%", "29.11%", "18.93%", "11.47%"):
        assert f"**{share}**" in said
    assert "| Qwen3.5-0.8B | 248,320 | 1,024 | 254,279,680 | 752,393,024 | 33.80% | 873,438,784 | 29.11% |" in said


def test_data_are_small_and_name_no_machine():
    for path in (HERE / "data").iterdir():
        content = path.read_bytes()
        assert len(content) < MOST_DATA_BYTES
        assert not [place for place in PLACES if place.encode() in content]
    for name in ("embeddings", "blocks"):
        conditions = json.loads((HERE / "data" / f"{name}.json").read_text(encoding="utf-8"))["conditions"]
        assert {"date", "cpu", "cores", "threads", "runtime", "method", "precision"} <= conditions.keys()
        assert not {"host", "kernel"} & conditions.keys()


def test_a_packed_study_names_no_machine():
    with closing(sqlite3.connect(f"{(HERE / 'data' / 'study.db').as_uri()}?mode=ro", uri=True)) as database:
        results = [
            json.loads(zlib.decompress(found))
            for (found,) in database.execute("SELECT result FROM measurements")
            if found
        ]
        texts = [
            text
            for row in database.execute("SELECT data FROM events UNION ALL SELECT info FROM measurements")
            for text in row
        ]
        assert database.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    assert results
    assert not any({"host", "kernel"} & result["environment"].keys() for result in results)
    assert {json.loads(text).get("owner", "machine/").partition("/")[0] for text in texts} == {"machine"}
    for text in (*texts, *map(json.dumps, results)):
        assert not [place for place in PLACES if place in text]


def test_what_the_notebooks_read_can_be_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The set-up command itself, on layouts that are measured in a second."""
    import measure

    tiny = "CG:width=64,ffn=128,head_dim=32"
    monkeypatch.setattr(
        measure, "subjects", lambda: iter([("tied", f"{tiny},vocab=256"), ("tied", f"{tiny},vocab=512")])
    )
    devices = tmp_path / "devices.yaml"
    devices.write_text(
        "devices:\n  - name: here\n    transport: local\n    threads: 1\n"
        f"    work_dir: {tmp_path / 'work'}\n    cooling: {{max_other_cpu: 1.0, timeout_s: 5}}\n"
    )
    content = measure.measure_embeddings(devices, "here", tmp_path / "runs", tune=False)
    assert [row["layout"][-3:] for row in content["rows"]] == ["256", "512", "512", "256"]
    assert all(row["status"] == "ok" and row["decode_ms_low"] <= row["decode_ms"] for row in content["rows"])
    assert content["conditions"]["threads"] == 1
    assert json.loads(json.dumps(content, allow_nan=False)) == json.loads(json.dumps(content))
