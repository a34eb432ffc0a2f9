"""The grammar of layers: what a text means, and what is said of one that means nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_space.patterns import parse_code, parse_patterns

LETTERS = "CDGLNW"


def spread(text: str, depth: int) -> list[str]:
    found = []
    for pattern in parse_patterns(text, LETTERS):
        slots = pattern.slots(depth)
        found.append("".join(s if len(s) == 1 else f"[{s}]" for s in slots) if slots is not None else "-")
    return found


@pytest.mark.parametrize(
    ("text", "depth", "layers"),
    [
        ("CCG", 7, ["CCGCCGC"]),
        ("CC(CWG)*G", 9, ["CCCWGCWGG"]),
        ("CC(CWG)*G", 5, ["CCCWG"]),
        ("CC(CWG)*G", 3, ["CCG"]),
        ("CC(CWG)*G", 2, ["-"]),
        ("(CCG)x2 Cx3", 9, ["CCGCCGCCC"]),
        ("CCG | CCCG", 4, ["CCGC", "CCCG"]),
        ("(C|W)CG", 3, ["CCG", "WCG"]),
        ("(C|W)x2 G", 3, ["CCG", "WWG"]),
        ("[WC]G", 3, ["[CW]G[CW]"]),
        (".G", 2, ["[CDGLNW]G"]),
        ("free", 2, ["[CDGLNW][CDGLNW]"]),
        ("C*", 3, ["CCC"]),
        ("((CG))*", 3, ["CGC"]),
    ],
)
def test_a_text_stands_for_these_layers(text: str, depth: int, layers: list[str]) -> None:
    assert spread(text, depth) == layers


def test_equal_alternatives_are_one() -> None:
    assert [p.text for p in parse_patterns("CG | (CG)* | C G | (C|C)G | . | free", LETTERS)] == ["CG", "free"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("CC(G", "character 3: '(' is not closed"),
        ("CXG", "character 2: 'X' is no mixer letter"),
        ("cg", "character 1: 'c' is no mixer letter here; did you mean 'C'? allowed: C, D, G, L, N, W"),
        ("C**", "character 3: '*' follows another repeat"),
        ("Cx2x3", "follows another repeat"),
        ("(C*G)*", "holds another"),
        ("C*G*", "only one can"),
        ("(C*)x2", "cannot be repeated by number"),
        ("x3", "nothing before it"),
        ("[]G", "[] holds no letter"),
        ("[C", "not closed"),
        ("CG)", "closes nothing"),
        ("C|", "empty"),
        ("Cx0", "repeats must be"),
        ("Cx513", "repeats must be"),
        ("(C|G)(C|G)(C|G)(C|G)(C|G)(C|G)(C|G)(C|G)(C|G)(C|G)", "more than 1000"),
        ("(" * 30 + "C" + ")" * 30, "nested too deeply"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"character|empty|only one") as caught:
        parse_patterns(text, LETTERS)
    assert said in str(caught.value)


@given(st.text(alphabet="CGW()[]|.*x3 free", max_size=12))
def test_any_text_is_a_pattern_or_a_value_error(text: str) -> None:
    try:
        patterns = parse_patterns(text, LETTERS)
    except ValueError:
        return
    for pattern in patterns:
        assert parse_patterns(pattern.text, LETTERS) == (pattern,), "canonical spelling reads back"
        ends = len(pattern.prefix) + len(pattern.suffix)
        for depth in range(1, 12):
            slots = pattern.slots(depth)
            assert (slots is None) == (depth < ends)
            if slots is not None:
                assert len(slots) == depth
                assert slots[: len(pattern.prefix)] == pattern.prefix
                assert slots[depth - len(pattern.suffix) :] == pattern.suffix


def test_codes() -> None:
    assert parse_code("(CCG)x4", LETTERS) == "CCG" * 4
    for text in ("C|G", "(CCG)*", "[CW]G", ".", "free"):
        with pytest.raises(ValueError, match="more than one layout"):
            parse_code(text, LETTERS)
