"""The store's tables, and what the database engines do differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection

BUSY_S = 30
"""How long a transaction waits for another process's."""


class Short(sa.types.TypeDecorator[str]):
    """Names, ids and states. Text is stored without what a database refuses: NUL and half surrogates."""

    impl = sa.String(255)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        """Replace what cannot be stored."""
        return None if value is None else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


class Long(Short):
    """Text of any length, such as JSON and reasons from devices."""

    impl = sa.Text()
    cache_ok = True


tables = sa.MetaData()
meta = sa.Table("meta", tables, sa.Column("name", Short(), primary_key=True), sa.Column("value", Long()))
studies = sa.Table(
    "studies", tables,
    sa.Column("name", Short(), primary_key=True),
    sa.Column("created_unix", sa.Float, nullable=False),
    sa.Column("config", Long(), nullable=False),
)  # fmt: skip
layouts = sa.Table(
    "layouts", tables,
    sa.Column("layout_id", Short(), primary_key=True),
    sa.Column("code", Long(), nullable=False),
    sa.Column("layout", Long(), nullable=False),
)  # fmt: skip
trials = sa.Table(
    "trials", tables,
    sa.Column("study", Short(), sa.ForeignKey("studies.name"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("layout_id", Short(), sa.ForeignKey("layouts.layout_id"), nullable=False),
    sa.Column("state", Short(), nullable=False),
    sa.Column("choices", Long(), nullable=False),
    sa.Column("created_unix", sa.Float, nullable=False),
)  # fmt: skip
measurements = sa.Table(
    "measurements", tables,
    sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("job_id", Short(), unique=True, nullable=False),
    sa.Column("study", Short(), sa.ForeignKey("studies.name"), nullable=False, index=True),
    sa.Column("trial", sa.Integer),
    sa.Column("role", Short(), nullable=False),
    sa.Column("layout_id", Short(), sa.ForeignKey("layouts.layout_id")),
    sa.Column("name", Long()),
    sa.Column("label", Long(), nullable=False),
    sa.Column("device", Long(), nullable=False),
    sa.Column("device_fingerprint", Short(), nullable=False),
    sa.Column("workload", Long(), nullable=False),
    sa.Column("precision", Short(), nullable=False),
    sa.Column("key_hash", Short(), nullable=False, index=True),
    sa.Column("key", Long(), nullable=False),
    sa.Column("method", Short(), nullable=False),
    sa.Column("status", Short(), nullable=False),
    sa.Column("reason", Long(), nullable=False),
    sa.Column("created_unix", sa.Float, nullable=False),
    sa.Column("bytes_sent", sa.BigInteger, nullable=False),
    sa.Column("info", Long(), nullable=False),
    sa.Column("result", sa.LargeBinary),
)  # fmt: skip
summaries = sa.Table(  # of results, by `profiler.summary` in its version of then; made anew where one is missing
    "summaries", tables,
    sa.Column("job_id", Short(), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("data", Long(), nullable=False),
)  # fmt: skip
claims = sa.Table(
    "claims", tables,
    sa.Column("key_hash", Short(), primary_key=True),
    sa.Column("job_id", Short(), nullable=False),
    sa.Column("owner", Long(), nullable=False),
    sa.Column("heartbeat_unix", sa.Float, nullable=False),
)  # fmt: skip
checks = sa.Table(
    "verified_checks", tables,
    sa.Column("check_id", Short(), primary_key=True),
    sa.Column("device_fingerprint", Short(), primary_key=True),
    sa.Column("runtime", Short(), primary_key=True),
    sa.Column("rel_rms", sa.Float),
    sa.Column("created_unix", sa.Float, nullable=False),
)  # fmt: skip
events = sa.Table(
    "events", tables,
    sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("study", Short(), nullable=False, index=True),
    sa.Column("created_unix", sa.Float, nullable=False),
    sa.Column("kind", Short(), nullable=False),
    sa.Column("data", Long(), nullable=False),
)  # fmt: skip


def prepare_sqlite(connection: Any, _record: object) -> None:
    """Set up a new SQLite connection."""
    connection.isolation_level = None  # transactions are begun below, as SQLAlchemy advises for SQLite
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_S * 1000}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def begin_sqlite(connection: Connection) -> None:
    """Begin a transaction on SQLite."""
    # A transaction that reads and then writes must hold the write lock from its start, or it may find the base changed.
    write = connection.get_execution_options().get("archsearch_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def insert_missing(connection: Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless one with its key is there; whether it was inserted."""
    keys = [table.c.job_id] if table is measurements else list(table.primary_key)
    if connection.dialect.name == "sqlite":
        return connection.execute(sqlite_insert(table).values(**values).on_conflict_do_nothing()).rowcount == 1
    if connection.dialect.name == "postgresql":
        insert = postgresql_insert(table).values(**values).on_conflict_do_nothing().returning(keys[0])
        return connection.execute(insert).first() is not None
    if connection.scalar(sa.select(sa.literal(1)).where(*(key == values[key.name] for key in keys))) is not None:
        return False
    connection.execute(sa.insert(table).values(**values))
    return True
