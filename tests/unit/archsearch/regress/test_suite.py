"""Suite files: what they may say, and what is said of mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from archsearch.configuration import DEFAULT_ANCHORS
from archsearch.errors import StudyError
from archsearch.ranked import ranked, read_study
from archsearch.regress.items import Item, Places, resolve_suite
from archsearch.regress.suite import load_suite
from archsearch.store import Store
from profiler.errors import ConfigError
from search_space.layout_file import write_layout
from search_space.notation import resolve
from tests.unit.archsearch.lab import Lab

TINY = "CG:width=64,vocab=512,ffn=96,head_dim=16"
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> str:
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        return str(tmp_path / "mine.yaml")

    return written


def items(path: str, tmp_path: Path, **lowerings: str) -> list[Item]:
    places = Places(store=None, runs=tmp_path / "runs")
    return resolve_suite(load_suite(path), places=places, lowerings=lowerings, seed=0)


def mistakes(path: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_suite(path)
    return caught.value.problems


def test_the_suite_that_ships_is_of_the_anchors_that_ship():
    suite = load_suite("default")
    assert [entry.layout for entry in suite.file.measure] == list(DEFAULT_ANCHORS)
    assert suite.file.anchors == [DEFAULT_ANCHORS[0]]
    assert (suite.name, suite.file.minimum_effect) == ("default", 0.04)


def test_every_entry_at_every_workload_and_precision(write: Write, tmp_path: Path):
    path = write(f"""anchors: ["{TINY}"]
workloads: ["16/4", "8/2"]
precisions: [fp32, int4]
measure:
  - layout: "{TINY}"
  - layout: "{TINY.replace("64", "128")}"
    name: wide
    workloads: ["16/4"]
    precisions: [int8]
    minimum_effect: 0.2
""")
    anchor, *rest = items(path, tmp_path)
    assert anchor.anchor
    assert (anchor.subject.workload.name, anchor.subject.precision) == ("16/4", "fp32")
    assert [(one.subject.workload.name, one.subject.precision) for one in rest] == [
        ("16/4", "fp32"), ("16/4", "int4"), ("8/2", "fp32"), ("8/2", "int4"), ("16/4", "int8"),
    ]  # fmt: skip
    assert [one.minimum_effect for one in rest] == [0.04] * 4 + [0.2]
    assert rest[-1].name == "wide"
    assert rest[0].name.startswith("CG ")
    assert len({one.asked for one in (anchor, *rest)}) == 6


def test_paths_begin_at_the_suite(write: Write, tmp_path: Path):
    (tmp_path / "sub").mkdir()
    write_layout(resolve(TINY), tmp_path / "sub" / "layout.json")
    path = write(f'anchors: ["{TINY}"]\nmeasure: [{{layout: sub/layout.json}}]\n')
    assert items(path, tmp_path)[1].identity == resolve(TINY).layout.layout_id


def test_a_pinned_lowering_is_for_those_that_have_the_block(write: Write, tmp_path: Path):
    path = write(f'anchors: ["CC:width=64,vocab=512,ffn=96"]\nmeasure: [{{layout: "{TINY}"}}]\nworkloads: ["16/4"]\n')
    anchor, one = items(path, tmp_path, gqa="standard")
    assert dict(anchor.subject.pins) == {}
    assert "standard" in one.subject.lowerings().values()
    with pytest.raises(StudyError, match="nothing of suite mine has such a block"):
        items(path, tmp_path, swa="standard")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("measure: []\n", 1, "must not be empty"),
        ("anchors: []\nmeasure: [{layout: a}]\n", 1, "must not be empty"),
        ("suite: 1\nmeasure: [{layout: a}]\n", 1, "unknown key 'suite'"),
        ("workloads: [quick]\n", 1, "measure: is missing"),
        ("measure:\n  - {}\n", 2, "needs one of layout, onnx and study, and has none"),
        ("measure:\n  - {layout: a, study: b}\n", 2, "has layout and study"),
        ("measure:\n  - {layout: a, neighbours: 2}\n", 2, "neighbours are those of a study's front"),
        ("measure:\n  - {onnx: a, precisions: [int4]}\n", 2, "measured as it is"),
        ("measure:\n  - layout: a\n    layuot: b\n", 3, "did you mean 'layout'"),
        ("measure:\n  - layout: a\n    workloads: [quik]\n", 3, "did you mean 'quick'"),
        ("measure:\n  - layout: a\n    precisions: [int5]\n", 3, "'int5' is not allowed"),
        ("measure:\n  - layout: a\n    minimum_effect: 0\n", 3, "greater than 0"),
        ("measure:\n  - layout: a\n    name: ''\n", 3, "must not be empty"),
        ('measure:\n  - layout: a\n    name: "a\\e[31m"\n', 3, "printable"),
        ("measure: [{layout: a}]\nquantities: [ttft]\n", 2, "'ttft' is not measured; did you mean 'ttft_ms'"),
        ("measure: [{layout: a}]\nquantities: [total_params]\n", 2, "is not measured"),
        ("- layout: a\n", 1, "must start with `measure:`"),
    ],
)
def test_mistakes_are_told_with_their_line(write: Write, text: str, line: int, said: str):
    path = write(text)
    assert any(problem.startswith(f"{path}:{line}: ") and said in problem for problem in mistakes(path)), mistakes(path)


def test_a_suite_that_is_not_there():
    assert "there is no suite 'defualt'; did you mean 'default'?" in mistakes("defualt")[0]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{layout: lfm2.5-350}", "did you mean"),
        ("{layout: '0123456789ab'}", "no layout in any study"),
        ("{layout: none/layout.json}", "layout.json"),
        ("{onnx: no.onnx}", "there is no ONNX file at"),
        ("{study: none}", "there is no study 'none'"),
        ("{study: ../../etc}", "is no study name"),
    ],
)
def test_what_names_nothing_is_told_with_its_line(write: Write, tmp_path: Path, entry: str, said: str):
    path = write(f'anchors: ["{TINY}"]\nmeasure:\n  - {entry}\n')
    with pytest.raises(ConfigError) as caught:
        items(path, tmp_path)
    [problem] = caught.value.problems
    assert problem.startswith(f"{path}:3: ")
    assert said in problem


def test_one_thing_twice_is_told(write: Write, tmp_path: Path):
    path = write(f'anchors: ["{TINY}"]\nmeasure:\n  - layout: "{TINY}"\n  - layout: "{TINY}"\n')
    with pytest.raises(ConfigError, match="is on line 3 already"):
        items(path, tmp_path)


def test_the_front_of_a_study_and_the_next_by_rank(write: Write, tmp_path: Path):
    lab = Lab(tmp_path)
    lab.add("a")
    lab.run(3)
    path = write(f'anchors: ["{TINY}"]\nworkloads: ["16/4"]\nmeasure: [{{study: s, neighbours: 1, name: best}}]\n')
    places = Places(store=str(tmp_path / "study.db"), runs=tmp_path / "runs")
    _, *found = resolve_suite(load_suite(path), places=places, lowerings={}, seed=0)
    with Store.open(tmp_path / "study.db") as store:
        entries = [one for one in ranked(store, read_study(store, "s")).ranking.entries if one.rank and not one.anchor]
    front = [one.key[0] for one in entries if one.front == "on"]
    after = [one.key[0] for one in entries if one.front != "on"][:1]
    assert [one.identity for one in found] == [*front, *after]
    assert found[0].name == f"best {found[0].identity[:6]}"
    path = write(f'anchors: ["{TINY}"]\nquantities: [ttft_ms]\nmeasure:\n  - {{study: s}}\n')
    said = r":4: study s ranks by decode_ms, which the suite does not measure; add it to `quantities:`"
    with pytest.raises(ConfigError, match=said):
        resolve_suite(load_suite(path), places=places, lowerings={}, seed=0)
    with pytest.raises(ConfigError, match=r"there is no study 'other' in .*; there are s"):
        resolve_suite(
            load_suite(write("measure: [{study: other}]\n")), places=places, lowerings={}, seed=0
        )  # fmt: skip
