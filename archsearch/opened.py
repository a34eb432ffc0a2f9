"""A study opened for reading, for notebooks and scripts: its rows as a DataFrame, its ranking, its layouts.

An SQLite store is copied first, with what a running search has written so far: the copy is read, so that neither a
search that goes on nor a file under version control is touched.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.errors import StoreError
from archsearch.ranked import Ranked, Study, ranked, read_study
from archsearch.store import Store
from search_space.layout_file import NamedLayout

if TYPE_CHECKING:
    import pandas as pd

    from archsearch.measurement import Measurement
    from reports.ranking import Ranking

_DATABASE = "study.db"


class OpenedStudy:
    """A study as it was when it was opened; use `archsearch.open_study`.

    Attributes:
        study: What was measured, judged: rows as dicts, settings, the reference.
    """

    def __init__(self, store: Store, study: Study) -> None:
        self.study = study
        self._store = store
        weakref.finalize(self, store.close)

    def __repr__(self) -> str:
        """Name and size."""
        return f"<study {self.name}: {len(self.measurements)} measurements>"

    @property
    def name(self) -> str:
        """Its name."""
        return self.study.name

    @property
    def config(self) -> Mapping[str, Any]:
        """Its settings: space, objectives, budgets, workload, precision, anchors and so on."""
        return self.study.config

    @property
    def measurements(self) -> Sequence[Measurement]:
        """All measurements with their raw results, in the order they were stored."""
        return self.study.measurements

    @cached_property
    def rows(self) -> pd.DataFrame:
        """A row for each measured point of each candidate and anchor: objectives with their intervals, status, sizes.

        ``X_low`` and ``X_high`` are the 95% interval of ``X``. Rows whose status is not ``ok`` have no measured values.
        """
        import pandas as pd

        return pd.DataFrame(list(self.study.rows))

    def ranked(
        self,
        objectives: Sequence[str] | None = None,
        budgets: Sequence[str] | None = None,
        across: str | None = None,
    ) -> Ranked:
        """Rank as `archsearch show` does, and tell which devices were left out.

        Args:
            objectives: Names; those of the study by default.
            budgets: Limits such as ``peak_rss_mib<=400``; those of the study by default.
            across: How several devices are combined: ``worst``, ``geomean`` or the name of one.

        Raises:
            UnknownNameError: An objective or `across` is not known.
            BudgetError: A budget cannot be read.
            StoreError: The study holds single measurements or comparisons of blocks, which are not ranked.
        """
        if "objectives" not in self.config:
            raise StoreError(f"study {self.name} holds single measurements, which are not ranked", hint="read its rows")
        return ranked(self._store, self.study, objectives=objectives, budgets=budgets, across=across)

    def ranking(
        self,
        objectives: Sequence[str] | None = None,
        budgets: Sequence[str] | None = None,
        across: str | None = None,
    ) -> Ranking:
        """The ranking alone: what figures are drawn from. Arguments and errors are those of `ranked`."""
        return self.ranked(objectives, budgets, across).ranking

    def layout(self, which: str) -> NamedLayout:
        """A layout that the study has measured.

        Args:
            which: Its id or the beginning of it, or the name of an anchor.

        Raises:
            StoreError: None of that id or name was measured, or several were.
        """
        found = {
            m.layout.layout_id: NamedLayout(layout=m.layout, name=m.name)
            for m in self.measurements
            if m.layout is not None and (m.layout.layout_id.startswith(which) or m.name == which)
        }
        if len(found) != 1:
            many = (
                f"several layouts of study {self.name} begin with" if found and which else "no layout of the study is"
            )
            raise StoreError(f"{many} {which!r}", hint="the column layout_id of `rows` has the ids")
        return next(iter(found.values()))


def opened(where: str | Path, name: str | None = None) -> OpenedStudy:
    """Open a study; see `archsearch.open_study`.

    Raises:
        StoreError: There is no such store or study, or it cannot be read.
    """
    store = Store.open(where, create=False) if "://" in str(where) else _copied(Path(where))
    try:
        return OpenedStudy(store, read_study(store, _meant(store, name)))
    except BaseException:
        store.close()
        raise


def _meant(store: Store, name: str | None) -> str:
    """The study of that name; without one the only study that is ranked, or the only one at all."""
    studies = {record.name: record.config for record in store.studies()}
    names = [known for known, config in studies.items() if "objectives" in config] or list(studies)
    if name in studies:
        return name
    if name is None and len(names) == 1:
        return names[0]
    what = f"no study {name!r}" if name is not None else "more than one study" if names else "no study"
    raise StoreError(f"{store.where} holds {what}; there are {', '.join(studies) or 'none'}", hint="give its name")


def _copied(path: Path) -> Store:
    """The store of a file as it is now, in a temporary file that is gone when the store is closed."""
    file = path / _DATABASE if path.is_dir() else path
    if not file.is_file():
        raise StoreError(f"there is no store at {file}", hint="a study's folder, such as runs/NAME, or its study.db")
    folder = Path(tempfile.mkdtemp(prefix="archsearch-"))
    copy = folder / _DATABASE
    try:
        _copy(file, copy)
        store = _Copy.open(copy, create=False)
    except (sqlite3.Error, StoreError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        text = str(error).replace(str(copy), str(file))
        raise StoreError(text if str(file) in text else f"store {file}: {text}") from error
    store.where = str(file)
    return store


def _copy(file: Path, copy: Path) -> None:
    """Copy a database with what its write-ahead log holds.

    Opened as if to write: such a connection removes its log at the end when it was the only one, where one that only
    reads would leave an empty log behind.
    """
    address = f"{file.resolve().as_uri()}?mode=rw"
    with closing(sqlite3.connect(address, uri=True)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


class _Copy(Store):
    """A store whose folder is its own."""

    @property
    def folder(self) -> Path:
        """Where the copy lies."""
        return Path(str(self._engine.url.database)).parent

    def close(self) -> None:
        """Give back all connections and remove the copy."""
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)
