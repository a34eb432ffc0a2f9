"""What the entries of a suite stand for, exported and ready to be measured; found before any device is opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from archsearch.candidates import prepare
from archsearch.errors import ArchsearchError, StoreError, StudyError
from archsearch.layout_ids import find_layout
from archsearch.measurement import NIGHTLY
from archsearch.objectives import objectives
from archsearch.onnx_files import foreign_subject, onnx_file
from archsearch.ranked import ranked, read_study
from archsearch.regress.fronts import item_name, told_front
from archsearch.regress.notes import Asked
from archsearch.regress.suite import Entry, Suite
from archsearch.store import Store
from archsearch.subjects import Subject
from profiler.errors import ProfilerError
from profiler.workloads import parse_workload
from profiler.yaml_errors import Problems
from reports.errors import ReportError
from reports.study_fronts import StudyFront
from search_space.errors import SearchSpaceError
from search_space.graph.precision import PRECISIONS
from search_space.layout import Layout, distinct_blocks
from search_space.layout_file import NamedLayout

_STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DATABASE = "study.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to measure at one workload and precision.

    Attributes:
        name: Of the thing in its suite.
        identity: Layout id, or sha256 of a file.
        subject: As exported.
        anchor: Whether it tells the device from what is measured on it.
        minimum_effect: Smallest relative change that is worth an alarm.
        front: What its study says of the front that it is measured for; None for what is of no study.
    """

    name: str
    identity: str
    subject: Subject
    anchor: bool
    minimum_effect: float
    front: StudyFront | None = None

    @property
    def asked(self) -> Asked:
        """As a night's plan names it."""
        return Asked(
            item=self.name, identity=self.identity, anchor=self.anchor, precision=self.subject.precision,
            points=self.subject.points,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where ids and studies are looked up: one store, or every study of a folder."""

    store: str | None
    runs: Path


def resolve_suite(suite: Suite, *, places: Places, lowerings: Mapping[str, str], seed: int) -> list[Item]:
    """Everything that a suite measures; its anchors first.

    Args:
        suite: What was read.
        places: Where ids and studies are looked up.
        lowerings: Pinned ones, by block kind; those of kinds that a layout does not have are nothing to it.
        seed: Of the weights.

    Raises:
        ConfigError: Entries that name nothing, one `file:line: ...` each.
        StudyError: A pinned lowering of a block that nothing of the suite has.
    """
    return _Resolving(suite, places, lowerings, seed).items()


class _Resolving:
    def __init__(self, suite: Suite, places: Places, lowerings: Mapping[str, str], seed: int) -> None:
        self._suite = suite
        self._places = places
        self._lowerings = lowerings
        self._seed = seed
        self._problems: Problems = suite.problems()
        self._lines: dict[tuple[object, ...], int] = {}
        self._kinds: set[str] = set()
        self._fronts: dict[tuple[str, int, str], tuple[StudyFront, list[Layout]]] = {}

    def items(self) -> list[Item]:
        file = self._suite.file
        found: list[Item] = []
        for at, text in enumerate(file.anchors):
            found += self._guarded(self._line("anchors", at), partial(self._anchor, text))
        for at, entry in enumerate(file.measure):
            line = self._line("measure", at, entry.kind)
            found += self._guarded(line, partial(self._entry, entry, line))
        self._problems.raise_if_any()
        unused = sorted(self._lowerings.keys() - self._kinds)
        if unused:
            raise StudyError(
                f"--lowering names {', '.join(unused)}, and nothing of suite {self._suite.name} has such a block",
                hint=f"its blocks: {', '.join(sorted(self._kinds)) or 'none that we made'}",
            )
        return found

    def _line(self, *place: str | int) -> int:
        return self._suite.positions.line_of(place)

    def _guarded(self, line: int, find: Callable[[], Iterable[Item]]) -> list[Item]:
        """What an entry stands for; nothing, and a mistake of its line, where that is not found."""
        try:
            return list(find())
        except (ArchsearchError, SearchSpaceError, ProfilerError, ReportError) as error:
            hint = f" (try: {error.hint})" if error.hint else ""
            self._problems.add(line, " ".join(str(error).split("\n")) + hint)
            return []

    def _anchor(self, text: str) -> Iterator[Item]:
        file = self._suite.file
        named = self._named(text)
        yield self._exported(named, named.name or _code_name(named.layout), file.workloads[0], file.precisions[0], None)

    def _entry(self, entry: Entry, line: int) -> Iterator[Item]:
        for item in self._of(entry):
            key = (item.name, item.subject.precision, item.subject.points)
            first = self._lines.get(key)
            if first is None:
                self._lines[key] = line
                yield item
            elif first != line or entry.kind != "study":
                where = f"{item.name} ({item.subject.workload.name}, {item.subject.precision})"
                self._problems.add(line, f"{where} is on line {first} already; give one of them another `name:`")

    def _of(self, entry: Entry) -> Iterator[Item]:
        file = self._suite.file
        for workload in dict.fromkeys(entry.workloads or file.workloads):
            if entry.onnx is not None:
                yield self._file(entry, entry.onnx, workload)
                continue
            for precision in dict.fromkeys(entry.precisions or file.precisions):
                if entry.layout is not None:
                    named = self._named(entry.layout)
                    name = entry.name or named.name or _code_name(named.layout)
                    yield self._exported(named, name, workload, precision, entry)
                if entry.study is not None:
                    front, layouts = self._front(entry.study, entry.neighbours or 0, entry.name or entry.study)
                    for layout in layouts:
                        name = item_name(front.name, layout.layout_id)
                        item = self._exported(NamedLayout(layout=layout), name, workload, precision, entry)
                        yield replace(item, front=front)

    def _exported(self, named: NamedLayout, name: str, workload_name: str, precision: str, entry: Entry | None) -> Item:
        """A layout at one workload and precision; without an entry as an anchor."""
        layout, workload = named.layout, parse_workload(workload_name)
        kinds = {block.kind for block, _ in distinct_blocks(layout)}
        self._kinds |= kinds
        pins = {kind: lowering for kind, lowering in self._lowerings.items() if kind in kinds}
        stored_as = next(known for known in PRECISIONS if known == precision)
        prepared = prepare(layout, workload=workload, precision=stored_as, lowerings=pins, seed=self._seed)
        subject = Subject(
            label=name, workload=workload, precision=precision, role=NIGHTLY, layout=layout, prepared=prepared,
            name=name, pins=pins, seed=self._seed,
        )  # fmt: skip
        return self._item(name, layout.layout_id, subject, entry)

    def _file(self, entry: Entry, text: str, workload_name: str) -> Item:
        path = self._here(text)
        found = onnx_file(str(path))
        if found is None or not found.is_file():
            beside = sorted(one.name for one in path.parent.glob("*.onnx"))[:5] if path.parent.is_dir() else []
            has = f"; {path.parent} has {', '.join(beside)}" if beside else ""
            raise StudyError(f"there is no ONNX file at {path}{has}")
        subject = foreign_subject(found, parse_workload(workload_name))
        name = entry.name or subject.name or found.name
        assert subject.foreign is not None
        named = replace(subject, name=name, label=name, role=NIGHTLY)
        return self._item(name, subject.foreign.content_id(), named, entry)

    def _item(self, name: str, identity: str, subject: Subject, entry: Entry | None) -> Item:
        own = None if entry is None else entry.minimum_effect
        return Item(
            name=name, identity=identity, subject=subject, anchor=entry is None,
            minimum_effect=self._suite.file.minimum_effect if own is None else own,
        )  # fmt: skip

    def _here(self, text: str) -> Path:
        """A path of the file, which begins at its folder."""
        try:
            return self._suite.path.parent / Path(text).expanduser()
        except RuntimeError as error:  # ~nobody
            raise StudyError(f"{text!r} is no path: {error}") from error

    def _named(self, text: str) -> NamedLayout:
        """A layout: a file beside the suite, or what every command understands."""
        looks_like_path = "/" in text.partition(":")[0] or text.lower().endswith(".json")
        if looks_like_path:
            return find_layout(str(self._here(text)))
        return find_layout(text, store=self._places.store, runs=self._places.runs)

    def _front(self, name: str, neighbours: int, called: str) -> tuple[StudyFront, list[Layout]]:
        """The front of a study by its own objectives and budgets, and the next ones by rank; with what it says."""
        known = self._fronts.get((name, neighbours, called))
        if known is not None:
            return known
        with self._study_store(name) as database:
            study = read_study(database, name)
            if "objectives" not in study.config:
                raise StoreError(f"study {name!r} holds single measurements, and has no front")
            found = ranked(database, study)
            self._check_measured(name, found.objectives)
            entries = [one for one in found.ranking.entries if one.rank and not one.anchor]
            layouts = {m.layout.layout_id: m.layout for m in study.measurements if m.layout is not None}
        front = [one for one in entries if one.front == "on"]
        if not front:
            raise StoreError(f"study {name!r} has no front yet: no candidate of it was measured and is ranked")
        rest = sorted((one for one in entries if one.front != "on"), key=lambda one: one.rank or 0)
        chosen = list({one.key[0]: one for one in (*front, *rest[:neighbours])}.values())
        made = told_front(found, chosen, name=called), [layouts[one.key[0]] for one in chosen]
        self._fronts[name, neighbours, called] = made
        return made

    def _check_measured(self, name: str, ranked_by: Iterable[str]) -> None:
        """Whether a study's front can be judged by what the suite measures."""
        known, own = objectives(), self._suite.file.quantities
        missing = [one for one in ranked_by if one in known and known[one].measured and one not in own]
        if missing:
            them = "it" if len(missing) == 1 else "them"
            raise StudyError(
                f"study {name} ranks by {', '.join(missing)}, which the suite does not measure; "
                f"add {them} to `quantities:`"
            )

    def _study_store(self, name: str) -> Store:
        store, runs = self._places.store, self._places.runs
        if not _STUDY_NAME.fullmatch(name):
            raise StoreError(f"{name!r} is no study name")
        if store is None and not (runs / name / _DATABASE).is_file():
            known = sorted(path.parent.name for path in runs.glob(f"*/{_DATABASE}"))
            raise StoreError(f"there is no study {name!r} in {runs}; there are {', '.join(known) or 'none'}")
        database = Store.open(store if store is not None else runs / name / _DATABASE, create=False)
        if database.study(name) is None:
            known = [record.name for record in database.studies()]
            database.close()
            raise StoreError(f"there is no study {name!r} in {database.where}; there are {', '.join(known) or 'none'}")
        return database


def _code_name(layout: Layout) -> str:
    """Of a layout without a name: two of one code differ in their id."""
    return f"{layout.code} {layout.layout_id[:6]}"
