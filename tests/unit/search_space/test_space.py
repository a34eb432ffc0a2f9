"""Space files: what they may hold, and how every mistake is told at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_space import blocks
from search_space.blocks.gqa import GQA
from search_space.blocks.none import NoMixer
from search_space.errors import SpaceError
from search_space.formulas import evaluate, resolve_formulas
from search_space.layout import Embedding
from search_space.patterns import parse_patterns
from search_space.quantities import parse_count, parse_share, short_count
from search_space.space_file import load_space, space_names, space_schema

SMALL = """\
width: 64
depth: [2, 3]
embedding: {vocab_size: 128}
mixers:
  gqa: {heads: width / head_dim, kv_heads: 1, head_dim: 16}
  short_conv: {}
constraints: {total_params: 300k, tolerance: 5%}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def mistakes(tmp_path: Path, text: str) -> list[str]:
    path = write(tmp_path, text)
    with pytest.raises(SpaceError) as caught:
        load_space(path)
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


def test_the_spaces_that_ship() -> None:
    assert {"350m", "1b", "100m", "tiny", "embedding"} <= set(space_names())
    for name in space_names():
        space = load_space(name)
        assert space.name == name
        assert space.description
    default = load_space("350m")
    assert set(default.mixers) == set(blocks.mixers())
    assert default.constraints.total_params == 354_000_000


def test_a_small_file(tmp_path: Path) -> None:
    space = load_space(write(tmp_path, SMALL))
    assert (space.name, space.widths, space.depths) == ("mine", (64,), (2, 3))
    assert space.mixers["gqa"].make({"heads": "width / head_dim", "kv_heads": 1, "head_dim": 16}, 64) == GQA(
        heads=4, kv_heads=1, head_dim=16
    )
    assert space.patterns == parse_patterns("free", "CG")
    assert space.ffn.hidden is None
    assert space.ffn.multiple == 64
    assert (space.constraints.total_params, space.constraints.tolerance) == (300_000, 0.05)
    assert space.embedding.make({"vocab_size": 128}, 64) == Embedding(vocab_size=128)


def test_lists_ranges_and_scalars_say_the_same(tmp_path: Path) -> None:
    ranged = load_space(write(tmp_path, SMALL.replace("[2, 3]", "{from: 2, to: 3}")))
    assert ranged.depths == (2, 3)
    stepped = load_space(write(tmp_path, SMALL.replace("width: 64", "width: {from: 64, to: 200, step: 64}")))
    assert stepped.widths == (64, 128, 192)


def test_every_mistake_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = """\
format: 2
widht: 64
width: [64, "a", -3]
depth: 0
embedding: {vocab_size: [0, 1024], rank: [2000], tied: [1]}
mixers:
  gqa: {heads: [3, 16], kv_heads: [8, 5], head_dim: 64, windows: 3}
  swa: {head_dim: 16, heads: 4, kv_heads: [4, 4]}
  short_conv: {kernel: [-1, 3]}
  gka: {}
pattern: [CCX, 3, "GG)"]
ffn: {hidden: solve, multiple: 0}
constraints: {tolerance: 2x, min_ffn_ratio: 3, max_ffn_ratio: 2, min_global_mixers: -1}
"""
    found = mistakes(tmp_path, text)
    for line, said in (
        (1, "format: 2 is not allowed; allowed: 1"),
        (2, "unknown key 'widht'; did you mean 'width'?"),
        (3, "width: 'a' is not allowed; allowed: a whole number; -3 is not in the range from 1"),
        (4, "depth: 0 is not in the range from 1 to 512"),
        (5, "embedding.tied: 1 is not allowed; allowed: true or false"),
        (7, "unknown key 'mixers.gqa.windows'"),
        (8, "mixers.swa.kv_heads: lists 4 twice"),
        (8, "mixers.swa.window: is missing"),
        (9, "mixers.short_conv.kernel: -1 is never possible: kernel is -1; it must be at least 1"),
        (10, "unknown key 'mixers.gka'; did you mean 'gqa'?"),
        (11, "pattern 'CCX', character 3: 'X' is no mixer letter here; allowed: C, G, W"),
        (11, "pattern 'GG)', character 3: ')' closes nothing"),
        (11, "pattern: must be text (quote it), not 3"),
        (12, "ffn.multiple: must be greater than or equal to 1"),
        (13, "constraints.tolerance: '2x' is no share"),
        (13, "min_ffn_ratio 3 is above max_ffn_ratio 2"),
        (13, "constraints.total_params: is missing"),
        (13, "constraints.min_global_mixers: must be greater than or equal to 0"),
    ):
        assert any(one.startswith(f"{line}: {said}") for one in found), (line, said)
    assert [int(one.partition(":")[0]) for one in found] == sorted(int(one.partition(":")[0]) for one in found)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("vocab_size: 128", "vocab_size: [0, 128]", 3, "embedding.vocab_size: 0 is never possible"),
        (
            "vocab_size: 128",
            "vocab_size: 128, rank: [64, 16]",
            3,
            "embedding.rank: 64 is never possible: rank 64 is not below",
        ),
        (  # beside a vocabulary that is impossible too, a rank has a reason of its own
            "vocab_size: 128",
            "vocab_size: [0, 128], rank: [64, 16]",
            3,
            "embedding.rank: 64 is never possible: rank 64 is not below",
        ),
        ("kv_heads: 1", "kv_heads: [1, 3]", 5, "mixers.gqa.kv_heads: 3 is never possible: heads 4 is not a multiple"),
        ("kv_heads: 1", "kv_heads: 3", 5, "mixers.gqa: no combination of its choices is possible"),
        ("head_dim: 16", "head_dim: 24", 5, "no combination"),
        ("width / head_dim", "width / heads", 5, "in a circle"),
        ("width / head_dim", "wdith / 16", 5, "'wdith', which is no number"),
        ("width / head_dim", "width ** 2", 5, "no formula"),
        ("width / head_dim", "4.0", 5, "4.0 is not allowed"),
        ("short_conv: {}", "short_conv: 3", 6, "must be a mapping"),
        ("total_params: 300k, ", "", 7, "constraints.total_params: is missing"),
        ("total_params: 300k", "total_params: many", 7, "'many' is no count"),
        ("width: 64", "width: 64\nwidth: 32", 2, "key 'width' is given twice (first on line 1)"),
        ("width: 64", "width: =", 1, "'=' cannot be read: its tag 'tag:yaml.org,2002:value' means nothing here"),
        ("width: 64\n", "", 1, "width: is missing"),
        ("width: 64", "width: []", 1, "lists 0 values"),
        ("depth: [2, 3]", "depth: {from: 3, to: 2}", 2, "a range goes up"),
        ("depth: [2, 3]", "depth: {form: 3, to: 2}", 2, "a range is"),
        ("depth: [2, 3]", "depth: [2, 3", 3, "not valid YAML"),
        (
            "  gqa: {heads: width / head_dim, kv_heads: 1, head_dim: 16}\n  short_conv: {}",
            "  {}",
            4,
            "name at least one of",
        ),
    ],
)
def test_a_mistake(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    assert old in SMALL
    found = mistakes(tmp_path, SMALL.replace(old, new))
    assert any(one.startswith(f"{line}:") and said in one for one in found), found


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "- 1\n", "3\n", "a: &a [*a]\n", "\x00", "a: 2001-99-99\n", "<<: {a: 1}\n"]
)
def test_files_that_are_no_spaces(tmp_path: Path, text: str) -> None:
    assert mistakes(tmp_path, text)


def test_unreadable_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(SpaceError):
            load_space(path)
    (tmp_path / "latin.yaml").write_bytes(b"width: 64\ndescription: caf\xe9\n")
    with pytest.raises(SpaceError, match=r"latin.yaml:2: not UTF-8"):
        load_space(tmp_path / "latin.yaml")


def test_an_unknown_name() -> None:
    with pytest.raises(SpaceError, match="did you mean 'tiny'") as caught:
        load_space("tiyn")
    assert caught.value.hint == f"spaces that ship: {', '.join(space_names())}"


def test_the_schema_names_every_mixer_and_field() -> None:
    schema = space_schema()
    json.dumps(schema, allow_nan=False)
    properties = schema["$defs"]["Mixers"]["properties"]
    assert set(properties) == set(blocks.mixers())
    assert schema["$defs"]["GQAChoices"]["required"] == ["heads", "kv_heads", "head_dim"]
    assert schema["$defs"]["GQAChoices"]["properties"]["heads"]["description"] == "Query heads H."
    assert schema["additionalProperties"] is False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift(NoMixer):
    kind: ClassVar[str] = "shift"
    title: ClassVar[str] = "Shift"
    letter: ClassVar[str] = "S"

    steps: int

    def problems(self, width: int) -> Iterator[str]:
        if self.steps > width:
            yield f"steps {self.steps} is above the width {width}"


@pytest.fixture
def shift() -> Iterator[None]:
    blocks.register(Shift)
    yield
    blocks._extra.remove(Shift)
    blocks._all_blocks.cache_clear()


def test_a_new_block_needs_no_change_here(tmp_path: Path, shift: None) -> None:
    text = SMALL.replace("short_conv: {}", "shift: {steps: [1, 2, 100]}") + "pattern: SSG\n"
    assert mistakes(tmp_path, text) == ["6: mixers.shift.steps: 100 is never possible: steps 100 is above the width 64"]
    space = load_space(write(tmp_path, text.replace(", 100", "")))
    assert list(space.mixers["shift"].possible(64, limit=10)) == [Shift(steps=1), Shift(steps=2)]


def test_formulas() -> None:
    assert evaluate("width / 2 / heads", {"width": 1024, "heads": 4}) == 128
    assert evaluate("3 * (width - 24) + -1", {"width": 64}) == 119
    with pytest.raises(ValueError, match=r"is 9.75, no whole number \(width 39\)"):
        evaluate("width / 4", {"width": 39})
    for text in ("", "1.5", "width ** 2", "width // 2", "f(1)", "a.b", "True", "'x'", "a if b else c", "(" * 500):
        with pytest.raises(ValueError, match="no formula"):
            evaluate(text, {"width": 64})
    values = {"a": "b + 1", "b": "c * 2", "c": 3, "name": "text"}
    resolved = resolve_formulas(values, frozenset("abc"), {})
    assert resolved == {"a": 7, "b": 6, "c": 3, "name": "text"}


def test_counts_and_shares() -> None:
    counts = [parse_count(text) for text in ("354M", "1.2B", "65k", "1_000", "12")]
    assert counts == [354 * 10**6, 12 * 10**8, 65000, 1000, 12]
    assert parse_share("2.5 %") == 0.025
    assert [short_count(n) for n in (999, 65_536, 354_483_968, 1_170_340_608)] == ["999", "65.54k", "354.5M", "1.17B"]
    for text in ("", "M", "1.5", "-3", "1e3", "2MM"):
        with pytest.raises(ValueError, match="no "):
            parse_count(text)


@given(st.integers(0, 10**12))
def test_counts_read_back(number: int) -> None:
    assert parse_count(str(number)) == number
    assert abs(parse_count(short_count(number)) - number) <= number * 1e-3
