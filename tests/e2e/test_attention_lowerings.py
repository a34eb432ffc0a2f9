"""Every lowering of attention is checked, measured and exported by its name on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Cli

# A window of 20 tokens and a prompt of 40: the caches slide in prefill and in the steps.
LAYOUT = "WG:width=128,vocab=1024,params=1M,multiple=16,head_dim=32,window=20"
SIZES = ("--workload", "40/4")
PINS = (
    ("swa=banded", "gqa=blocked"),
    ("swa=standard", "gqa=plain"),
    ("swa=plain", "gqa=standard"),
)


@pytest.mark.parametrize("pins", PINS, ids=" ".join)
def test_a_pinned_lowering_is_measured_and_exported(cli: Cli, tmp_path: Path, pins: tuple[str, ...]):
    chosen = [word for pin in pins for word in ("--lowering", pin)]
    (measured,) = cli("measure", LAYOUT, *SIZES, "--no-tune", *chosen, "--format", "json").json()
    assert measured["status"] == "ok"
    folder = tmp_path / "out"
    cli("export", LAYOUT, "--output", folder, "--context", "44", "--random-weights", *chosen)
    (exported,) = cli("measure", folder / "model.onnx", *SIZES, "--format", "json").json()
    assert exported["status"] == "ok"
    assert exported["weights_mib"] == pytest.approx(measured["weights_mib"], rel=0.01)
    assert "44 positions" in cli.refused("measure", folder / "model.onnx", "--workload", "44/4")


def test_a_lowering_that_is_not_there_is_named(cli: Cli):
    said = cli.refused("measure", LAYOUT, *SIZES, "--lowering", "gqa=banded")
    assert "--lowering 'gqa=banded'" in said
    assert "group_query, blocked, standard, plain" in said
