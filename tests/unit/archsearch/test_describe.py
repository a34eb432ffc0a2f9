"""What is said of a layout without measuring it."""

from __future__ import annotations

import json

import pytest

from archsearch.describe import describe
from search_space.notation import resolve

NAMES = [
    "lfm2.5-350m",
    "gemma-3-270m",
    "CCGWLDN:width=64,vocab=512,ffn=96,key_dim=16,value_dim=16",
    "CG:tied=false,rank=64",
]


@pytest.mark.parametrize("text", NAMES)
def test_the_parts_add_up(text: str):
    facts = describe(resolve(text))
    assert sum(facts["params"].values()) == facts["total_params"]
    assert facts["embedding_params"] == facts["params"]["embedding"] + facts["params"]["head"]
    assert facts["effective_params"] + facts["embedding_params"] == facts["total_params"]
    assert 0 < facts["embedding_share"] < 1
    assert facts["all_tensors_params"] == facts["total_params"] + sum(facts["extra_params"].values())
    assert sorted(index for kind in facts["layers"] for index in kind["at"]) == list(range(facts["depth"]))
    assert len(facts["code"]) == facts["depth"]


@pytest.mark.parametrize("text", NAMES)
def test_sizes_grow_as_they_must(text: str):
    facts = describe(resolve(text))
    weights = facts["weight_bytes"]
    assert weights["int4"] < weights["int8"] < weights["fp32"]
    assert weights["fp32"] >= 4 * facts["total_params"]
    for numbers in (facts["state_bytes"], facts["flops_per_token"], facts["prefill_flops"]):
        assert list(numbers) == ["512", "1024", "4096", "32768"]
        assert list(numbers.values()) == sorted(numbers.values())
    # A product with each weight once, two operations each; embedding rows are looked up.
    assert facts["flops_per_token"]["512"] >= 2 * (facts["params"]["mixers"] + facts["params"]["ffn"]) * 0.99


def test_it_is_plain_json():
    facts = describe(resolve("lfm2.5-350m"))
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
