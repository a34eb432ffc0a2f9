"""Runs of a campaign: a study each, disturbed some times, then continued in peace to its end, then judged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from archsearch.store import Store
from tests.e2e.faults.invariants import judge
from tests.e2e.faults.kinds import KINDS, Kind, possible, usable
from tests.e2e.faults.scene import STORED, STUDY, Driver, Scene
from tests.e2e.faults.world import (
    RECONNECT_S,
    Place,
    World,
    adb_place,
    end_leftovers,
    local_place,
    ssh_place,
    write_devices,
)  # fmt: skip
from tests.phone import Phone

AIM_S = {"local": 8.0, "ssh": 8.0, "adb": 20.0}
"""How long a fault waits for the phase that it is aimed at."""
QUIET_S = 120.0
"""A driver that works says something, or its job gets on, at least so often."""
STALE_S = 75.0
"""After which a driver notices an agent that hangs, and a bit."""


@dataclass(slots=True, kw_only=True)
class FaultRecord:
    """One fault, and what came of it.

    Attributes:
        aimed: The phase that it was aimed at.
        phase: What the device did when it struck.
        job: The job there, or empty.
        what: How it was carried out.
        said: What drivers said of the device until it had recovered.
        outcome: What became of the job.
        recovered_s: Seconds until the device had its next measurement stored; None when the run was over before.
    """

    run: int
    kind: str
    device: str
    aimed: str
    phase: str
    job: str
    what: str
    at: float
    said: list[str] = field(default_factory=list)
    outcome: str = ""
    recovered_s: float | None = None


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """One run: its faults, and what did not hold at its end."""

    number: int
    devices: list[str]
    seconds: float = 0.0
    faults: list[FaultRecord] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return asdict(self)


class Deck:
    """Kinds of faults with their devices, shuffled: all are drawn before one comes again.

    Args:
        rng: Shuffles.
        slow: Whether those that take long are among them.
        named: Parts of names; only kinds whose names have one of these, where there are any.
    """

    def __init__(self, rng: Random, *, slow: bool = True, named: Sequence[str] = ()) -> None:
        self._rng = rng
        self._kinds = [
            kind for kind in KINDS if possible(kind) and (slow or not kind.slow)
            and (not named or any(part in kind.name for part in named))
        ]  # fmt: skip
        self._cards: list[tuple[Kind, str]] = []

    def draw(self, places: Sequence[Place]) -> tuple[Kind, Place]:
        """A fault that can strike one of these devices."""
        while True:
            for index, (kind, on) in enumerate(self._cards):
                fitting = [place for place in places if place.kind == on and usable(kind, place)]
                if fitting:
                    del self._cards[index]
                    return kind, self._rng.choice(fitting)
            kinds = sorted({place.kind for place in places})
            self._cards += [
                (kind, on) for kind in self._kinds for on in kind.on if on in kinds
                for _ in range(self._times(kind, kinds))
            ]  # fmt: skip
            self._rng.shuffle(self._cards)

    def _times(self, kind: Kind, kinds: Sequence[str]) -> int:
        """Faults of a driver are of all devices at once: they come as often as those of one."""
        whole = len(set(kind.on) & set(kinds))
        times = kind.weight / whole if kind.ends_driver else kind.weight
        return int(times) + (self._rng.random() < times % 1)


class Run:
    """One study under faults; in a `hurry`, these are short, and wait less for the moment that they are aimed at."""

    def __init__(
        self, number: int, rng: Random, deck: Deck, world: World, *, say: Callable[[str], None], hurry: bool = False
    ) -> None:
        self.record = RunRecord(number=number, devices=[place.kind for place in world.places])
        self._rng, self._deck, self._say = rng, deck, say
        self._slow = any(place.kind == "adb" for place in world.places)  # emulated: a candidate takes a minute
        self._hurry = hurry
        trials = 2 if self._slow or hurry else rng.randint(3, 4)
        self._scene = Scene(world, rng, trials=trials, longest_s=1.0 if hurry else math.inf)

    def play(self, faults: int, *, pause_s: float) -> RunRecord:
        """Disturb it so many times, let it end, judge it."""
        begun = time.monotonic()
        scene = self._scene
        scene.start()
        scene.wait(20, lambda: any(place.jobs() for place in scene.world.places) or not scene.running())
        for _ in range(faults):
            scene.wait(min(4 * pause_s, self._rng.expovariate(1 / pause_s)))
            self._keep_running()
            self._strike()
        self._settle()
        self._finish()
        self.record.violations += [*scene.violations, *judge(scene)]
        self._explain()
        self.record.seconds = time.monotonic() - begun
        self.record.log = [f"{line.at - begun:7.2f} driver {line.driver}: {line.text}" for line in scene.lines]
        end_leftovers(scene.world)
        return self.record

    def _keep_running(self) -> None:
        """A study that is complete gets more trials; a driver that ended is followed by another."""
        scene = self._scene
        if scene.running():
            return
        last = scene.drivers[-1]
        if last.process.returncode == 0:
            scene.trials += 1 if self._slow or self._hurry else 2
        else:
            scene.wait(1.0)
        scene.start()
        scene.wait(15, lambda: any(place.jobs() for place in scene.world.places) or not scene.running())

    def _strike(self) -> None:
        scene = self._scene
        for _ in range(6):
            kind, place = self._deck.draw(scene.world.places)
            aimed = self._rng.choice(kind.phases)
            scene.wait(1.0 if self._hurry else AIM_S[place.kind], lambda p=place, a=aimed: p.phase() == a, step=0.002)  # type: ignore[misc]
            self._keep_running()
            job = place.current()
            record = FaultRecord(
                run=self.record.number, kind=kind.name, device=place.kind, aimed=aimed, phase=place.phase(),
                job=job.job_id if job else "", what="", at=time.monotonic(),
            )  # fmt: skip
            what = kind.inject(scene, place)
            if what is not None:
                record.what = what
                self.record.faults.append(record)
                self._say(f"{place.name}, {record.phase}: {kind.name} ({what})")
                if kind.ends_driver:
                    self._keep_running()
                return

    def _settle(self) -> None:
        """Let the disturbed drivers come to their end."""
        scene = self._scene
        scene.wait(0.0 if self._hurry else self._rng.choice([0.0, 5.0]))
        scene.restore()
        for driver in scene.running():
            self._await(driver)

    def _await(self, driver: Driver) -> None:
        """Wait for its end, as long as something goes on: an emulated phone on a busy machine takes its time."""
        scene = self._scene
        patience = STALE_S + QUIET_S + max(RECONNECT_S[place.kind] for place in scene.world.places)
        seen, since = self._going_on(), time.monotonic()
        while not scene.wait(1.0, lambda: not driver.running):
            now = self._going_on()
            if now != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since > patience:
                scene.hung(driver, f"did not end, and nothing went on for {patience:.0f} s")
                break
        driver.end = driver.end or "itself"

    def _going_on(self) -> object:
        """Something else whenever a driver says something or a job gets on."""
        jobs = [(job.job_id, job.state) for place in self._scene.world.places for job in place.jobs()]
        return len(self._scene.lines), jobs

    def _finish(self) -> None:
        """Continue the study in peace until it is complete."""
        scene = self._scene
        driver = scene.start()
        self._await(driver)
        scene.tick()
        said = [line.text for line in scene.lines if line.driver == driver.number]
        if driver.process.returncode != 0:
            scene.violations.append(f"end: the last, undisturbed run gave {driver.process.returncode}")
        if not any("candidates are done" in text for text in said):
            scene.violations.append("end: the last, undisturbed run does not say that the candidates are done")
        for text in said:
            if "left out" in text:
                scene.violations.append(f"end: in the last, undisturbed run: {text}")

    def _explain(self) -> None:
        """What came of each fault."""
        scene = self._scene
        path = scene.world.database(STUDY)
        kept: set[str] = set()
        if path.exists():
            with Store.open(path, create=False) as store:
                kept = {record.job_id for record in store.measurements(STUDY)}
        by_kind = {place.kind: place for place in scene.world.places}
        for record in self.record.faults:
            place = by_kind[record.device]
            after = scene.stored_after(place, record.at)
            lines = [line for line in scene.said(place, record.at) if after is None or line.at <= after.at]
            record.recovered_s = None if after is None else round(after.at - record.at, 2)
            record.said = [line.text for line in lines if not STORED.match(line.text)][:12]
            record.outcome = _outcome(record, kept, " ".join(line.text for line in lines))


def _outcome(record: FaultRecord, kept: set[str], said: str) -> str:
    if "left out" in said:
        return "device left out"
    if record.job and record.job in kept:
        return "waited, went on" if "the link is lost" in said else "went on"
    if ": failed: " in said:
        return "failed, with the reason"
    if record.job:
        return "run again"
    return "waited, went on" if "the link is lost" in said or "waits for another" in said else "went on"


def play_run(
    number: int, folder: Path, rng: Random, deck: Deck, *, devices: Sequence[str], faults: int,
    phone: Phone | None, pause_s: float, say: Callable[[str], None], hurry: bool = False,
) -> RunRecord:  # fmt: skip
    """One run in a folder of its own."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        world = World(folder)
        for kind in devices:
            if kind == "local":
                world.places.append(stack.enter_context(local_place(folder)))
            elif kind == "ssh":
                world.places.append(stack.enter_context(ssh_place(folder)))
            else:
                assert phone is not None
                world.places.append(stack.enter_context(adb_place(phone)))
        write_devices(world)
        run = Run(number, rng, deck, world, say=say, hurry=hurry)
        try:
            return run.play(faults, pause_s=pause_s)
        finally:
            for driver in run._scene.running():
                driver.process.kill()
                driver.process.wait()
            run._scene.restore()
            end_leftovers(world)
