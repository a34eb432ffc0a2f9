"""Sampling: every layout meets every constraint, and the same seed gives the same layouts."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_space.cost import parameters
from search_space.iso_parameter import hidden_of
from search_space.layout import Layout
from search_space.layout_file import NamedLayout, parse_layout, read_layout, write_layout
from search_space.notation import resolve, spell
from search_space.sampling import RandomChooser, Rejection, sample
from search_space.sequences import LayerRules, count_sequences
from search_space.space import Constraints, Option, Space
from search_space.space_file import load_space, space_names

T = TypeVar("T", bound=Option)
seeds = st.integers(0, 2**32)


@cache
def space(name: str) -> Space:
    return load_space(name)


def longest_run(layout: Layout) -> int:
    runs = itertools.groupby(layout.layers, key=lambda layer: layer.mixer.is_global)
    return max((len(list(layers)) for is_global, layers in runs if not is_global), default=0)


class Recorder:
    """Random answers; keeps every question with its options."""

    def __init__(self, seed: int) -> None:
        self.random = RandomChooser(random.Random(seed))
        self.asked: dict[str, tuple[Option, ...]] = {}
        self.answers: dict[str, Option] = {}

    def choose(self, name: str, options: Sequence[T]) -> T:
        assert name not in self.asked, "a knob is asked once"
        assert len(options) > 1
        self.asked[name] = tuple(options)
        answer = self.random.choose(name, options)
        self.answers[name] = answer
        return answer


class Replay:
    """Gives recorded answers again."""

    def __init__(self, answers: dict[str, Option]) -> None:
        self.answers = answers

    def choose(self, name: str, options: Sequence[T]) -> T:
        answer = self.answers[name]
        return next(option for option in options if (type(option), option) == (type(answer), answer))


def random_layout(space: Space, rng: random.Random) -> Layout:
    """The first member that comes up; a space that ships has one in 2,000 draws."""
    drawn = (sample(space, RandomChooser(rng)) for _ in range(2000))
    return next(layout for layout in drawn if isinstance(layout, Layout))


@pytest.mark.parametrize("name", space_names())
@given(seed=seeds)
@settings(max_examples=40)
def test_a_sampled_layout_meets_every_constraint(name: str, seed: int) -> None:
    here = space(name)
    layout = random_layout(here, random.Random(seed))
    limits, counts, hidden = here.constraints, parameters(layout), hidden_of(layout)
    assert hidden is not None
    assert layout.width in here.widths
    assert len(layout.layers) in here.depths
    assert sum(layer.mixer.is_global for layer in layout.layers) >= limits.min_global_mixers >= 1
    if limits.max_run_without_full_attention is not None:
        assert longest_run(layout) <= limits.max_run_without_full_attention
    if limits.total_params is not None:
        assert abs(counts.total - limits.total_params) <= limits.tolerance * limits.total_params
    if here.ffn.hidden is None:
        assert hidden % here.ffn.multiple == 0
    if limits.max_embedding_share is not None:
        assert counts.embedding_share <= limits.max_embedding_share
    if limits.min_ffn_ratio is not None:
        assert hidden >= limits.min_ffn_ratio * layout.width
    if limits.max_ffn_ratio is not None:
        assert hidden <= limits.max_ffn_ratio * layout.width
    assert any(fits(layout.code, pattern.slots(len(layout.code))) for pattern in here.patterns)


def fits(code: str, slots: tuple[str, ...] | None) -> bool:
    return slots is not None and all(letter in slot for letter, slot in zip(code, slots, strict=True))


@given(seed=seeds)
@settings(max_examples=30)
def test_the_ffn_width_is_the_nearest_to_the_target(seed: int) -> None:
    here = space("350m")
    layout = random_layout(here, random.Random(seed))
    target, hidden = here.constraints.total_params, hidden_of(layout)
    assert target is not None
    assert hidden is not None

    def distance(other: int) -> int:
        layers = tuple(replace(layer, ffn=replace(layer.ffn, hidden=other)) for layer in layout.layers if layer.ffn)
        return abs(parameters(replace(layout, layers=layers)).total - target)

    assert distance(hidden) <= min(distance(hidden + 64), distance(hidden - 64))


@pytest.mark.parametrize("name", space_names())
def test_the_same_seed_gives_the_same_layouts(name: str) -> None:
    def draw() -> list[str]:
        rng = random.Random(7)
        return [random_layout(space(name), rng).layout_id for _ in range(10)]

    assert draw() == draw()
    assert len(set(draw())) > 1


@pytest.mark.parametrize("name", ["350m", "tiny", "embedding"])
def test_a_knob_always_has_the_same_options(name: str) -> None:
    seen: dict[str, tuple[Option, ...]] = {}
    for seed in range(200):
        recorder = Recorder(seed)
        drawn = sample(space(name), recorder)
        for knob, options in recorder.asked.items():
            assert seen.setdefault(knob, options) == options
            assert all(option is None or isinstance(option, bool | int | float | str) for option in options)
        if isinstance(drawn, Layout):
            kinds = {layer.mixer.kind for layer in drawn.layers}
            fields = {knob.partition(".")[0] for knob in recorder.asked if "." in knob}
            assert fields <= kinds | {"embedding"}, "fields of mixers that do not occur are not asked for"
            assert sample(space(name), Replay(recorder.answers)) == drawn


def test_different_answers_may_give_one_layout() -> None:
    here = space("350m")
    by_motif = {"pattern": "CG", "depth": 10, "width": 1024, "embedding.vocab_size": 65536, "embedding.rank": 256,
                "gqa.heads": 16, "gqa.head_dim": 64, "gqa.kv_heads": 2, "short_conv.kernel": 3}  # fmt: skip
    layers = {f"layer_{index:02d}_mixer": "CG"[index % 2] for index in range(10)}
    first, second = sample(here, Replay(by_motif)), sample(here, Replay({**by_motif, **layers, "pattern": "free"}))
    assert isinstance(first, Layout)
    assert isinstance(second, Layout)
    assert (first, first.layout_id) == (second, second.layout_id)


@given(name=st.sampled_from(space_names()), seed=seeds)
@settings(max_examples=40)
def test_layouts_are_read_back_from_files_and_codes(name: str, seed: int) -> None:
    layout = random_layout(space(name), random.Random(seed))
    assert parse_layout(NamedLayout(layout=layout).to_json()).layout == layout
    text = spell(layout)
    assert text is not None
    assert resolve(text).layout == layout


def test_a_sampled_layout_is_read_back_from_disk(tmp_path: Path) -> None:
    layout = random_layout(space("tiny"), random.Random(3))
    write_layout(NamedLayout(layout=layout), tmp_path / "layout.json")
    assert read_layout(tmp_path / "layout.json").layout == layout


@pytest.mark.parametrize(
    ("limits", "broken"),
    [
        ({"total_params": 30_000_000}, "total_params"),
        ({"max_embedding_share": 1e-3}, "max_embedding_share"),
        ({"min_ffn_ratio": 50.0, "max_ffn_ratio": None}, "min_ffn_ratio"),
        ({"max_ffn_ratio": 0.1, "min_ffn_ratio": None}, "max_ffn_ratio"),
        ({"min_global_mixers": 25}, "min_global_mixers"),
    ],
)
def test_a_rejection_names_its_constraint(limits: dict[str, float], broken: str) -> None:
    here = space("350m")
    strict = replace(here, constraints=replace(here.constraints, **limits))  # type: ignore[arg-type]
    found = Counter()
    for seed in range(30):
        drawn = sample(strict, RandomChooser(random.Random(seed)))
        assert isinstance(drawn, Rejection)
        found[drawn.constraint] += 1
    assert found.most_common(1)[0][0] == broken


@given(
    text=st.sampled_from(["free", "CCG", "[CG]W", "C(.)*G", "(CG|[CW])x2", "W*"]),
    depth=st.integers(1, 5),
    min_global=st.integers(0, 3),
    max_run=st.none() | st.integers(0, 4),
)
def test_counting_and_drawing_sequences_agree_with_trying_all(
    text: str, depth: int, min_global: int, max_run: int | None
) -> None:
    from search_space.patterns import parse_patterns

    mixers = {kind: space("350m").mixers[kind] for kind in ("short_conv", "gqa", "swa")}
    here = replace(
        space("350m"),
        mixers=mixers,
        patterns=parse_patterns(f"{text} | CCG", "CGW"),
        constraints=Constraints(min_global_mixers=min_global, max_run_without_full_attention=max_run),
    )

    def allowed(code: str) -> bool:
        runs = code.replace("G", " ").split()
        return code.count("G") >= min_global and (max_run is None or all(len(run) <= max_run for run in runs))

    codes = map("".join, itertools.product("CGW", repeat=depth))
    in_pattern = [code for code in codes if any(fits(code, pattern.slots(depth)) for pattern in here.patterns)]
    wanted = Counter(frozenset(code) for code in in_pattern if allowed(code))
    assert count_sequences(here, depth) == wanted
    assert sum(count_sequences(here, depth, constrained=False).values()) == len(in_pattern)
    for pattern in here.patterns:
        slots = pattern.slots(depth)
        if slots is None:
            continue
        rules = LayerRules(here, slots)
        reached = [""]
        if rules.broken() is None:
            for _ in slots:
                reached = [code + letter for code in reached for letter in rules.allowed(code)]
            assert sorted(reached) == sorted(code for code in in_pattern if fits(code, slots) and allowed(code))
            cheapest = min(reached, key=lambda code: (sum(map(ord, code)), code))
            assert rules.best({letter: ord(letter) for letter in "CGW"}) == (sum(map(ord, cheapest)), cheapest)
        else:
            assert not any(fits(code, slots) and allowed(code) for code in in_pattern)
