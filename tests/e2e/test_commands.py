"""The commands that need no measurement of their own: what they print is right and can be read by programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import LAYOUT, Cli, Done

COMMANDS = [
    (), ("run",), ("measure",), ("tune",), ("blocks",), ("show",), ("describe",), ("export",), ("import",),
    ("anchors",), ("workloads",), ("objectives",),
    ("space",), ("space", "check"), ("space", "list"), ("space", "schema"),
    ("devices",), ("devices", "list"), ("devices", "schema"),
]  # fmt: skip


def test_help_of_every_command(shared: Cli):
    from typer.testing import CliRunner

    from archsearch.cli.app import app

    for command in COMMANDS:
        shown = CliRunner().invoke(app, [*command, "--help"])
        assert shown.exit_code == 0, command
        assert "Usage:" in shown.output
        assert CliRunner().invoke(app, [*command, "-h"]).output == shown.output
    assert "Exit codes" in shared("--help").out
    assert shared("--version").out.startswith("archsearch 0.")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['archsearch', '--help']\n"
        "from archsearch.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'optuna', 'pandas', 'plotly', 'dash', 'scipy'}\n"
        "found = heavy & set(sys.modules)\n"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_describe_adds_up(shared: Cli):
    facts = shared("describe", "lfm2.5-350m", "--format", "json").json()
    assert facts["total_params"] == 354_483_968
    assert facts["code"] == "CCGCCGCCGCGCGCGC"
    assert sum(facts["params"].values()) == facts["total_params"]
    assert facts["effective_params"] == facts["total_params"] - facts["embedding_params"]
    assert facts["embedding_share"] == pytest.approx(facts["embedding_params"] / facts["total_params"])
    assert sum(len(kind["at"]) for kind in facts["layers"]) == facts["depth"]
    text = shared("describe", "lfm2.5-350m").out
    assert "354,483,968" in text
    assert "CCGCCGCCGCGCGCGC" in text


def test_every_listed_anchor_can_be_described(shared: Cli):
    names = [line.split()[0] for line in shared("anchors").out.splitlines() if "%" in line]
    assert {"lfm2.5-350m", "gemma-3-270m", "qwen3.5-0.8b"} <= set(names)
    for name in names:
        from archsearch.describe import describe
        from search_space.notation import resolve

        assert describe(resolve(name))["name"] == name


def test_lists(shared: Cli):
    workloads = shared("workloads").out
    assert all(word in workloads for word in ("quick", "256/32", "edge", "long"))
    objectives = shared("objectives").out
    assert all(word in objectives for word in ("ttft_ms", "decode_ms", "peak_rss_mib", "effective_params"))
    assert "350m" in shared("space", "list").out


@pytest.mark.parametrize(
    "what", [("anchors",), ("workloads",), ("objectives",), ("space", "list"), ("devices", "list")]
)
def test_lists_for_programs_and_papers(shared: Cli, what: tuple[str, ...]):
    names = [row["name"] for row in shared(*what, "--format", "json").json()]
    assert names
    assert [line.partition(",")[0] for line in shared(*what, "--format", "csv").out.splitlines()] == ["name", *names]
    assert shared(*what, "--format", "md").out.count("\n") == len(names) + 2
    assert "must be one of table, json, csv, md" in shared.refused(*what, "--format", "xml")
    assert "--format" in shared(*what, "--help").out


@pytest.mark.parametrize("what", [("space", "schema"), ("devices", "schema")])
def test_schemas_are_json(shared: Cli, what: tuple[str, str]):
    assert "properties" in shared(*what).json()


def test_the_shipped_schema_is_the_generated_one(shared: Cli):
    root = Path(__file__).parents[2]
    assert shared("devices", "schema").json() == json.loads((root / "devices.schema.json").read_text("utf-8"))
    assert (root / "devices.yaml").read_text("utf-8").startswith("# yaml-language-server: $schema=devices.schema.json")


def test_the_shipped_devices(shared: Cli):
    shipped = Path(__file__).parents[2] / "devices.yaml"
    devices = {d["name"]: d for d in shared("devices", "list", "--devices", shipped, "--format", "json").json()}
    assert {name: d["enabled"] for name, d in devices.items()} == {
        "local": True,
        "ryzen-ai-max-395": False,
        "galaxy-s25-ultra": False,
    }
    assert isinstance(devices["local"]["threads"], int)
    assert "galaxy-s25-ultra" in shared("devices", "list", "--devices", shipped).out


def test_every_shipped_space_can_be_checked(shared: Cli):
    from search_space.space_file import space_names

    for name in space_names():
        report = shared("space", "check", name, "--draws", "20", "--format", "json").json()
        assert report["accepted"] > 0, name
        assert report["samples"]
    assert "meet the constraints" in shared("space", "check", "tiny", "--draws", "20").out


def test_an_empty_space_is_refused_by_the_constraint_that_empties_it(shared: Cli, tmp_path: Path):
    file = tmp_path / "empty.yaml"
    file.write_text(
        "description: nothing\nwidth: [64]\ndepth: [2]\nembedding: {vocab_size: [512]}\n"
        "mixers: {short_conv: {kernel: 3}}\n"
        "pattern: free\nffn: {hidden: solve, multiple: 16}\nconstraints: {total_params: 1M, min_global_mixers: 1}\n",
        encoding="utf-8",
    )
    assert "min_global_mixers" in shared.refused("space", "check", file)


# export


def test_an_export_reads_back_as_the_same_layout(shared: Cli, exported: Path):
    original = shared("describe", LAYOUT, "--format", "json").json()
    read = shared("describe", exported / "layout.json", "--format", "json").json()
    assert read["layout_id"] == original["layout_id"]
    assert shared("describe", exported, "--format", "json").json() == read


def test_an_export_generates_in_stock_onnxruntime(exported: Path):
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(exported / "model.onnx", options, providers=["CPUExecutionProvider"])
    signature = json.loads((exported / "signature.json").read_text("utf-8"))
    capacity, tokens, position, generated = 32, [3, 1, 4, 1, 5], 0, []
    states = {
        state["input"]: np.zeros(
            [{"batch": 1, "capacity": capacity}.get(dim, dim) for dim in state["shape"]], dtype=state["dtype"]
        )
        for state in signature["states"]
    }
    for _ in range(4):
        total = position + len(tokens)
        feeds = {
            "tokens": np.array([tokens], dtype=np.int64),
            "seqlens_k": np.array([total - 1], dtype=np.int32),
            "total_length": np.array(total, dtype=np.int32),
        }
        inputs = {item["name"]: feeds[item["role"]].astype(item["dtype"]) for item in signature["inputs"]}
        names = [signature["logits"], *(state["output"] for state in signature["states"])]
        logits, *carried = session.run(names, {**inputs, **states})
        assert logits.shape == (1, 1, signature["vocab_size"])
        assert np.isfinite(logits).all()
        states = {state["input"]: value for state, value in zip(signature["states"], carried, strict=True)}
        position, tokens = total, [int(logits[0, -1].argmax())]
        generated += tokens
    assert all(0 <= token < 1024 for token in generated)


def test_an_export_overwrites_only_an_earlier_export_and_only_when_told(shared: Cli, tmp_path: Path):
    target = tmp_path / "out"
    shared("export", LAYOUT, "-o", target)
    assert not (target / "weights.bin").exists()
    assert "not empty" in shared.refused("export", LAYOUT, "-o", target)
    shared("export", LAYOUT, "-o", target, "--force", "--precision", "int8")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes(b"meow")
    shared.refused("export", LAYOUT, "-o", photos, "--force")
    assert [path.name for path in photos.iterdir()] == ["cat.jpg"]
    (tmp_path / "file").write_text("x")
    assert "no folder" in shared.refused("export", LAYOUT, "-o", tmp_path / "file")


# show


def test_show_in_every_format(shared: Cli, study: Done):
    assert shared("show", "first").out == study.out
    rows = shared("show", "first", "--format", "json").json()
    assert {row["front"] for row in rows} <= {"on", "uncertain", "dominated"}
    assert len(shared("show", "first", "--format", "csv").out.splitlines()) == 1 + len(rows)
    assert shared("show", "first", "--format", "md").out.startswith("| # |")


def test_the_front_leaves_out_what_is_dominated(shared: Cli, study: Done):
    rows = shared("show", "first", "--format", "json").json()
    front = shared("show", "first", "--front", "--format", "json").json()
    assert [row["layout_id"] for row in front] == [r["layout_id"] for r in rows if r["front"] in ("on", "uncertain")]


def test_other_objectives_rank_anew(shared: Cli, study: Done):
    rows = shared("show", "first", "--objective", "total_params", "--format", "json").json()
    ranked = sorted((row for row in rows if not row["anchor"]), key=lambda row: row["rank"])
    sizes = [row["total_params"] for row in ranked]
    assert sizes == sorted(sizes)


def test_the_time_that_a_study_took_adds_up(shared: Cli, study: Done):
    report = shared("show", "first", "--timing", "--format", "json").json()
    assert report["wall_s"] > 0
    spent = sum(report["agent"].values()) + sum(report["driver"].values()) + report["rest_s"]
    assert spent == pytest.approx(report["wall_s"], rel=0.02)
    assert report["overhead_share"] == pytest.approx(report["overhead_s"] / report["wall_s"])
    assert "overhead" in shared("show", "first", "--timing").out


def test_show_without_a_study(cli: Cli):
    assert "no study" in cli.refused("show")
    assert "no study" in cli.refused("show", "nowhere")
