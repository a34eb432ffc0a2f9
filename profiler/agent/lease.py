"""One measurement at a time on a device: a lock file held by the running agent and released by its death."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from .folder import is_record
from .platforms import HERE
from .protocol import Json

_BINARY = getattr(os, "O_BINARY", 0)
"""Windows would write line ends of its own."""
_LONGEST = 4096


class Lease:
    """A lock on `WORK/lease`. The descriptor is not inherited, so that only this process's life counts.

    Somebody else's file of that name serves as a lock too, and nothing is written into it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._ours = True

    def try_acquire(self, label: str) -> bool:
        """Take the lock if it is free, and write who holds it into the file."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | _BINARY, 0o666)
        try:
            HERE.lock(descriptor)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        with contextlib.suppress(OSError):  # a full disk must not keep the lock from being taken
            os.lseek(descriptor, 0, os.SEEK_SET)
            self._ours = is_record(os.read(descriptor, _LONGEST))
            if not self._ours:
                return True
            os.ftruncate(descriptor, 0)
            text = json.dumps({"pid": os.getpid(), "label": label[:200], "since_unix": time.time()})
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, text.encode())
        return True

    def look(self) -> Json | None:
        """What the holder wrote into the file; None while nobody holds the lock. Nothing is created or taken."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | _BINARY)
        except OSError:
            return None
        try:
            HERE.lock(descriptor, shared=True)  # let go at once: who waits for it asks again
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                os.lseek(descriptor, 0, os.SEEK_SET)
                record = json.loads(os.read(descriptor, _LONGEST))
                return record if isinstance(record, dict) else {}
            return {}
        finally:
            os.close(descriptor)
        return None

    @property
    def held(self) -> bool:
        """Whether it is ours."""
        return self._descriptor is not None

    def holder(self) -> str:
        """Who holds the lock, in words."""
        try:
            record = json.loads(self._path.read_text(encoding="utf-8"))
            seconds = max(0, int(time.time() - float(record["since_unix"])))
            return f"held by process {int(record['pid'])} ({record['label']}) for {seconds} s"
        except (OSError, ValueError, KeyError, TypeError):
            return "held by another process"

    def release(self) -> None:
        """Give the lock back; may be repeated."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                if self._ours:
                    os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
