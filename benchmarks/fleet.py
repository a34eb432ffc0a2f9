"""How much sooner a search ends with three like devices than with one: `python benchmarks/fleet.py`.

The devices' work is waiting (`profiler.testing.waiting_agent`), since the cores of one machine cannot be three devices;
all else is real: the study, the store, agents as processes, transfers. Prints seconds and the ratio, whose limit is one
third: every device still measures the watched anchor for itself.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

from archsearch.configuration import new_config, settings
from archsearch.measuring import Measurer
from archsearch.store import Store
from archsearch.study import CANDIDATE_PROTOCOL, Limits, run_study
from profiler.devices import LocalDevice
from profiler.runner import DeviceSession
from profiler.testing import FakeTransport, waiting_agent

CONFIG = {
    "space": "tiny", "workload": "16/4", "precision": "int4", "objective": ["decode_ms"], "budget": [],
    "anchor": ["CCGCG:width=128,vocab=1024,params=1.5M,multiple=16,head_dim=32"], "sampler": "nsga2", "seed": 0,
    "across": "worst", "tune": False, "lowering": {},
}  # fmt: skip


class Silent:
    """An observer that tells nobody."""

    def say(self, line: str) -> None:
        """Nothing."""

    def device(self, name: str, label: str, status: Any) -> None:
        """Nothing."""

    def idle(self, name: str) -> None:
        """Nothing."""

    def settled(self, standing: Any) -> None:
        """Nothing."""


def search(folder: Path, devices: int, *, seconds: float, trials: int) -> float:
    """Seconds of one search over so many like devices."""
    config = new_config(CONFIG)
    cancel = Event()
    with ExitStack() as stack:
        store = stack.enter_context(Store.open(folder / "study.db"))
        store.create_study("s", config)
        measurers = []
        for index in range(devices):
            work = str(folder / f"device{index}")
            device = LocalDevice(name=f"device{index}", group="rack", transport="local", threads=1, work_dir=work)
            session = DeviceSession(device, transport=FakeTransport(work), agent=waiting_agent(seconds))
            stack.enter_context(session)
            measurers.append(Measurer(session, store, study="s", protocol=CANDIDATE_PROTOCOL, cancel=cancel))
        begun = time.monotonic()
        ended = run_study(
            "s", settings(config), Limits(trials=trials), measurers=measurers, store=store, observer=Silent(),
            cancel=cancel,
        )  # fmt: skip
        took = time.monotonic() - begun
    done = sum(m.role == "candidate" for m in ended.measured)
    if done != trials or ended.devices_lost:
        raise SystemExit(f"{done} of {trials} candidates; lost: {dict(ended.devices_lost)}")
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=24, help="candidates (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="that each takes (default %(default)s)")
    parser.add_argument("--devices", type=int, default=3, help="like devices (default %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        took = {
            count: search(Path(folder) / str(count), count, seconds=options.seconds, trials=options.trials)
            for count in (1, options.devices)
        }
    for count, seconds in took.items():
        print(f"{count} device{'s' if count > 1 else ''}: {seconds:6.1f} s for {options.trials} candidates")
    print(f"ratio: {took[options.devices] / took[1]:.3f} (limit {1 / options.devices:.3f})")


if __name__ == "__main__":
    main()
