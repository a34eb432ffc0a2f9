"""The store: studies, layouts, trials and measurements in one SQL database.

SQLite by default (write-ahead log: readers and a writer do not wait for each other; every commit is synced, which costs
milliseconds where a measurement costs seconds), any SQLAlchemy URL otherwise. Measurements are appended, never changed.
What belongs together is written in one transaction: a process killed at any instant leaves a readable store.
Times are Unix seconds. A `Store` may be used from several threads.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

from archsearch import store_tables as t
from archsearch.errors import StoreError
from archsearch.owners import STALE_S, owner_id, owner_is_dead
from archsearch.store_address import DAMAGED_HINT, URL_HINT, database_url, hint_for, shown_address
from archsearch.store_records import (
    Check,
    Claim,
    MeasurementRecord,
    Outline,
    StudyRecord,
    TrialRecord,
    decode_measurement,
    decode_outline,
    decode_study,
    decode_trial,
    dump,
    parse,
)
from archsearch.store_tables import BUSY_S, begin_sqlite, insert_missing, prepare_sqlite
from profiler.summary import SUMMARY_VERSION

__all__ = ["STALE_S", "Check", "Claim", "MeasurementRecord", "Outline", "Store", "StudyRecord", "TrialRecord"]

T = TypeVar("T")

SCHEMA_VERSION = 1

_CREATION_LOCK = 0x61726368
_AT_ONCE = 1000
"""Ids that one query names: far below what any engine takes."""


class Store:
    """An open database; use `Store.open`."""

    def __init__(self, engine: Engine, where: str) -> None:
        self._engine = engine
        self._keeps_summaries = True
        self.where = where

    @classmethod
    def open(cls, where: str | Path, *, create: bool = True) -> Store:
        """Open a database, and make its tables when it is new.

        Args:
            where: Path of an SQLite file, or an SQLAlchemy URL.
            create: Whether a missing SQLite file is made.

        Raises:
            StoreError: It cannot be opened, is no archsearch store, or is of another version.
        """
        url = database_url(where)
        if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
            raise StoreError("--store is an SQLite URL without a file", hint="sqlite:///path/to/file.db")
        shown = shown_address(url)
        sqlite = url.get_backend_name() == "sqlite"
        if sqlite:
            path = Path(shown)
            if not create and not path.exists():
                raise StoreError(f"there is no store at {path}")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"{path.parent} cannot be made: {error.strerror}") from error
        try:
            engine = sa.create_engine(url, connect_args={"timeout": BUSY_S} if sqlite else {}, pool_pre_ping=not sqlite)
        except (NoSuchModuleError, ImportError) as error:
            raise StoreError(
                f"no driver for {shown}: {error}", hint="pip install 'archsearch[postgresql]' for PostgreSQL"
            ) from error
        except (SQLAlchemyError, TypeError, ValueError) as error:
            raise StoreError(f"{shown} is no usable database URL", hint=URL_HINT) from error
        if sqlite:
            sa.event.listen(engine, "connect", prepare_sqlite)
            sa.event.listen(engine, "begin", begin_sqlite)
        store = cls(engine, shown)
        try:
            with store._guard(), store._write() as connection:
                store._prepare(connection)
        except BaseException:
            engine.dispose()
            raise
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    # -- studies and layouts -----------------------------------------------------------------------------------------

    def create_study(self, name: str, config: Mapping[str, Any]) -> StudyRecord:
        """Make a study; an existing one of this name is returned as it is."""
        record = {"name": name, "created_unix": time.time(), "config": dump(config)}
        with self._guard(), self._write() as connection:
            insert_missing(connection, t.studies, record)
        found = self.study(name)
        assert found is not None
        return found

    def study(self, name: str) -> StudyRecord | None:
        """The study of this name."""
        return next(iter(self._read(sa.select(t.studies).where(t.studies.c.name == name), decode_study)), None)

    def studies(self) -> list[StudyRecord]:
        """All studies, oldest first."""
        return self._read(sa.select(t.studies).order_by(t.studies.c.created_unix, t.studies.c.name), decode_study)

    def written_unix(self) -> dict[str, float]:
        """When each study was last written to: its newest measurement or event, or else when it was made."""
        written: dict[str, float] = {}
        for table in (t.measurements, t.events):
            newest = sa.select(sa.func.max(table.c.sequence)).group_by(table.c.study)
            query = sa.select(table.c.study, table.c.created_unix).where(table.c.sequence.in_(newest))
            for name, at in self._read(query, lambda record: (str(record.study), float(record.created_unix))):
                written[name] = max(at, written.get(name, at))
        return {study.name: written.get(study.name, study.created_unix) for study in self.studies()}

    def layout_texts(self, ids: Sequence[str]) -> dict[str, str]:
        """The canonical forms of these layouts, as JSON, by id."""
        found: dict[str, str] = {}
        for first in range(0, len(ids), _AT_ONCE):
            some = t.layouts.c.layout_id.in_(ids[first : first + _AT_ONCE])
            query = sa.select(t.layouts.c.layout_id, t.layouts.c.layout).where(some)
            found.update(self._read(query, lambda record: (record.layout_id, record.layout)))
        return found

    def layouts(self, prefix: str = "") -> dict[str, Mapping[str, Any]]:
        """Layouts in canonical form by id, of ids that begin with `prefix`."""
        query = sa.select(t.layouts.c.layout_id, t.layouts.c.layout)
        if prefix:
            query = query.where(t.layouts.c.layout_id.startswith(prefix, autoescape=True))
        return dict(self._read(query, lambda record: (record.layout_id, parse(record.layout))))

    # -- trials ------------------------------------------------------------------------------------------------------

    def add_trial(
        self, study: str, layout_id: str, code: str, layout: Mapping[str, Any], choices: Mapping[str, Any]
    ) -> int | None:
        """Open a trial under the next free number.

        Returns:
            That number, or None when the study has a trial of this layout already (another run was faster).
        """
        with self._guard(), self._write() as connection:
            # Locks the study on a server, so that numbers are given one after the other; SQLite has one writer anyway.
            known = connection.scalar(sa.select(t.studies.c.name).where(t.studies.c.name == study).with_for_update())
            if known is None:
                raise StoreError(f"store {self.where}: there is no study {study!r}")
            same = sa.and_(t.trials.c.study == study, t.trials.c.layout_id == layout_id)
            if connection.scalar(sa.select(t.trials.c.number).where(same)) is not None:
                return None
            _put_layout(connection, layout_id, code, layout)
            last = connection.scalar(sa.select(sa.func.max(t.trials.c.number)).where(t.trials.c.study == study))
            number = 0 if last is None else int(last) + 1
            connection.execute(
                sa.insert(t.trials).values(
                    study=study, number=number, layout_id=layout_id, state="open",
                    choices=dump(choices), created_unix=time.time(),
                )
            )  # fmt: skip
            return number

    def set_trial(self, study: str, number: int, state: str) -> None:
        """Set a trial's state."""
        with self._guard(), self._write() as connection:
            connection.execute(
                sa.update(t.trials).where(t.trials.c.study == study, t.trials.c.number == number).values(state=state)
            )

    def trials(self, study: str) -> list[TrialRecord]:
        """A study's trials in order."""
        query = sa.select(t.trials).where(t.trials.c.study == study).order_by(t.trials.c.number)
        return self._read(query, decode_trial)

    # -- measurements ------------------------------------------------------------------------------------------------

    def claim(self, key_hash: str, job_id: str) -> Claim:
        """Claim a key for measuring under `job_id`.

        Returns:
            The claim that holds now: ours, somebody else's, or one taken over from an owner that is dead or has given
            no sign for `STALE_S`; the job id is then that owner's.
        """
        me = owner_id()
        values = {"key_hash": key_hash, "job_id": job_id, "owner": me, "heartbeat_unix": time.time()}
        here = sa.select(t.claims).where(t.claims.c.key_hash == key_hash).with_for_update()
        while True:
            with self._guard(), self._write() as connection:
                held = connection.execute(here).first()
                if held is None and insert_missing(connection, t.claims, values):
                    return Claim(key_hash=key_hash, job_id=job_id, mine=True, owner=me, seen_unix=time.time())
                if held is None:
                    continue  # another process was faster; look again
                mine = held.owner == me or owner_is_dead(held.owner, held.heartbeat_unix)
                if mine:
                    beat = {"owner": me, "heartbeat_unix": time.time()}
                    connection.execute(sa.update(t.claims).where(t.claims.c.key_hash == key_hash).values(**beat))
                owner = me if mine else held.owner
                return Claim(
                    key_hash=key_hash, job_id=held.job_id, mine=mine, owner=owner, seen_unix=held.heartbeat_unix
                )  # fmt: skip

    def abandoned_claims(self) -> list[Claim]:
        """Claims whose owners are gone; `claim` takes one over."""
        found = self._read(sa.select(t.claims), lambda row: (row.key_hash, row.job_id, row.owner, row.heartbeat_unix))
        return [
            Claim(key_hash=key_hash, job_id=job_id, mine=False, owner=owner, seen_unix=heartbeat)
            for key_hash, job_id, owner, heartbeat in found
            if owner_is_dead(owner, heartbeat)
        ]

    def rename_claim(self, key_hash: str, job_id: str) -> None:
        """Put a claim of ours on another job (the one taken over was gone)."""
        self._update_claim(key_hash, job_id=job_id, heartbeat_unix=time.time())

    def beat(self, key_hash: str) -> None:
        """Give a sign that a claim's owner lives."""
        self._update_claim(key_hash, heartbeat_unix=time.time())

    def _update_claim(self, key_hash: str, **values: Any) -> None:
        mine = sa.and_(t.claims.c.key_hash == key_hash, t.claims.c.owner == owner_id())
        with self._guard(), self._write() as connection:
            connection.execute(sa.update(t.claims).where(mine).values(**values))

    def release(self, key_hash: str) -> None:
        """End a claim of ours without a measurement."""
        with self._guard(), self._write() as connection:
            connection.execute(
                sa.delete(t.claims).where(t.claims.c.key_hash == key_hash, t.claims.c.owner == owner_id())
            )

    def add_measurement(
        self, record: MeasurementRecord, *, layout: Mapping[str, Any] | None = None, code: str = "",
        checks: Sequence[Check] = (), claim_hash: str | None = None, summary: str | None = None,
    ) -> bool:  # fmt: skip
        """Store a measurement, end its claim (`claim_hash`, by default its key), keep passed checks: all or nothing.

        Args:
            record: The measurement.
            layout: What was measured, in canonical form.
            code: Of the layout.
            checks: Block checks that its device passed on the way.
            claim_hash: Of the claim.
            summary: Of its result, as `profiler.summary` writes it now.

        Returns:
            False when a measurement of this job is stored already; nothing is changed then but the claim.
        """
        values = {name: getattr(record, name) for name in MeasurementRecord.__slots__}
        values.update(
            key=dump(record.key), info=dump(record.info), created_unix=record.created_unix or time.time(),
            result=None if record.result is None else zlib.compress(record.result, 6),
        )  # fmt: skip
        claim = t.claims.c.key_hash == (claim_hash or record.key_hash)
        ours = sa.or_(t.claims.c.owner == owner_id(), t.claims.c.job_id == record.job_id)
        with self._guard(), self._write() as connection:
            if layout is not None and record.layout_id is not None:
                _put_layout(connection, record.layout_id, code, layout)
            stored = insert_missing(connection, t.measurements, values)
            connection.execute(sa.delete(t.claims).where(claim, ours))
            for check in checks if stored else ():
                _put_check(connection, check)
            if stored and summary is not None and self._keeps_summaries:
                _put_summary(connection, record.job_id, summary)
        return stored

    def find_measurement(
        self, key_hash: str, *, statuses: Sequence[str], but_roles: Sequence[str] = ()
    ) -> MeasurementRecord | None:
        """The latest measurement under a key with one of these statuses and none of those roles."""
        query = (
            sa.select(t.measurements)
            .where(
                t.measurements.c.key_hash == key_hash,
                t.measurements.c.status.in_(statuses),
                t.measurements.c.role.not_in(but_roles),
            )
            .order_by(t.measurements.c.sequence.desc())
            .limit(1)
        )
        return next(iter(self._read(query, decode_measurement)), None)

    def measurements(self, study: str | None = None, *, also: Sequence[str] = ()) -> list[MeasurementRecord]:
        """Measurements in the order they were stored, of one study (and of further job ids) or of all."""
        query = sa.select(t.measurements).order_by(t.measurements.c.sequence)
        if study is not None:
            query = query.where(sa.or_(t.measurements.c.study == study, t.measurements.c.job_id.in_(also)))
        return self._read(query, decode_measurement)

    def job_ids(self, study: str, *, also: Sequence[str] = ()) -> list[str]:
        """Jobs of a study's measurements (and further ones) in the order they were stored."""
        m = t.measurements.c
        query = sa.select(m.job_id).order_by(m.sequence).where(sa.or_(m.study == study, m.job_id.in_(also)))
        return self._read(query, lambda record: str(record.job_id))

    def outlines(self, job_ids: Sequence[str]) -> dict[str, Outline]:
        """Measurements without their results, by job: a fraction of the bytes, and of the time."""
        m, columns = t.measurements.c, [c for c in t.measurements.c if c.name not in ("sequence", "result")]
        query = sa.select(*columns, m.result.is_not(None).label("ran")).order_by(m.sequence)
        if self._keeps_summaries:
            current = sa.and_(t.summaries.c.job_id == m.job_id, t.summaries.c.version == SUMMARY_VERSION)
            query = query.add_columns(t.summaries.c.data.label("summary")).outerjoin(t.summaries, current)
        found: dict[str, Outline] = {}
        for first in range(0, len(job_ids), _AT_ONCE):
            some = query.where(m.job_id.in_(job_ids[first : first + _AT_ONCE]))
            found.update((outline.record.job_id, outline) for outline in self._read(some, decode_outline))
        return found

    def result(self, job_id: str) -> bytes | None:
        """A measurement's raw result; None when nothing ran."""
        m = t.measurements.c
        found = self._read(
            sa.select(m.result).where(m.job_id == job_id),
            lambda record: None if record.result is None else zlib.decompress(record.result),
        )
        return next(iter(found), None)

    def add_summaries(self, summaries: Mapping[str, str]) -> None:
        """Keep summaries of results, by job, as `profiler.summary` writes them now; those that are there stay."""
        if not summaries or not self._keeps_summaries:
            return
        with self._guard(), self._write() as connection:
            for job_id, summary in summaries.items():
                _put_summary(connection, job_id, summary)

    def version(self, study: str) -> tuple[int, int]:
        """Changes whenever something is added to a study: how many measurements and events it has.

        What it takes over from another study is told by an event. Rows are only ever added; a server gives out sequence
        numbers before they are seen, so the largest one would say nothing of those before it.
        """
        counts = [
            sa.select(sa.func.count()).select_from(table).where(table.c.study == study).scalar_subquery()
            for table in (t.measurements, t.events)
        ]
        return self._read(sa.select(*counts), lambda record: (int(record[0]), int(record[1])))[0]

    def names(self, study: str, *, workload: str, precision: str) -> list[str]:
        """Names of a study's measurements that gave numbers, in the order of the latest of each."""
        m = t.measurements.c
        query = (
            sa.select(m.name)
            .where(m.study == study, m.workload == workload, m.precision == precision, m.status == "ok")
            .where(m.name.is_not(None))
            .group_by(m.name)
            .order_by(sa.func.max(m.sequence))
        )
        return self._read(query, lambda record: str(record.name))

    def passed_checks(self, device_fingerprint: str, runtime: str) -> set[str]:
        """Ids of the block checks that a device has passed under a runtime version."""
        query = sa.select(t.checks.c.check_id).where(
            t.checks.c.device_fingerprint == device_fingerprint, t.checks.c.runtime == runtime
        )
        return set(self._read(query, lambda record: str(record.check_id)))

    # -- events ------------------------------------------------------------------------------------------------------

    def add_event(self, study: str, kind: str, data: Mapping[str, Any]) -> None:
        """Append an event (a run began, time was spent) to a study."""
        with self._guard(), self._write() as connection:
            connection.execute(
                sa.insert(t.events).values(study=study, created_unix=time.time(), kind=kind, data=dump(data))
            )

    def events(self, study: str, kind: str | None = None) -> list[tuple[float, str, dict[str, Any]]]:
        """A study's events in order: (time, kind, data)."""
        query = sa.select(t.events).where(t.events.c.study == study).order_by(t.events.c.sequence)
        if kind is not None:
            query = query.where(t.events.c.kind == kind)
        return self._read(query, lambda record: (record.created_unix, record.kind, parse(record.data)))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _prepare(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":  # two processes may find a new database empty at the same time
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATION_LOCK)))
        names = set(sa.inspect(connection).get_table_names())
        if not names:
            t.tables.create_all(connection)
            connection.execute(sa.insert(t.meta).values(name="schema_version", value=str(SCHEMA_VERSION)))
            return
        if not names >= {"meta", "studies", "measurements"}:
            raise StoreError(
                f"{self.where} is a database of something else (it has tables {', '.join(sorted(names)[:3])})",
                hint="another path or URL for --store",
            )
        version = connection.scalar(sa.select(t.meta.c.value).where(t.meta.c.name == "schema_version"))
        if version != str(SCHEMA_VERSION):
            newer = str(version).isdigit() and int(str(version)) > SCHEMA_VERSION
            raise StoreError(
                f"{self.where} has store version {version}; this archsearch reads version {SCHEMA_VERSION}",
                hint="a newer archsearch wrote it: update archsearch"
                if newer
                else "begin a new study, or another --store",
            )
        if t.summaries.name not in names:  # written before there were any; without the right to make it, without them
            try:
                with connection.begin_nested():
                    t.summaries.create(connection)
            except DBAPIError:
                self._keeps_summaries = False

    def _read(self, query: sa.Select[Any], decode: Callable[[Any], T]) -> list[T]:
        with self._guard(), self._engine.connect() as connection:
            return [decode(record) for record in connection.execute(query).all()]

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end, or leaves nothing."""
        with self._engine.connect().execution_options(archsearch_write=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Turn what the database raises into StoreError."""
        try:
            yield
        except DBAPIError as error:
            lines = str(error.orig or error).strip().splitlines() or [type(error).__name__]
            raise StoreError(f"store {self.where}: {lines[0]}", hint=hint_for(lines[0])) from error
        except SQLAlchemyError as error:
            raise StoreError(f"store {self.where}: {str(error).splitlines()[0]}") from error
        except (ValueError, zlib.error) as error:  # of JSON, of text
            raise StoreError(f"store {self.where} holds damaged data: {error}", hint=DAMAGED_HINT) from error


def _put_layout(connection: Connection, layout_id: str, code: str, layout: Mapping[str, Any]) -> None:
    insert_missing(connection, t.layouts, {"layout_id": layout_id, "code": code, "layout": dump(layout)})


def _put_check(connection: Connection, check: Check) -> None:
    values = {name: getattr(check, name) for name in Check.__slots__}
    insert_missing(connection, t.checks, {**values, "created_unix": time.time()})


def _put_summary(connection: Connection, job_id: str, summary: str) -> None:
    insert_missing(connection, t.summaries, {"job_id": job_id, "version": SUMMARY_VERSION, "data": summary})
