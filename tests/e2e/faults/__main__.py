"""The command line of the campaign."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random

from tests.e2e.faults.campaign import Deck, RunRecord, play_run
from tests.e2e.faults.kinds import KINDS
from tests.e2e.faults.report import markdown
from tests.phone import Phone
from tests.phone_root import CACHE

PHONE_DISK_MIB = 400
"""Of the phone's disk: its Python takes 150."""


def main() -> int:
    """Run a campaign; 1 when something did not hold."""
    asked = _arguments()
    if asked.merge:
        runs = [run for file in asked.merge for run in json.loads(file.read_text(encoding="utf-8"))["runs"]]
        asked.out.write_text(markdown(runs, logs=False), encoding="utf-8")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing stays mounted or running
    # Shells start what is in the background with Ctrl-C ignored, and so would be the drivers until they ask for it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["ARCHSEARCH_TEST_CACHE"] = str(CACHE)
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    base = Path(tempfile.mkdtemp(prefix="faults-"))
    for name, folder in (("XDG_CACHE_HOME", "cache"), ("XDG_CONFIG_HOME", "config")):
        os.environ[name] = str(base / folder)
        (base / folder).mkdir()
    began = time.monotonic()
    played: list[RunRecord] = []
    devices = asked.devices.split(",")
    rng = Random(f"campaign {asked.seed}")
    deck = Deck(rng, named=asked.kinds.split(",") if asked.kinds else ())
    injected = number = 0

    def left() -> str:
        used = time.monotonic() - began
        ways = [asked.minutes * 60 - used]
        if injected:
            ways.append(used / injected * (asked.faults - injected))
        return f"{max(0.0, min(ways)) / 60:.0f} min left"

    def say(text: str) -> None:
        nonlocal injected
        injected += 1
        print(f"[{left()}] run {number}, fault {injected} of {asked.faults}: {text}", flush=True)

    with ExitStack() as stack:
        phone = _phone(base, stack) if "adb" in devices else None
        while injected < asked.faults and time.monotonic() - began < asked.minutes * 60:
            number += 1
            faults = min(rng.randint(asked.per_run - 2, asked.per_run + 2), asked.faults - injected)
            folder = base / f"run-{number}"
            run = play_run(
                number, folder, Random(f"{asked.seed} {number}"), deck, devices=devices, faults=faults,
                phone=phone, pause_s=asked.pause, say=say,
            )  # fmt: skip
            played.append(run)
            print(f"[{left()}] run {number}: {run.seconds:.0f} s, {len(run.violations)} violations", flush=True)
            for violation in run.violations:
                print(f"    {violation}", flush=True)
            write(asked, played, time.monotonic() - began)
            if not run.violations:
                shutil.rmtree(folder, ignore_errors=True)
    if not any(run.violations for run in played):
        shutil.rmtree(base, ignore_errors=True)
    return int(any(run.violations for run in played))


def _phone(base: Path, stack: ExitStack) -> Phone:
    from tests.phone_python import give_python

    phone = Phone(base / "phone", data_mib=PHONE_DISK_MIB)
    phone.start()
    stack.callback(phone.stop)
    give_python(phone)
    return phone


def write(asked: argparse.Namespace, runs: list[RunRecord], seconds: float) -> None:
    """The JSON beside the table, each whole or not at all."""
    out: Path = asked.out
    chosen = {"devices": asked.devices, "faults": asked.faults, "seed": asked.seed}
    text = {"asked": chosen, "seconds": seconds, "runs": [run.to_json() for run in runs]}
    for file, content in (
        (out.with_suffix(".json"), json.dumps(text, indent=1)),
        (out.with_suffix(".md"), markdown([run.to_json() for run in runs])),
    ):
        part = file.with_suffix(".part")
        part.write_text(content, encoding="utf-8")
        part.replace(file)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=20, help="how many in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("faults.md"), help="FILE.md; FILE.json is written beside it")
    parser.add_argument("--devices", default="local,ssh", help="of local, ssh, adb; with commas")
    parser.add_argument("--kinds", help="parts of their names, with commas: only such faults")
    parser.add_argument("--minutes", type=float, default=60, help="no run is begun after so long")
    parser.add_argument("--per-run", type=int, default=8, help="faults in one run, about")
    parser.add_argument("--pause", type=float, default=3.0, help="mean seconds between two faults")
    parser.add_argument("--merge", type=Path, nargs="+", help="run nothing: the table of what these FILE.json hold")
    asked = parser.parse_args()
    if not set(asked.devices.split(",")) <= {"local", "ssh", "adb"}:
        parser.error("--devices knows local, ssh and adb")
    here = [kind.name for kind in KINDS if set(kind.on) & set(asked.devices.split(","))]
    if asked.kinds and not all(any(part in name for name in here) for part in asked.kinds.split(",")):
        parser.error(f"--kinds: the faults of these devices are {'; '.join(here)}")
    return asked


if __name__ == "__main__":
    sys.exit(main())
