"""A block of one's own, as CONTRIBUTING.md writes it: installed as a plug-in, put into a layout, and measured."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.conftest import Cli
from tests.unit.search_space.test_exported import example

OWN = "SGS:width=64,vocab=512,ffn=96,head_dim=16"


@pytest.fixture
def plugin(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder: Path = tmp_path_factory.mktemp("site")
    example(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    return folder


@pytest.mark.usefixtures("plugin")
def test_the_example_is_measured_and_marked(cli: Cli):
    done = cli("measure", OWN, "--workload", "16/4", "--format", "json")
    [row] = done.json()
    assert (row["status"], row["code"]) == ("ok", "SGS")
    assert row["lowerings"]["token_shift"] == "exported"
    assert row["lowerings"]["swiglu"] != "exported"
    told = [line for line in done.err.splitlines() if "exported" in line]
    assert told == [
        "local: token_shift runs as exported by torch: its time is of that graph, not of a kernel tuned for it"
    ]
    shown = cli("show", "measure").out
    assert "token_shift as exported by torch, no kernel tuned for it: in SGS" in shown


def test_a_shipped_block_is_measured_as_exported(cli: Cli):
    layout = OWN.replace("S", "C")
    [row] = cli("measure", layout, "--workload", "16/4", "--lowering", "gqa=exported", "--format", "json").json()
    assert row["status"] == "ok"
    assert row["lowerings"]["gqa"] == "exported"


def test_a_module_with_a_loop_is_refused_in_one_line(cli: Cli):
    said = cli.refused("measure", "LC:width=64,vocab=512,ffn=96", "--workload", "16/4", "--lowering", "gla=exported")
    assert "gla cannot be exported by torch" in said
    assert "for t in range(T)" in said


def test_a_broken_plug_in_is_told(cli: Cli, plugin: Path):
    (plugin / "my_blocks.py").write_text("import nothing_of_that_name\n")
    said = cli.refused("describe", "CG:width=64,vocab=512,head_dim=16")
    assert "block plug-in token_shift = 'my_blocks:TokenShift' of package my-blocks does not load" in said
