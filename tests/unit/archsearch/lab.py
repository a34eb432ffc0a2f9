"""A study's devices whose work is waiting, so that two cores can be many devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

from archsearch.configuration import new_config, settings
from archsearch.measurement import CANDIDATE
from archsearch.measuring import Measurer
from archsearch.store import Store
from archsearch.study import CANDIDATE_PROTOCOL, Ended, Limits, run_study
from profiler.devices import LocalDevice
from profiler.installed import AgentFile
from profiler.runner import DeviceSession
from profiler.testing import FakeTransport, waiting_agent
from profiler.transports import Transport


class Log:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def device(self, name: str, label: str, status: Any) -> None:
        pass

    def idle(self, name: str) -> None:
        pass

    def settled(self, standing: Any) -> None:
        pass

    def has(self, text: str) -> bool:
        return any(text in line for line in self.lines)


class Lab:
    """Devices that wait, in folders of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = Log()
        self.devices: dict[str, tuple[LocalDevice, FakeTransport, AgentFile]] = {}

    def add(self, name: str, *, seconds: float = 0.05, group: str | None = None, **more: Any) -> FakeTransport:
        work = self.folder / name
        device = LocalDevice.model_validate({
            "name": name, "transport": "local", "group": group, "threads": more.pop("threads", 1),
            "work_dir": str(work), "reconnect_s": more.pop("reconnect_s", 0.3),
            "lease_timeout_s": more.pop("lease_timeout_s", 60.0),
        })  # fmt: skip
        for agent in work.glob("agent-*"):  # of the same name, whatever it is told to answer
            agent.unlink()
        transport = FakeTransport(str(work))
        self.devices[name] = (device, transport, waiting_agent(seconds, **more))
        return transport

    def run(self, trials: int, *, across: str = "worst", cancel: Event | None = None) -> Ended:
        config = new_config({
            "space": "tiny", "workload": "16/4", "precision": "fp32", "objective": ["decode_ms"], "budget": [],
            "anchor": ["CG:width=64,vocab=512,ffn=96,head_dim=16"], "sampler": "random", "seed": 0, "across": across,
            "tune": False, "lowering": {},
        })  # fmt: skip
        stop = cancel or Event()
        with ExitStack() as stack:
            store = stack.enter_context(Store.open(self.folder / "study.db"))
            if store.study("s") is None:
                store.create_study("s", config)
            measurers = []
            for device, transport, agent in self.devices.values():
                as_transport: Transport = transport
                session = stack.enter_context(DeviceSession(device, transport=as_transport, agent=agent, poll_s=0.02))
                measurers.append(
                    Measurer(
                        session, store, study="s", protocol=CANDIDATE_PROTOCOL, cancel=stop, say=self.log.say
                    )
                )  # fmt: skip
            return run_study(
                "s", settings(config), Limits(trials=trials), measurers=measurers, store=store, observer=self.log,
                cancel=stop,
            )  # fmt: skip


def by_device(ended: Ended, role: str = CANDIDATE) -> Mapping[str, int]:
    return Counter(m.device for m in ended.measured if m.role == role)
