"""The command line of the agent: `run JOBDIR`, `info`, `check WORKDIR`; and `worker`, which only the supervisor calls.

What a command needs is imported when it runs: every millisecond of a worker's start counts.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from .protocol import METHOD, finite

_USAGE = "usage: agent.pyz run JOBDIR | agent.pyz info | agent.pyz check WORKDIR"


def main(arguments: list[str]) -> int:
    """Carry out one command; the exit status."""
    # From 1.29 on, onnxruntime's official builds report what they load to their maker: one more thread, 2 MiB of
    # memory, and files in the account's ~/.cache. It must be said before the library is loaded.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    if len(arguments) == 2 and arguments[0] == "run":
        from .supervisor import Supervisor

        folder = Path(arguments[1]).absolute()
        if not folder.is_dir():
            sys.stderr.write(f"{folder} is no folder\n")
            return 2
        return Supervisor(folder).run()
    if len(arguments) == 2 and arguments[0] == "worker":
        from . import worker

        worker.main(int(arguments[1]))
    if len(arguments) == 2 and arguments[0] == "check":
        from .checkup import checkup

        record = {**info(), **checkup(Path(arguments[1]).absolute())}
        sys.stdout.write(json.dumps(finite(record), allow_nan=False) + "\n")
        return 0
    if arguments == ["info"]:
        sys.stdout.write(json.dumps(finite(info()), allow_nan=False) + "\n")
        return 0
    sys.stderr.write(_USAGE + "\n")
    return 2


def info() -> dict[str, object]:
    """The environment with the versions of what the agent needs; None for what is missing, with the reason."""
    from .conditions import environment

    versions: dict[str, str | None] = {}
    problems = []
    providers: list[str] = []
    for name in ("numpy", "onnxruntime"):
        try:
            module = __import__(name)
            versions[name] = str(module.__version__)
            if name == "onnxruntime":
                providers = list(module.get_available_providers())
        except Exception as error:  # noqa: BLE001 - a broken native library may raise anything
            versions[name] = None
            problems.append(f"{name}: {type(error).__name__}: {error}"[:300])
    return {**environment(versions), "method": METHOD, "providers": providers, "problems": problems}
