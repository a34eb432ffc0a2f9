"""`archsearch dashboard`: studies in a browser on this machine."""

from __future__ import annotations

import logging
import socket
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from archsearch.cli.exits import CommandError
from archsearch.cli.output import console
from archsearch.cli.run import place_options
from archsearch.cli.studies import ADHOC_STUDY, DATABASE, RESERVED, by_last_write, existing, latest, open_store
from archsearch.errors import StoreError
from archsearch.store import Store

if TYPE_CHECKING:
    from reports.dashboard import Source

HOST = "127.0.0.1"
PORT = 8050
_TRIED = 20
"""Ports from the usual one on that are tried before giving up."""
_THREADS = 6


class Library:
    """The studies of a folder or a store; see `reports.dashboard.Library`."""

    def __init__(self, *, store: str | None, runs: Path) -> None:
        self._store = store
        self._runs = runs
        self._lock = Lock()
        self._open: dict[str, Source] = {}

    def names(self) -> Sequence[str]:
        """Names of studies that can be ranked, the one written to last first."""
        return by_last_write(store=self._store, runs=self._runs)

    def open(self, name: str) -> Source:
        """One of them, the same each time.

        Raises:
            CommandError: There is none of that name.
            StoreError: It cannot be read.
        """
        with self._lock:
            if name not in self._open:
                self._open[name] = self._opened(name)
            return self._open[name]

    def _opened(self, name: str) -> Source:
        from archsearch.looking import StudySource

        database = existing(name, store=self._store, runs=self._runs)
        beside: Store | None = None
        if self._store is not None or (self._runs / ADHOC_STUDY / DATABASE).exists():
            try:
                beside = open_store(ADHOC_STUDY, store=self._store, runs=self._runs, create=False)
            except StoreError:
                beside = None  # the study itself can be read all the same
        return StudySource(database, name, beside=beside, options=place_options(self._store, self._runs))


def dashboard_command(
    study: str | None, *, port: int | None, browser: bool | None, store: str | None, runs: Path
) -> None:  # fmt: skip
    """Serve until Ctrl-C."""
    name = latest(store=store, runs=runs) if study is None else study
    if name in RESERVED:
        raise CommandError(f"{name!r} holds {RESERVED[name]}, which is not ranked", hint=f"archsearch show {name}")
    library = Library(store=store, runs=runs)
    existing(name, store=store, runs=runs).close()
    ahead = Thread(target=_read_ahead, args=(library, name), daemon=True)
    ahead.start()  # while the rest is imported and a browser starts
    listening = _listen(port)
    address = f"http://{HOST}:{listening.getsockname()[1]}/?{urlencode({'study': name})}"

    from waitress.server import create_server

    from reports.dashboard import create_app

    logging.getLogger("waitress").setLevel(logging.ERROR)  # a request that waits its turn is no news
    app = create_app(library)
    server = create_server(
        app.server, sockets=[listening], threads=_THREADS, ident="archsearch", clear_untrusted_proxy_headers=True
    )
    console().print(f"{address}    Ctrl-C ends it")
    if browser if browser is not None else sys.stdout.isatty():
        webbrowser.open(address)
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()


def _read_ahead(library: Library, name: str) -> None:
    with suppress(Exception):  # which the page shows when it asks
        library.open(name).snapshot()


def _listen(port: int | None) -> socket.socket:
    """A socket on the loopback address: the port asked for, or the first free one from the usual on.

    Raises:
        CommandError: The port is taken, or cannot be had.
    """
    for candidate in range(PORT, PORT + _TRIED) if port is None else [port]:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, candidate))
        except OSError as error:
            listening.close()
            if port is not None:
                raise CommandError(
                    f"port {port} of {HOST} cannot be had: {error.strerror}", hint="another --port, or 0 for a free one"
                ) from error
            continue
        return listening
    raise CommandError(f"ports {PORT} to {PORT + _TRIED - 1} of {HOST} are taken", hint="--port 0 takes a free one")
