"""A study's configuration: checked when it begins, equal when it is read back, compared when it is continued."""

from __future__ import annotations

import json
from typing import Any

import pytest

from archsearch.configuration import DEFAULT_OBJECTIVES, differences, new_config, settings
from archsearch.errors import ArchsearchError, StudyError
from profiler.errors import ProfilerError
from reports.errors import ReportError
from search_space.errors import SearchSpaceError
from search_space.notation import resolve


def options(**changes: Any) -> dict[str, Any]:
    return {
        "space": "tiny", "workload": "16/4", "precision": "int4", "objective": None, "budget": None, "anchor": None,
        "sampler": "nsga2", "seed": 0, "across": "worst",
        "tune": False, "lowering": {}, **changes,
    }  # fmt: skip


def test_a_configuration_survives_the_store():
    config = new_config(options(budget=["peak_rss_mib<=1GiB", "ttft_ms<0.5s"], workload="quick", seed=3))
    stored = json.loads(json.dumps(config))
    assert stored == config
    found = settings(stored)
    assert found == settings(config)
    assert found.space.name == "tiny"
    assert [str(budget) for budget in found.budgets] == ["peak_rss_mib<=1024", "ttft_ms<500"]
    assert [(point.prompt, point.decode) for point in found.workload.points] == [(256, 32)]
    assert found.objectives == DEFAULT_OBJECTIVES
    assert found.seed == 3


def test_anchors_come_from_the_command_the_space_or_the_defaults():
    assert [anchor.layout.code for anchor in settings(new_config(options())).anchors] == ["CCGCG"]
    given = settings(new_config(options(anchor=["lfm2.5-350m", "CG:width=64,vocab=512"]))).anchors
    assert [anchor.name for anchor in given] == ["lfm2.5-350m", None]
    assert given[1].layout == resolve("CG:width=64,vocab=512").layout
    assert [anchor.name for anchor in settings(new_config(options(space="350m"))).anchors] == [
        "lfm2.5-350m", "gemma-3-270m", "qwen3.5-0.8b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"space": "nowhere"}, {"workload": "x"}, {"precision": "int3"}, {"objective": ["x"]}, {"budget": ["x<=1"]},
        {"budget": ["ttft_ms<=1", "ttft_ms>=2"]}, {"anchor": ["x"]}, {"sampler": "x"},
        {"objective": ["ttft_ms", "decode_ms", "decode_ms_p95", "load_ms", "peak_rss_mib", "total_params"]},
    ],
)  # fmt: skip
def test_a_wrong_option_is_an_expected_error(change: dict[str, Any]):
    with pytest.raises((ArchsearchError, SearchSpaceError, ProfilerError, ReportError)):
        new_config(options(**change))


def test_only_what_was_typed_can_contradict_a_study():
    stored = new_config(options())
    asked = new_config(options(seed=5, precision="int8", objective=["decode_ms"], budget=["ttft_ms<=1"]))
    assert differences(stored, asked, []) == []
    assert differences(stored, stored, ["seed", "space", "objective", "budget", "anchor", "study"]) == []
    found = differences(stored, asked, ["seed", "precision", "objective", "budget"])
    assert [text.split()[0] for text in found] == ["--seed", "--precision", "--objective", "--budget"]
    assert "(the study has 0)" in found[0]
    assert "ttft_ms, decode_ms" in found[2]
    assert "none" in found[3]


def test_the_order_of_typed_options_does_not_matter_to_the_rest_of_the_study():
    stored = new_config(options(budget=["ttft_ms<=1s"]))
    assert differences(stored, new_config(options(budget=["ttft_ms<=1000"])), ["budget"]) == []


def test_another_version_s_configuration_is_refused():
    with pytest.raises(StudyError, match="format 2"):
        settings({**new_config(options()), "format": 2})
