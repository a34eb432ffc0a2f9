"""A trained checkpoint from its folder to a measurement, by real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Cli

pytestmark = [pytest.mark.needs("transformers"), pytest.mark.filterwarnings("ignore")]  # its warnings are its own


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.unit.tiny_models import tiny_model

    folder = tmp_path_factory.mktemp("hub") / "tiny-lfm2"
    tiny_model("lfm2").save_pretrained(folder)
    return folder


def test_trained_weights_are_measured_and_leave_nothing_behind(shared: Cli, checkpoint: Path) -> None:
    done = shared(
        "measure", checkpoint, "--with-weights", checkpoint, "-p", "int8", "--workload", "16/4", "--format", "json"
    )
    [row] = done.json()
    assert row["status"] == "ok"
    assert row["code"] == "CGCG"
    assert row["precision"] == "int8"
    assert row["name"] == "tiny-lfm2 (tiny-lfm2)"
    assert row["layout_id"] == json.loads(shared("describe", checkpoint, "--format", "json").out)["layout_id"]
    assert not list((shared.folder / "runs").glob(".trained-*"))


def test_what_cannot_be_measured_so_is_told(shared: Cli, checkpoint: Path, exported: Path) -> None:
    assert "has its weights already" in shared.refused("measure", exported, "--with-weights", checkpoint)
    assert "is layout" in shared.refused("measure", "C:width=32,vocab=50", "--with-weights", checkpoint)
    far = shared.folder / "far.yaml"
    far.write_text("devices:\n  - name: phone\n    transport: adb\n    threads: 1\n", encoding="utf-8")
    refused = shared.refused("measure", checkpoint, "--with-weights", checkpoint, "--devices", far)
    assert "`transport: local` only, not phone (adb)" in refused


def test_a_config_goes_in_and_comes_out(shared: Cli, checkpoint: Path) -> None:
    shared("import", checkpoint / "config.json", "-o", "imported.json")
    shared("export", "imported.json", "-o", "hub", "--hf")
    assert json.loads((shared.folder / "hub" / "config.json").read_text("utf-8"))["model_type"] == "lfm2"
    (shared.folder / "moe.json").write_text('{"model_type": "llama", "num_experts": 8}', encoding="utf-8")
    assert "num_experts (8)" in shared.refused("import", "moe.json")
