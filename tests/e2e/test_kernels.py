"""Kernels and blocks compared on a real device: `tune`, `blocks`, and what `measure` and `run` make of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search_space.blocks import mixers
from search_space.layout import by_kind
from tests.e2e.conftest import Cli

SMALL = "CG:width=128,vocab=256,ffn=128,head_dim=32"
SPACE = """\
width: 128
depth: 2
embedding: {vocab_size: [256, 512], tied: true}
mixers:
  short_conv: {}
  gqa: {heads: 4, kv_heads: 2, head_dim: 32}
pattern: CG
ffn: {hidden: 128}
"""


@pytest.mark.usefixtures("state_space")
def test_a_choice_is_made_once_and_used_by_measure_and_run(cli: Cli):
    layout = SMALL.replace("CG", "CGM")  # M is a block of one's own, without a lowering: it has no choice
    done = cli("tune", layout, "--workload", "16/4", "--format", "json")
    rows = done.json()
    kinds = ("short_conv", "gqa", "state_space", "swiglu")
    assert {row["kind"] for row in rows} == set(kinds)
    assert [row["why"] for row in rows if row["lowering"] == "exported"] == ["the only one"]
    for kind in kinds:
        of = [row for row in rows if row["kind"] == kind]
        assert sum(row["chosen"] for row in of) == 1
        for row in of:
            assert row["error"] == ""
            for phase in ("prefill", "decode"):
                assert row[f"{phase}_ms_low"] <= row[f"{phase}_ms"] <= row[f"{phase}_ms_high"]
                assert row[f"{phase}_roof_share"] > 0
    chosen = {row["block_id"]: row["lowering"] for row in rows if row["chosen"]}
    kept = len(cli.measurements("blocks"))
    assert "not ranked" in cli.refused("show", "blocks")

    [row] = cli("measure", layout, "--workload", "16/4", "--format", "json").json()
    assert row["lowerings"] == by_kind(chosen)
    assert len(cli.measurements("blocks")) == kept  # nothing was compared again
    [record] = cli.measurements("measure")
    assert record.info["lowerings"] == chosen

    other = next(name for name in mixers()["short_conv"].lowerings if name != row["lowerings"]["short_conv"])
    [pinned] = cli(
        "measure", layout, "--workload", "16/4", "--lowering", f"short_conv={other}", "--format", "json"
    ).json()
    assert pinned["lowerings"] == {**row["lowerings"], "short_conv": other}

    space = cli.folder / "small.yaml"  # of blocks that are known by now, or like them
    space.write_text(SPACE)
    done = cli(
        "run", "--space", space, "--workload", "16/4", "--trials", "1", "--anchor", layout, "--lowering",
        f"short_conv={other}", "--study", "pinned", "--format", "json",
    )  # fmt: skip
    assert {row["lowerings"]["short_conv"] for row in done.json() if "short_conv" in row["lowerings"]} == {other}
    timing = cli("show", "pinned", "--timing", "--format", "json").json()
    assert timing["driver"]["tuning"] > 0
    said = cli.refused(
        "run",
        "--study",
        "pinned",
        "--lowering",
        "short_conv=shifted" if other == "conv" else "short_conv=conv",
        "--trials",
        "2",
    )
    assert "--lowering" in said


@pytest.mark.usefixtures("state_space")  # a block of one's own is no contestant, and disturbs none
def test_the_operator_table_and_its_figure(cli: Cli):
    page = cli.folder / "blocks.html"
    done = cli("blocks", "--context", "64", "--width", "256", "--figure", page, "--format", "json", timeout=300)
    rows = done.json()
    assert [(row["context"], row["kind"]) for row in rows] == [
        (context, kind) for context in (64,) for kind in ("short_conv", "swa", "gqa", "gla", "gdn")
    ]
    for row in rows:
        assert row["params"] == pytest.approx(rows[0]["params"], rel=0.05)
        assert 0 <= row["prefill_ms_low"] <= row["prefill_ms"] <= row["prefill_ms_high"]
        assert 0 <= row["decode_ms_low"] <= row["decode_ms"] <= row["decode_ms_high"]
        assert row["peak_rss_mib"] > 10
    text = page.read_text()
    assert "Gated DeltaNet" in text
    assert "http" not in text.partition("<script")[0]  # the page needs nothing else
    again = cli("blocks", "--context", "64", "--width", "256")
    assert "ShortConv" in again.out
    assert "roof" in again.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("blocks", "--context", "0"), "token counts from 16"),
        (("blocks", "--context", "512,x"), "token counts from 16"),
        (("blocks", "--width", "100"), "a multiple of 256"),
        (("blocks", "--iso", "flops"), "params, width"),
        (("blocks", "--figure", "a.png"), ".html"),
        (("blocks", "--figure", "nowhere/a.html"), "no folder nowhere"),
        (("tune", "XYZ"), "XYZ"),
        (("tune", "--precision", "int3"), "int3"),
        (("run", "--lowering", "gqa=flash"), "flash"),
        (("run", "--study", "blocks"), "kept for"),
    ],
)
def test_mistakes_say_what_would_be_right(shared: Cli, arguments: tuple[str, ...], said: str):
    assert said in shared.refused(*arguments)


def test_a_comparison_that_a_device_cannot_make_is_told(cli: Cli):
    cli.devices("memory_limit_mib: 60")
    done = cli("blocks", "--context", "64", "--width", "256", code=5)
    assert "out_of_memory" in done.err
    assert json.loads(cli("blocks", "--context", "64", "--width", "256", "--format", "json", code=5).out) == []
    assert not list(Path(cli.work).glob("jobs/*/result.json"))
