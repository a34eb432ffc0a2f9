"""Errors to exit codes, in one place. Expected errors print one or two lines; only a bug prints a traceback."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer

OK = 0
REGRESSION = 1
USAGE = 2
NO_DEVICE = 3
INTERNAL = 4
NOTHING_MEASURED = 5
_LONGEST_LINE = 1000
"""Messages repeat what was typed; nobody wants a megabyte of it back."""

INTERRUPTED = 130
"""After Ctrl-C, as shells expect."""


class CommandError(Exception):
    """A command ends here: a message for stderr and an exit code.

    Attributes:
        code: One of this module's exit codes.
        hint: What to try next, or None.
    """

    def __init__(self, message: str, *, code: int = USAGE, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


def guarded(app: typer.Typer) -> int:
    """Run the command line; turn every outcome into an exit code."""
    import typer

    usage_error: Any = typer.BadParameter.__mro__[2]  # click's ClickException, wherever typer keeps it
    try:
        result = app(standalone_mode=False)
        sys.stdout.flush()  # a reader that has gone is noticed here, and not while the interpreter ends
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED  # what received the signal has said so
    except usage_error as error:
        error.show()
        return int(error.exit_code)
    except CommandError as error:
        return _say(str(error), error.code, error.hint)
    except BrokenPipeError:
        # What is still buffered is written when the interpreter ends: to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:  # noqa: BLE001 - the last place where an error can become an exit code
        code = _expected(error)
        if code is None:
            import traceback

            traceback.print_exc()
            return _say("this is a bug in archsearch; nothing that was measured before is lost", INTERNAL)
        return _say(str(error), code, getattr(error, "hint", None))
    return result if isinstance(result, int) else OK


def _expected(error: Exception) -> int | None:
    """The exit code of an error that users can meet, or None for a bug."""
    from archsearch.errors import ArchsearchError
    from search_space.errors import SearchSpaceError

    if isinstance(error, ArchsearchError | SearchSpaceError):
        return USAGE
    from profiler import errors as profiler_errors
    from reports.errors import ReportError

    if isinstance(error, ReportError):
        return USAGE
    if isinstance(error, profiler_errors.TransportError | profiler_errors.DeviceUnavailable):
        return NO_DEVICE
    if isinstance(error, profiler_errors.AgentDied | profiler_errors.ResultError):
        return NOTHING_MEASURED
    if isinstance(error, profiler_errors.ProfilerError):
        return USAGE
    if isinstance(error, OSError):
        return USAGE
    return None


def _say(message: str, code: int, hint: str | None = None) -> int:
    for line in message.split("\n"):
        print(f"archsearch: {_shown(line)}", file=sys.stderr)
    if hint:
        print(f"  try: {_shown(hint)}", file=sys.stderr)
    return code


def _shown(line: str) -> str:
    """A line that may repeat what a device said, without what a terminal would obey."""
    from reports.formatting import clean

    return clean(line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}...")
