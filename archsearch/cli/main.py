"""Entry point: from here on Ctrl-C is answered in one line, also while the command line is being imported.

The exit code is then 128 and the number of the signal, as shells expect (`exits.INTERRUPTED`).
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

_GRACE_S = 2.0
"""What an interrupted command has for its tidying up."""


def main() -> None:
    """Run the command line and exit with its code."""
    # onnxruntime's releases send events home, and some commands try a graph here; users asked for neither.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # Imports leave nothing to tidy up, and a KeyboardInterrupt inside of one may come out as another error.
    signal.signal(signal.SIGINT, _end)
    from archsearch.cli.app import app
    from archsearch.cli.exits import INTERRUPTED, guarded

    signal.signal(signal.SIGINT, _interrupt)  # commands that save something first put their own handler in its place
    code = guarded(app)
    signal.signal(signal.SIGINT, _end_quietly)  # all is said: no traceback from an interpreter that is ending
    if code == INTERRUPTED:
        # An interpreter that ends takes its time, and then a Ctrl-C by its default action, which is another exit code.
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _interrupt(number: int, _frame: object) -> None:
    """Say it once, and unwind."""
    from threading import Timer

    signal.signal(signal.SIGINT, _end_quietly)
    _say_stopped()
    # Libraries that are imported where they are used may catch the exception with whatever their optional parts raise.
    late = Timer(_GRACE_S, os._exit, (128 + number,))
    late.daemon = True
    late.start()
    raise KeyboardInterrupt


def _end(number: int, _frame: object) -> None:
    _say_stopped()
    os._exit(128 + number)


def _end_quietly(number: int, _frame: object) -> None:
    os._exit(128 + number)


def _say_stopped() -> None:
    os.write(2, b"archsearch: stopped\n")  # the stream objects may be in the middle of a write


if __name__ == "__main__":
    main()
