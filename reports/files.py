"""Files that are there as a whole, or as they were."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

_LONGEST: Final = 100
"""Characters of a name that are in the one it has while it is written."""


def write_whole(path: Path, text: str) -> None:
    """Write or replace a file in one step, as UTF-8 with line feeds; what a link leads to, with the mode that it has.

    Raises:
        OSError: It cannot be written.
    """
    there = path.resolve()
    beside = there.with_name(f".{os.getpid()}.{there.name[-_LONGEST:]}")
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        with suppress(FileNotFoundError):
            shutil.copymode(there, beside)
        beside.replace(there)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            beside.unlink()
