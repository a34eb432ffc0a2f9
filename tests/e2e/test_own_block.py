"""A block of one's own, as CONTRIBUTING.md writes it: installed as a plug-in, put into a layout, and measured."""

from __future__ import annotations

import json
import os
import re
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
    done = cli("measure", OWN, "--workload", "16/4", "--no-tune", "--format", "json")
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
    pinned = ("--no-tune", "--lowering", "gqa=exported")
    [row] = cli("measure", layout, "--workload", "16/4", *pinned, "--format", "json").json()
    assert row["status"] == "ok"
    assert row["lowerings"]["gqa"] == "exported"


def test_a_module_with_a_loop_is_refused_in_one_line(cli: Cli):
    said = cli.refused("measure", "LC:width=64,vocab=512,ffn=96", "--workload", "16/4", "--lowering", "gla=exported")
    assert "gla cannot be exported by torch" in said
    assert "for t in range(T)" in said


def test_a_pinned_lowering_that_cannot_be_is_told_before_a_study_is_made(cli: Cli):
    said = cli.refused(
        "run", "--space", "tiny", "--workload", "16/4", "--trials", "1", "--study", "pinned",
        "--anchor", "LC:width=64,vocab=512,ffn=96", "--lowering", "gla=exported",
    )  # fmt: skip
    assert "anchor LC: gla cannot be exported by torch" in said
    assert not (cli.folder / "runs").exists()


def test_a_candidate_that_cannot_be_exported_is_invalid_and_the_search_goes_on(cli: Cli):
    space = cli.folder / "gla.yaml"
    space.write_text(UNEXPORTED)
    rows = cli(
        "run", "--space", space, "--workload", "16/4", "--no-tune", "--trials", "3", "--sampler", "random",
        "--lowering", "gla=exported", "--study", "mixed", "--format", "json",
    ).json()  # fmt: skip
    status = {row["code"]: row["status"] for row in rows if not row["anchor"]}
    assert status == {"CG": "ok", "LG": "invalid", "GG": "ok"}
    [why] = [row["reason"] for row in rows if row["status"] == "invalid"]
    assert "gla cannot be exported by torch" in why


def test_a_broken_plug_in_is_told(cli: Cli, plugin: Path):
    (plugin / "my_blocks.py").write_text("import nothing_of_that_name\n")
    said = cli.refused("describe", "CG:width=64,vocab=512,head_dim=16")
    assert "block plug-in token_shift = 'my_blocks:TokenShift' of package my-blocks does not load" in said


UNEXPORTED = """\
width: 64
depth: 2
embedding: {vocab_size: 512, tied: true}
mixers:
  short_conv: {}
  gla: {heads: 1, key_dim: 32, value_dim: 64}
  gqa: {heads: 4, kv_heads: 1, head_dim: 16}
pattern: "[CLG]G"
ffn: {hidden: 96}
anchors: ["CG:width=64,vocab=512,ffn=128,head_dim=16"]
"""

SPACE = """\
width: 64
depth: [2, 3]
embedding: {vocab_size: 512, tied: true}
mixers:
  state_space: {heads: [2, width / 16], state_dim: [8, 16]}
  gqa: {heads: 4, kv_heads: 1, head_dim: 16}
pattern: MG
ffn: {hidden: solve, multiple: 16}
anchors: ["CG:width=64,vocab=512,ffn=96,head_dim=16"]
constraints: {total_params: 120K, tolerance: 10%}
"""
MGM = "MGM:width=64,vocab=512,ffn=96,head_dim=16,M.heads=4"
COLORED_M = "\x1b[38;2;23;190;207mM"


@pytest.mark.usefixtures("state_space")
def test_a_block_in_one_file_is_searched_from_space_to_ranking(cli: Cli):
    """Sampled, exported by torch, checked on the device, measured and ranked: nothing but its file and its name."""
    space = cli.folder / "own.yaml"
    space.write_text(SPACE)
    assert re.search(r"^8 layouts .*^ MGM? ", cli("space", "check", space).out, re.MULTILINE | re.DOTALL)

    arguments = ("--workload", "16/4", "--no-tune", "--trials", "2", "--study", "own", "--format", "json")
    rows = cli("run", "--space", space, *arguments).json()
    sampled = [row for row in rows if not row["anchor"]]
    assert len(sampled) == 2
    for row in sampled:
        assert row["status"] == "ok"
        assert row["code"] in ("MG", "MGM")
        assert row["lowerings"]["state_space"] == "exported"
        assert row["rank"] >= 1
        assert 0 < row["ttft_ms"] <= row["ttft_ms_high"]
    assert [row["code"] for row in rows if row["anchor"]] == ["CG"]

    # The device compared every sampled spec with the torch module before it was timed; each of them once.
    records = [record for record in cli.measurements("own") if record.label != "CG"]
    checks = [check for record in records for check in json.loads(record.result or b"")["checks"]]
    own = [check for check in checks if check["name"].startswith("state_space (exported, int4, width 64, ")]
    specs = {name for record in records for name in record.info["lowerings"] if name.startswith("state_space-")}
    assert len(own) == len({check["name"] for check in own}) == len(specs) >= 1
    for check in own:
        assert check["ok"]
        assert 0 < check["rel_rms"] < 1e-4 < check["tolerance"]

    shown = cli.on_terminal("show", "own")
    assert COLORED_M in shown
    assert "state_space as exported by torch, no kernel tuned for it: in MG" in shown


@pytest.mark.usefixtures("state_space")
def test_a_block_in_one_file_is_counted(cli: Cli):
    counted = cli("describe", MGM, "--format", "json").json()
    maps = 64 * (64 + 64 + 16 + 16 + 4) + 64 * 64
    attention = 64 * (64 + 2 * 32) + 64 * 64 + 2 * 16
    assert counted["params"]["mixers"] == 2 * (maps + 4 + 4) + attention
    assert COLORED_M in cli.on_terminal("describe", MGM)


def test_a_study_of_a_block_that_is_gone_says_what_is_missing(cli: Cli):
    (cli.folder / "layout.json").write_text(json.dumps({"format": 1, "layers": [{"mixer": {"kind": "state_space"}}]}))
    said = cli.refused("describe", "layout.json")
    assert "kind 'state_space' is not one of gdn, gla, gqa, none, short_conv, swa" in said
    assert "try: a block of one's own is known where the package is installed that names it" in said
