"""What in a work folder is ours, by name: nothing else is ever removed, counted or written over.

A work folder may be shared: by default it is `~/.cache/archsearch`, and nobody keeps a user from naming one with files
of their own. So a general name (`jobs`, `weights`) says nothing; a name that only this project makes does.
"""

from __future__ import annotations

import re
from typing import Final

AGENT: Final = re.compile(r"agent-[0-9a-f]{12}\.pyz")
PARTIAL: Final = re.compile(r"\.[0-9a-f]{16}\.[0-9a-z]+\.part")
"""A file on its way: hash of its name, and who sends it."""
JOB: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,39}-[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")
"""As `profiler.jobs.new_job_id` makes them."""
WEIGHTS: Final = re.compile(r"[0-9a-f]{64}")
"""Recipe ids; unfinished weights have the same name."""
MADE: Final = re.compile(r"(?:venv-[0-9a-f]{12}|bundle-[0-9a-f]{12}|scratch)-([0-9a-f]{8})")
"""What set-up makes; the group is its token."""
SCRIPT: Final = "python.sh"
RUNTIME: Final = re.compile(r"onnxruntime-[0-9a-z][0-9a-z.!+-]{0,79}-[0-9a-f]{8}\.sh")
"""Starts a Python that was made to compare runtimes; the folders beside it are as set-up makes them."""
LEASE, CLOCKS = "lease", "clocks"
FOLDERS: Final = {"jobs": JOB, "python": MADE, "runtimes": MADE, "weights": WEIGHTS}
"""Folders whose names are general, and which of the names in them are ours. The folders go once they are empty."""

_SCRIPT_TEXT = re.compile(rb'[^"\n]*exec (?:sh )?"\$\{0%/\*\}/([^/"\n]+)/[^"\n]+" "\$@"\n')


def is_record(content: bytes) -> bool:
    """Whether a file called `lease` or `clocks` is ours: a JSON object, empty, or zeros after a power failure."""
    content = content.strip(b"\0")
    return not content or content.startswith(b"{")


def is_script(content: bytes) -> bool:
    """Whether a `python.sh` is what set-up writes: it starts a Python in one of the folders that set-up makes."""
    return started_by(content) is not None


def started_by(content: bytes) -> str | None:
    """The folder, beside it, of the Python that a script of set-up starts; None for any other script."""
    found = _SCRIPT_TEXT.fullmatch(content)
    name = "" if found is None else found[1].decode(errors="replace")
    return name if MADE.fullmatch(name) else None
