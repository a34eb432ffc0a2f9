"""The store: studies, layouts, trials and measurements in one SQL database.

SQLite by default (write-ahead log, so that readers and a writer do not wait for each other; every commit synced, so that a
power cut loses nothing that was said to be saved), any SQLAlchemy URL otherwise. Measurements are appended, never changed.
What belongs together is written in one transaction: a process killed at any instant leaves a readable store.
Times are Unix seconds. A `Store` may be used from several threads.
"""

from __future__ import annotations

import json
import os
import socket
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from archsearch.errors import StoreError

SCHEMA_VERSION = 1
STALE_S = 120.0
"""A claim whose owner has given no sign for so long may be taken over."""

_tables = sa.MetaData()
_meta = sa.Table("meta", _tables, sa.Column("name", sa.String(64), primary_key=True), sa.Column("value", sa.Text))
_studies = sa.Table(
    "studies", _tables,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("created_unix", sa.Float, nullable=False),
    sa.Column("config", sa.Text, nullable=False),
)  # fmt: skip
_layouts = sa.Table(
    "layouts", _tables,
    sa.Column("layout_id", sa.String(64), primary_key=True),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("layout", sa.Text, nullable=False),
)  # fmt: skip
_trials = sa.Table(
    "trials", _tables,
    sa.Column("study", sa.String(200), sa.ForeignKey("studies.name"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("layout_id", sa.String(64), sa.ForeignKey("layouts.layout_id"), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("choices", sa.Text, nullable=False),
    sa.Column("created_unix", sa.Float, nullable=False),
)  # fmt: skip
_measurements = sa.Table(
    "measurements", _tables,
    sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.String(128), unique=True, nullable=False),
    sa.Column("study", sa.String(200), sa.ForeignKey("studies.name"), nullable=False, index=True),
    sa.Column("trial", sa.Integer),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("layout_id", sa.String(64), sa.ForeignKey("layouts.layout_id")),
    sa.Column("name", sa.Text),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("device_fingerprint", sa.String(64), nullable=False),
    sa.Column("workload", sa.Text, nullable=False),
    sa.Column("precision", sa.String(32), nullable=False),
    sa.Column("key_hash", sa.String(64), nullable=False, index=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("method", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_unix", sa.Float, nullable=False),
    sa.Column("bytes_sent", sa.BigInteger, nullable=False),
    sa.Column("info", sa.Text, nullable=False),
    sa.Column("result", sa.LargeBinary),
)  # fmt: skip
_claims = sa.Table(
    "claims", _tables,
    sa.Column("key_hash", sa.String(64), primary_key=True),
    sa.Column("job_id", sa.String(128), nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("heartbeat_unix", sa.Float, nullable=False),
)  # fmt: skip
_checks = sa.Table(
    "verified_checks", _tables,
    sa.Column("check_id", sa.String(64), primary_key=True),
    sa.Column("device_fingerprint", sa.String(64), primary_key=True),
    sa.Column("runtime", sa.String(64), primary_key=True),
    sa.Column("rel_rms", sa.Float),
    sa.Column("created_unix", sa.Float, nullable=False),
)  # fmt: skip
_events = sa.Table(
    "events", _tables,
    sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("study", sa.String(200), nullable=False, index=True),
    sa.Column("created_unix", sa.Float, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("data", sa.Text, nullable=False),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """A study's name and settings."""

    name: str
    created_unix: float
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One candidate of a study.

    Attributes:
        state: ``open`` until its outcome is final, then ``done`` or ``failed``.
        choices: What the sampler chose, and its own notes.
    """

    study: str
    number: int
    layout_id: str
    state: str
    choices: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementRecord:
    """One measurement as stored; `result` is the agent's raw JSON, or None when nothing ran."""

    job_id: str
    study: str
    role: str
    label: str
    device: str
    device_fingerprint: str
    workload: str
    precision: str
    key_hash: str
    key: Mapping[str, Any]
    method: str
    status: str
    reason: str = ""
    trial: int | None = None
    layout_id: str | None = None
    name: str | None = None
    bytes_sent: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)
    result: bytes | None = None
    created_unix: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who measures a key now.

    Attributes:
        job_id: Id of the job on the device.
        mine: Whether this process holds it. When it took it over from a dead owner, `job_id` is that owner's job.
        owner: ``host:pid:start``.
    """

    key_hash: str
    job_id: str
    mine: bool
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A block check that a device passed."""

    check_id: str
    device_fingerprint: str
    runtime: str
    rel_rms: float | None


class Store:
    """An open database; use `Store.open`."""

    def __init__(self, engine: Engine, where: str) -> None:
        self._engine = engine
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
        url = _url(where)
        shown = url.render_as_string(hide_password=True)
        sqlite = url.get_backend_name() == "sqlite"
        if sqlite and url.database and url.database != ":memory:":
            shown = url.database
            path = Path(url.database)
            if not create and not path.exists():
                raise StoreError(f"there is no store at {path}")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"{path.parent} cannot be made: {error.strerror}") from error
        try:
            engine = sa.create_engine(url, connect_args={"timeout": 30} if sqlite else {})
        except (NoSuchModuleError, ImportError) as error:
            raise StoreError(
                f"no driver for {shown}: {error}", hint="pip install 'archsearch[postgresql]' for PostgreSQL"
            ) from error
        if sqlite:
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "begin", _begin_immediate)
        store = cls(engine, shown)
        with store._guard(), engine.begin() as connection:
            store._prepare(connection)
        return store

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    # -- studies and layouts -----------------------------------------------------------------------------------------

    def create_study(self, name: str, config: Mapping[str, Any]) -> StudyRecord:
        """Make a study; an existing one of this name is returned as it is."""
        record = {"name": name, "created_unix": time.time(), "config": _dump(config)}
        with self._guard():
            try:
                with self._engine.begin() as connection:
                    connection.execute(sa.insert(_studies).values(**record))
            except IntegrityError:
                pass  # somebody else made it first
        found = self.study(name)
        assert found is not None
        return found

    def study(self, name: str) -> StudyRecord | None:
        """The study of this name."""
        for record in self._read(sa.select(_studies).where(_studies.c.name == name)):
            return StudyRecord(name=record.name, created_unix=record.created_unix, config=json.loads(record.config))
        return None

    def studies(self) -> list[StudyRecord]:
        """All studies, oldest first."""
        found = self._read(sa.select(_studies).order_by(_studies.c.created_unix))
        return [StudyRecord(name=r.name, created_unix=r.created_unix, config=json.loads(r.config)) for r in found]

    def put_layout(self, layout_id: str, code: str, layout: Mapping[str, Any]) -> None:
        """Keep a layout; one that is known stays as it is."""
        with self._guard(), self._engine.begin() as connection:
            _put_layout(connection, layout_id, code, layout)

    def layouts(self, prefix: str = "") -> dict[str, Mapping[str, Any]]:
        """Layouts in canonical form by id, of ids that begin with `prefix`."""
        query = sa.select(_layouts.c.layout_id, _layouts.c.layout)
        if prefix:
            query = query.where(_layouts.c.layout_id.startswith(prefix, autoescape=True))
        return {record.layout_id: json.loads(record.layout) for record in self._read(query)}

    # -- trials ------------------------------------------------------------------------------------------------------

    def add_trial(
        self, study: str, layout_id: str, code: str, layout: Mapping[str, Any], choices: Mapping[str, Any]
    ) -> int:
        """Open a trial under the next free number and return that number."""
        while True:
            with self._guard():
                try:
                    with self._engine.begin() as connection:
                        _put_layout(connection, layout_id, code, layout)
                        last = connection.scalar(sa.select(sa.func.max(_trials.c.number)).where(_trials.c.study == study))
                        number = 0 if last is None else int(last) + 1
                        connection.execute(
                            sa.insert(_trials).values(
                                study=study, number=number, layout_id=layout_id, state="open",
                                choices=_dump(choices), created_unix=time.time(),
                            )
                        )  # fmt: skip
                        return number
                except IntegrityError:
                    time.sleep(0.01)  # another process took the number

    def set_trial(self, study: str, number: int, state: str) -> None:
        """Set a trial's state."""
        with self._guard(), self._engine.begin() as connection:
            connection.execute(
                sa.update(_trials).where(_trials.c.study == study, _trials.c.number == number).values(state=state)
            )

    def trials(self, study: str) -> list[TrialRecord]:
        """A study's trials in order."""
        found = self._read(sa.select(_trials).where(_trials.c.study == study).order_by(_trials.c.number))
        return [
            TrialRecord(study=r.study, number=r.number, layout_id=r.layout_id, state=r.state, choices=json.loads(r.choices))
            for r in found
        ]

    # -- measurements ------------------------------------------------------------------------------------------------

    def claim(self, key_hash: str, job_id: str) -> Claim:
        """Claim a key for measuring under `job_id`.

        Returns:
            The claim that holds now: ours, somebody else's, or one taken over from an owner that is dead or has given no
            sign for `STALE_S`; the job id is then that owner's.
        """
        me = owner_id()
        values = {"key_hash": key_hash, "job_id": job_id, "owner": me, "heartbeat_unix": time.time()}
        with self._guard():
            try:
                with self._engine.begin() as connection:
                    connection.execute(sa.insert(_claims).values(**values))
                    return Claim(key_hash=key_hash, job_id=job_id, mine=True, owner=me)
            except IntegrityError:
                pass
            with self._engine.begin() as connection:
                held = connection.execute(sa.select(_claims).where(_claims.c.key_hash == key_hash)).first()
                if held is None:  # released in between
                    connection.execute(sa.insert(_claims).values(**values))
                    return Claim(key_hash=key_hash, job_id=job_id, mine=True, owner=me)
                if held.owner == me or not _dead(held.owner, held.heartbeat_unix):
                    return Claim(key_hash=key_hash, job_id=held.job_id, mine=held.owner == me, owner=held.owner)
                taken = connection.execute(
                    sa.update(_claims)
                    .where(_claims.c.key_hash == key_hash, _claims.c.owner == held.owner)
                    .values(owner=me, heartbeat_unix=time.time())
                )
                return Claim(key_hash=key_hash, job_id=held.job_id, mine=taken.rowcount == 1, owner=me)

    def rename_claim(self, key_hash: str, job_id: str) -> None:
        """Put a claim of ours on another job (the one taken over was gone)."""
        self._update_claim(key_hash, job_id=job_id, heartbeat_unix=time.time())

    def beat(self, key_hash: str) -> None:
        """Give a sign that a claim's owner lives."""
        self._update_claim(key_hash, heartbeat_unix=time.time())

    def _update_claim(self, key_hash: str, **values: Any) -> None:
        mine = sa.and_(_claims.c.key_hash == key_hash, _claims.c.owner == owner_id())
        with self._guard(), self._engine.begin() as connection:
            connection.execute(sa.update(_claims).where(mine).values(**values))

    def release(self, key_hash: str) -> None:
        """End a claim of ours without a measurement."""
        with self._guard(), self._engine.begin() as connection:
            connection.execute(sa.delete(_claims).where(_claims.c.key_hash == key_hash, _claims.c.owner == owner_id()))

    def add_measurement(
        self, record: MeasurementRecord, *, layout: Mapping[str, Any] | None = None, code: str = "",
        checks: Sequence[Check] = (), claim_hash: str | None = None,
    ) -> bool:  # fmt: skip
        """Store a measurement, end its claim (`claim_hash`, by default its key) and remember passed checks, all or nothing.

        Returns:
            False when a measurement of this job is stored already; nothing is changed then but the claim.
        """
        values = {name: getattr(record, name) for name in MeasurementRecord.__slots__}
        values.update(
            key=_dump(record.key), info=_dump(record.info), created_unix=record.created_unix or time.time(),
            result=None if record.result is None else zlib.compress(record.result, 6),
        )  # fmt: skip
        with self._guard():
            try:
                with self._engine.begin() as connection:
                    if layout is not None and record.layout_id is not None:
                        _put_layout(connection, record.layout_id, code, layout)
                    connection.execute(sa.insert(_measurements).values(**values))
                    connection.execute(sa.delete(_claims).where(_claims.c.key_hash == (claim_hash or record.key_hash)))
                    for check in checks:
                        _put_check(connection, check)
            except IntegrityError:
                known = list(self._read(sa.select(_measurements.c.job_id).where(_measurements.c.job_id == record.job_id)))
                if not known:
                    raise
                self.release(claim_hash or record.key_hash)
                return False
        return True

    def find_measurement(self, key_hash: str, *, statuses: Sequence[str]) -> MeasurementRecord | None:
        """The latest measurement under a key with one of these statuses."""
        query = (
            sa.select(_measurements)
            .where(_measurements.c.key_hash == key_hash, _measurements.c.status.in_(statuses))
            .order_by(_measurements.c.sequence.desc())
            .limit(1)
        )
        return next(map(_measurement, self._read(query)), None)

    def measurements(self, study: str | None = None, *, also: Sequence[str] = ()) -> list[MeasurementRecord]:
        """Measurements in the order they were stored, of one study (and of further job ids) or of all."""
        query = sa.select(_measurements).order_by(_measurements.c.sequence)
        if study is not None:
            query = query.where(sa.or_(_measurements.c.study == study, _measurements.c.job_id.in_(also)))
        return [_measurement(record) for record in self._read(query)]

    def passed_checks(self, device_fingerprint: str, runtime: str) -> set[str]:
        """Ids of the block checks that a device has passed under a runtime version."""
        query = sa.select(_checks.c.check_id).where(
            _checks.c.device_fingerprint == device_fingerprint, _checks.c.runtime == runtime
        )
        return {record.check_id for record in self._read(query)}

    # -- events ------------------------------------------------------------------------------------------------------

    def add_event(self, study: str, kind: str, data: Mapping[str, Any]) -> None:
        """Append an event (a run began, time was spent) to a study."""
        with self._guard(), self._engine.begin() as connection:
            connection.execute(
                sa.insert(_events).values(study=study, created_unix=time.time(), kind=kind, data=_dump(data))
            )

    def events(self, study: str, kind: str | None = None) -> list[tuple[float, str, dict[str, Any]]]:
        """A study's events in order: (time, kind, data)."""
        query = sa.select(_events).where(_events.c.study == study).order_by(_events.c.sequence)
        if kind is not None:
            query = query.where(_events.c.kind == kind)
        return [(record.created_unix, record.kind, json.loads(record.data)) for record in self._read(query)]

    # -- inside ------------------------------------------------------------------------------------------------------

    def _prepare(self, connection: Connection) -> None:
        names = set(sa.inspect(connection).get_table_names())
        if names and "meta" not in names:
            raise StoreError(
                f"{self.where} is a database of something else (it has tables {', '.join(sorted(names)[:3])})",
                hint="another path or URL for --store",
            )
        if not names:
            _tables.create_all(connection)
            connection.execute(sa.insert(_meta).values(name="schema_version", value=str(SCHEMA_VERSION)))
            return
        version = connection.scalar(sa.select(_meta.c.value).where(_meta.c.name == "schema_version"))
        if version != str(SCHEMA_VERSION):
            raise StoreError(
                f"{self.where} has store version {version}; this archsearch reads version {SCHEMA_VERSION}",
                hint="the archsearch that wrote it, or a new study",
            )

    def _read(self, query: sa.Select[Any]) -> Iterator[Any]:
        with self._guard(), self._engine.connect() as connection:
            yield from connection.execute(query).all()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Database errors as StoreError; IntegrityError passes through to callers that expect it."""
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            text = str(error.orig).strip().splitlines()[0] if error.orig is not None else str(error)
            raise StoreError(f"store {self.where}: {text}", hint=_hint(text)) from error
        except SQLAlchemyError as error:
            raise StoreError(f"store {self.where}: {str(error).splitlines()[0]}") from error
        except (json.JSONDecodeError, zlib.error) as error:
            raise StoreError(f"store {self.where} holds damaged data: {error}") from error


def owner_id() -> str:
    """This process: host, process id, and when the process started (ids are used again)."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def _started(pid: int) -> str:
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""


def _dead(owner: str, heartbeat_unix: float) -> bool:
    host, pid, started = owner.rsplit(":", 2)
    if host == socket.gethostname():
        return _started(int(pid)) != started
    return time.time() - heartbeat_unix > STALE_S


def _url(where: str | Path) -> URL:
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise StoreError(
            "--store is no database URL", hint="sqlite:///path/to/file.db or postgresql+psycopg://user@host/name"
        ) from error
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, as SQLAlchemy advises for SQLite
    cursor = connection.cursor()
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    # A transaction that reads and then writes must hold the write lock from its start, or it may find the base changed.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _hint(text: str) -> str | None:
    lowered = text.lower()
    for sign, hint in (
        ("full", "make room on the disk; what was stored before is intact"),
        ("not a database", "another path for --store; this file is not an SQLite database"),
        ("malformed", "restore the file from a copy; `sqlite3 FILE .recover` may save most of it"),
        ("readonly", "a folder that you may write to, with --store or --runs"),
        ("unable to open", "a folder that exists and that you may write to"),
        ("locked", "wait until the other process is done"),
        ("connection", "check that the database server runs and the URL is right"),
    ):
        if sign in lowered:
            return hint
    return None


def _put_layout(connection: Connection, layout_id: str, code: str, layout: Mapping[str, Any]) -> None:
    known = connection.scalar(sa.select(_layouts.c.layout_id).where(_layouts.c.layout_id == layout_id))
    if known is None:
        connection.execute(sa.insert(_layouts).values(layout_id=layout_id, code=code, layout=_dump(layout)))


def _put_check(connection: Connection, check: Check) -> None:
    where = (
        (_checks.c.check_id == check.check_id)
        & (_checks.c.device_fingerprint == check.device_fingerprint)
        & (_checks.c.runtime == check.runtime)
    )
    if connection.scalar(sa.select(_checks.c.check_id).where(where)) is None:
        connection.execute(
            sa.insert(_checks).values(
                check_id=check.check_id, device_fingerprint=check.device_fingerprint, runtime=check.runtime,
                rel_rms=check.rel_rms, created_unix=time.time(),
            )
        )  # fmt: skip


def _measurement(record: Any) -> MeasurementRecord:
    values = {name: getattr(record, name) for name in MeasurementRecord.__slots__}
    values["key"], values["info"] = json.loads(record.key), json.loads(record.info)
    values["result"] = None if record.result is None else zlib.decompress(record.result)
    return MeasurementRecord(**values)


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)
