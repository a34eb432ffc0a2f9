"""A PostgreSQL server of the tests' own, on a socket in a temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

NOBODY = 65534
"""The server refuses to run as root."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    engine: sa.Engine
    folder: Path

    def url(self, database: str) -> str:
        return f"postgresql://tester@/{database}?host={self.folder}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """URL of a new, empty database, which is dropped afterwards."""
        name = f"db{time.monotonic_ns()}"
        with self.engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        yield self.url(name)
        with self.engine.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def running_server() -> Iterator[Server]:
    """Make and start a server; it is stopped, and all of it removed, at the end. Tests that use it need `postgres`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    binaries = found[-1].parent if found else Path(shutil.which("postgres") or "").parent
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # not below pytest's own: the path of a socket must be short
    user = NOBODY if os.getuid() == 0 else None
    if user is not None:
        os.chown(folder, user, user)
    as_user: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    data = folder / "data"
    made = [binaries / "initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync", "-E", "UTF8", "--locale", "C"]
    subprocess.run(made, check=True, **quiet, **as_user)
    options = ["-F", "-c", "listen_addresses=", "-k", folder, "-c", "max_connections=20", "-c", "shared_buffers=16MB"]
    process = subprocess.Popen([binaries / "postgres", "-D", data, *options], **quiet, **as_user)
    try:
        deadline = time.monotonic() + 30
        while not (folder / ".s.PGSQL.5432").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        address = f"postgresql+psycopg://tester@/postgres?host={folder}"
        engine = sa.create_engine(address, isolation_level="AUTOCOMMIT")
        while True:
            try:
                engine.connect().close()
                break
            except sa.exc.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield Server(engine=engine, folder=folder)
        engine.dispose()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        shutil.rmtree(folder)
