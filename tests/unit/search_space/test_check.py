"""Checking a space: sizes, acceptance, and which constraint empties an empty one."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from search_space.check import check_space
from search_space.errors import SpaceError
from search_space.layout import Layout
from search_space.notation import resolve
from search_space.sampling import sample
from search_space.space import Space
from search_space.space_file import load_space

FIVE = """\
width: [32, 48]
depth: {from: 1, to: 4}
embedding: {vocab_size: [64, 128], rank: [null, 16]}
mixers:
  gqa: {heads: width / 16, kv_heads: [1, 2], head_dim: 16}
  short_conv: {kernel: [2, 3]}
ffn: {multiple: 8}
constraints: {total_params: 50k, tolerance: 10%, max_run_without_full_attention: 2}
"""


def small(tmp_path: Path, text: str = FIVE) -> Space:
    path = tmp_path / "small.yaml"
    path.write_text(text)
    return load_space(path)


class Answers:
    def __init__(self, answers: dict[str, object]) -> None:
        self.answers = answers

    def choose(self, name: str, options: object) -> object:
        return self.answers[name]


def members_by_hand(space: Space) -> set[Layout]:
    """Every member of `small`, by setting all knobs that there can be."""
    found = set()
    knobs = ((32, 48), (64, 128), (None, 16), (1, 2), (2, 3), range(1, 5))
    for width, vocab, rank, kv, kernel, depth in itertools.product(*knobs):
        for code in itertools.product("CG", repeat=depth):
            answers: dict[str, object] = {
                "width": width, "depth": depth, "embedding.vocab_size": vocab, "embedding.rank": rank,
                "gqa.kv_heads": kv, "short_conv.kernel": kernel,
            }  # fmt: skip
            answers |= {f"layer_{index:02d}_mixer": letter for index, letter in enumerate(code)}
            drawn = sample(space, Answers(answers))  # type: ignore[arg-type]
            if isinstance(drawn, Layout):
                found.add(drawn)
    return found


def test_a_small_space_is_counted_exactly(tmp_path: Path) -> None:
    space = small(tmp_path)
    report = check_space(space, draws=10, seed=0)
    assert report.exhaustive
    assert report.sequences == 2 + 4 + 8 + 16
    assert report.sequences_allowed == 1 + 3 + 7 + 13
    assert report.combinations == 2 * 4 * (4 * 24 - 2 * 4)  # fields count half without C
    assert report.draws == report.accepted + sum(report.rejected.values())
    assert report.layouts == len(members_by_hand(space))
    assert 0 < report.acceptance < 1
    assert 1 < len(report.samples) <= 8


def test_an_estimate_is_near_the_exact_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = small(tmp_path)
    exact = check_space(space).layouts
    monkeypatch.setattr("search_space.check._ENUMERATED", 0)
    estimate = check_space(space, draws=3000, seed=1)
    assert not estimate.exhaustive
    assert estimate.draws == 3000
    assert abs(estimate.layouts / exact - 1) < 0.1


def test_the_default_space() -> None:
    report = check_space(load_space("350m"), draws=200, seed=0)
    assert report.layouts > 10**20
    assert report.acceptance > 0.5
    assert sum(report.rejected.values()) + report.accepted == 200
    assert len(report.samples) == 8
    for drawn in report.samples:
        assert abs(drawn.total_params / 354e6 - 1) <= 0.02
    said = json.loads(json.dumps(report.to_json(), allow_nan=False))["samples"]
    assert [sample["code"] for sample in said] == [drawn.code for drawn in report.samples]
    assert [resolve(sample["notation"]).layout for sample in said] == [drawn.layout for drawn in report.samples]
    assert report == check_space(load_space("350m"), draws=200, seed=0)


@pytest.mark.parametrize("name", ["100m", "1b", "tiny", "embedding"])
def test_spaces_that_ship_have_members(name: str) -> None:
    assert check_space(load_space(name), draws=60).acceptance > 0.4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"total_params: .*": "total_params: 1M"}, r"1M ±2%: the smallest reachable is 8\.955M \(.*depth 10, voc"),
        ({"hidden: solve.*": "hidden: [64, 128]"}, "total_params 354M ±2%: the largest reachable is"),
        ({"max_embedding_share: .*": "max_embedding_share: 0.5%"}, r"share 0.005: the smallest reachable is 0.0\d+"),
        ({"min_global_mixers: 1": "min_global_mixers: 30"}, "min_global_mixers 30: a layout can have at most 24"),
        ({"pattern:(.|\n)*ffn:": "pattern: '[CW]'\nffn:"}, "min_global_mixers 1: a layout can have at most 0"),
        (
            {"pattern:(.|\n)*ffn:": "pattern: CCG | CCCG\nffn:", "full_attention: 5": "full_attention: 1"},
            "max_run_without_full_attention 1: every layout has a run of at least 2",
        ),
        (
            {"pattern:(.|\n)*ffn:": "pattern: CCC(C)*Gx30\nffn:"},
            "no pattern fits depth 24 or less: the shortest has 33",
        ),
        (
            {"max_ffn_ratio: .*": "max_ffn_ratio: 1.6", "depth: .*": "depth: 10", "width: .*": "width: 768"},
            "max_ffn_ratio 1.6: the small",
        ),
        ({"min_ffn_ratio: .*": "min_ffn_ratio: 9.9", "depth: .*": "depth: 24"}, "min_ffn_ratio 9.9: the largest"),
        ({"hidden: solve.*": "hidden: width / 7", "width: .*": "width: 768"}, "ffn.hidden"),
        (
            {"tolerance: .*": "tolerance: 0"},
            r"random combinations gave no layout, rejected by total_params .* the nearest: ",
        ),
    ],
)
def test_an_empty_space_is_refused_by_the_constraint_that_empties_it(
    tmp_path: Path, changes: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search_space.check._EXTRA_DRAWS", 100)
    text = (Path(__file__).parents[3] / "search_space/spaces/350m.yaml").read_text()
    if "largest reachable" in said:
        changes |= {"pattern:(.|\n)*ffn:": "pattern: CG\nffn:", "vocab_size: .*": "vocab_size: 4096"}
    for old, new in changes.items():
        assert re.search(old, text)
        text = re.sub(old, new, text, count=1)
    with pytest.raises(SpaceError) as caught:
        check_space(small(tmp_path, text), draws=40)
    assert re.search(said, str(caught.value)), str(caught.value)
    assert caught.value.hint


def test_bounds_never_call_a_space_with_members_empty(tmp_path: Path) -> None:
    from search_space.emptiness import why_empty

    space = small(tmp_path)
    for total in range(20_000, 90_000, 15_000):
        for ratio in (None, 1.0, 4.0):
            limits = replace(space.constraints, total_params=total, max_ffn_ratio=ratio, max_embedding_share=0.2)
            tried = replace(space, constraints=limits)
            if members_by_hand(tried):
                assert why_empty(tried) is None
            else:
                with pytest.raises(SpaceError):
                    check_space(tried)
