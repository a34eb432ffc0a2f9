"""`archsearch measure`: layouts, exports and files from elsewhere, in every format."""

from __future__ import annotations

import csv
import io
import shutil
import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import LAYOUT, Cli, wait_until

SIZES = ("--workload", "16/4", "--no-tune")


def test_a_layout_at_two_batch_sizes(shared: Cli):
    done = shared("measure", LAYOUT, *SIZES, "--batch", "1,2", "--format", "json")
    one, two = done.json()
    assert (one["batch"], two["batch"]) == (1, 2)
    for row in (one, two):
        assert row["status"] == "ok"
        assert row["code"] == "CCGCG"
        assert row["decode_tokens_per_s"] == pytest.approx(1e3 * row["batch"] / row["decode_ms"])
        assert row["prefill_tokens_per_s"] == pytest.approx(16e3 * row["batch"] / row["ttft_ms"])
    assert two["state_mib"] == pytest.approx(2 * one["state_mib"])
    # One memory pass, at the largest point: no other point may claim its peak.
    assert one["peak_rss_mib"] is None
    assert two["peak_rss_mib"] > two["weights_mib"]
    assert "processes" in done.err
    assert "stopped" in done.err


def test_where_the_time_goes(shared: Cli):
    plain, profiled = (
        shared("measure", LAYOUT, "--workload", "24/4;16/2", "--no-tune", "--format", "json", *more).json()
        for more in ((), ("--profile",))
    )
    assert all("profile" not in row for row in plain)
    first, second = profiled
    assert second["profile"] is None
    profile = first["profile"]
    assert (profile["prompt"], profile["steps"]) == (24, 4)
    assert {(row["part"], row["block"]) for row in profile["blocks"]} >= {
        ("embedding", None), ("mixer", "short_conv"), ("mixer", "gqa"), ("ffn", "swiglu"), ("norm", None),
        ("head", None),
    }  # fmt: skip
    for phase in ("prefill", "decode"):
        whole = profile[phase]
        assert sum(row[f"{phase}_ms"] for row in profile["rows"]) == pytest.approx(whole["nodes_ms"])
        assert sum(row[f"{phase}_share"] for row in profile["blocks"]) == pytest.approx(1)
        assert whole["outside_ms"] >= 0
        assert whole["measured_ms"] == first["ttft_ms" if phase == "prefill" else "decode_ms"]


def test_where_the_time_goes_for_people(shared: Cli):
    done = shared("measure", LAYOUT, *SIZES, "--profile", "--format", "md")
    measured, profile = done.out.split("\n\n")[0], done.out.split("\n\n")[-1]
    assert measured.startswith("| layout |")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in profile.splitlines()]
    assert lines[0][:3] == ["block", "operator", "prefill ms"]
    assert lines[-1][0] == "outside operators"
    assert lines[-2][0] == "the rest"
    assert len(lines) == 2 + 12 + 2
    assert sum(float(line[3].rstrip("%")) for line in lines[2:-1]) == pytest.approx(100, abs=1)
    assert "profile of 16 tokens, and the mean of 4 steps after them" in done.err
    assert "outside operators" in shared("measure", LAYOUT, *SIZES, "--profile").out


def test_measuring_again_measures_again(shared: Cli):
    rows = [shared("measure", LAYOUT, "--workload", "8/2", "--no-tune", "--format", "json").json()[0] for _ in range(2)]
    assert rows[0]["job_id"] != rows[1]["job_id"]
    kept = {record.job_id for record in shared.measurements("measure")}
    assert {row["job_id"] for row in rows} <= kept


def test_a_layout_file_is_the_layout(shared: Cli, exported: Path):
    done = shared("measure", exported / "layout.json", *SIZES, "--format", "csv")
    [row] = csv.DictReader(io.StringIO(done.out))
    assert row["status"] == "ok"
    assert row["code"] == "CCGCG"
    assert float(row["decode_ms_low"]) <= float(row["decode_ms"]) <= float(row["decode_ms_high"])


def test_tables_for_people(shared: Cli):
    done = shared("measure", LAYOUT, *SIZES, "--format", "md")
    assert done.out.startswith("| layout |")
    assert sum(line.startswith("|") for line in done.out.splitlines()) == 3  # a note on p95 may follow
    shown = shared("show", "measure").out
    assert "CCGCG" in shown
    assert "rank" not in shown.splitlines()[0]


def test_an_export_is_measured_as_it_lies_there(shared: Cli, exported: Path):
    rows = [
        shared("measure", what, *SIZES, "--format", "json").json()[0]
        for what in (exported / "model.onnx", exported, exported / "layout.json")
    ]
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert [row["precision"] for row in rows] == ["file", "file", "int4"]
    for name in ("layout_id", "total_params", "state_mib"):
        assert len({row[name] for row in rows}) == 1, name
    # The graph's few shape constants come on top of what the layout stores.
    assert rows[0]["weights_mib"] == pytest.approx(rows[2]["weights_mib"], rel=0.01)


def test_a_graph_beside_another_layout_has_no_layout(shared: Cli, exported: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    text = (folder / "layout.json").read_text(encoding="utf-8")
    (folder / "layout.json").write_text(text.replace('"kernel": 3', '"kernel": 4'), encoding="utf-8")
    [row] = shared("measure", folder, *SIZES, "--format", "json").json()
    assert row["status"] == "ok"
    assert row["layout_id"] is None
    assert row["total_params"] is None


def test_an_export_asked_beyond_its_context_is_refused(shared: Cli, exported: Path):
    said = shared.refused("measure", exported, "--workload", "100/4")
    assert "needs 104" in said
    assert "--context" in said


def test_an_export_without_its_weights_is_refused(shared: Cli, exported: Path, tmp_path: Path):
    for name in ("model.onnx", "signature.json"):
        shutil.copy(exported / name, tmp_path / name)
    assert "'weights.bin' is missing" in shared.refused("measure", tmp_path / "model.onnx", *SIZES)
    (tmp_path / "weights.bin").write_bytes((exported / "weights.bin").read_bytes()[:5000])
    assert "cut short" in shared.refused("measure", tmp_path / "model.onnx", *SIZES)


@pytest.mark.parametrize("damage", ["{", "[]", '{"inputs": [], "states": []}', None])
def test_a_signature_of_another_graph_is_refused(shared: Cli, exported: Path, tmp_path: Path, damage: str | None):
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    signature = folder / "signature.json"
    text = signature.read_text(encoding="utf-8").replace("layers.0", "layers.9") if damage is None else damage
    signature.write_text(text, encoding="utf-8")
    assert "signature.json" in shared.refused("measure", folder / "model.onnx", *SIZES)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x0a" * 500])
def test_a_file_that_is_no_graph_is_refused(shared: Cli, tmp_path: Path, content: bytes):
    file = tmp_path / "broken.onnx"
    file.write_bytes(content)
    assert "broken.onnx" in shared.refused("measure", file, *SIZES)


def test_a_cut_graph_is_refused(shared: Cli, exported: Path, tmp_path: Path):
    file = tmp_path / "cut.onnx"
    data = (exported / "model.onnx").read_bytes()
    file.write_bytes(data[: len(data) // 3])
    assert "cut.onnx" in shared.refused("measure", file, *SIZES)


def test_an_input_that_is_not_understood_is_named(shared: Cli, tmp_path: Path):
    import onnx
    from onnx import TensorProto, helper

    def value(name: str, kind: int, shape: list[str | int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        [helper.make_node("Identity", ["audio_frames"], ["logits"])],
        "g",
        [value("input_ids", TensorProto.INT64, ["b", "s"]), value("audio_frames", TensorProto.FLOAT, ["b", "s", 8])],
        [value("logits", TensorProto.FLOAT, ["b", "s", 8])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "audio.onnx")
    assert "audio_frames" in shared.refused("measure", tmp_path / "audio.onnx", *SIZES)


def test_nothing_measured_has_its_own_exit_code(cli: Cli):
    cli.devices("timeout_s: 0.02")
    done = cli("measure", LAYOUT, *SIZES, "--format", "json", code=5)
    assert done.json()[0]["status"] == "timeout"
    assert "timeout" in done.err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("python: /nowhere/python3", "/nowhere/python3"),
        ("providers: [QNNExecutionProvider]", "QNNExecutionProvider"),
        ("enabled: false", "enabled"),
    ],
)
def test_no_usable_device_has_its_own_exit_code(cli: Cli, more: str, said: str):
    cli.devices(more)
    assert said in cli.refused("measure", LAYOUT, *SIZES, code=3)


def test_a_second_ctrl_c_ends_the_work_on_the_device(cli: Cli):
    process = cli.start("measure", LAYOUT, "--workload", "16/60000", "--no-tune", "--time-budget", "10m")
    wait_until(lambda: any(state == "timing" for _, state, _ in cli.jobs()))
    for _ in range(2):
        process.send_signal(signal.SIGINT)
    cli.finish(process, code=130, timeout=30)
    wait_until(lambda: not cli.processes())


def test_nodes_that_do_not_run_where_they_were_asked_to_are_shown(cli: Cli):
    # The one provider beside the CPU that onnxruntime's wheels for it bring: it takes no node of such a graph.
    cli.devices("providers: [AzureExecutionProvider, CPUExecutionProvider]")
    [row] = cli("measure", LAYOUT, "--workload", "16/4", "--no-tune", "--format", "json").json()
    assert row["status"] == "ok"
    assert "nodes fell back from AzureExecutionProvider to CPUExecutionProvider" in row["fallback"]
    assert row["reason"].startswith(row["fallback"])
    cli.devices("providers: [CUDAExecutionProvider]")
    assert "its onnxruntime has no CUDAExecutionProvider" in cli("measure", LAYOUT, code=3).err
