"""One study under way: its drivers, what they say, and what is to be put right again later."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.e2e.faults.world import Place, World

STUDY = "campaign"
CTRL_C_S = 60.0
"""A driver ends within this time once it was asked to."""

STORED = re.compile(r"^\[[\d:]+\] (\w+): (.*?): 16/4: TTFT ")


@dataclass(slots=True)
class Line:
    """Something that a driver said, and when (`time.monotonic`)."""

    at: float
    driver: int
    text: str


@dataclass(slots=True, eq=False)
class Driver:
    """One `archsearch run`.

    Attributes:
        end: What ended it: empty while it runs, ``itself``, ``kill`` or ``Ctrl-C``.
    """

    number: int
    process: subprocess.Popen[bytes]
    log: Path
    trials: int
    end: str = ""
    read: int = 0
    rest: str = ""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None


@dataclass(slots=True, eq=False)
class Scene:
    """A study under way.

    Attributes:
        trials: What the next driver is asked for.
        longest_s: No fault lasts longer.
        violations: What did not hold, in words.
        lost_on_purpose: Devices that cannot be reached, or are not trusted, until something that was put off is done.
    """

    world: World
    rng: Random
    trials: int
    longest_s: float = math.inf
    drivers: list[Driver] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    lost_on_purpose: set[str] = field(default_factory=set)
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    # Time

    def tick(self) -> None:
        """Read what was said, and do what is due."""
        self.read()
        now = time.monotonic()
        due = [item for item in self._later if item[0] <= now]
        self._later = [item for item in self._later if item[0] > now]
        for _, action in due:
            action()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Have something done in so many seconds, or at the end of the disturbances."""
        self._later.append((time.monotonic() + seconds, action))

    def restore(self) -> None:
        """Do at once all that was put off."""
        while self._later:
            waiting, self._later = self._later, []
            for _, action in waiting:
                action()

    def wait(self, seconds: float, condition: Callable[[], object] = lambda: False, *, step: float = 0.02) -> bool:
        """Let time pass until a condition holds; whether it does."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= until:
                return False
            self.tick()
            time.sleep(step)
        return True

    # Drivers

    def arguments(self, trials: int) -> list[str]:
        """Of the study's run."""
        fixed = ["run", "--space", "tiny", "--workload", "16/4", "--no-tune", "--study", STUDY]
        return [*fixed, "--trials", str(trials)]

    def start(self) -> Driver:
        """Begin or continue the study."""
        number = len(self.drivers)
        log = self.world.folder / f"driver-{number}.log"
        made = Driver(number, self.world.start(self.arguments(self.trials), log), log, self.trials)
        self.drivers.append(made)
        return made

    def running(self) -> list[Driver]:
        """Drivers that run."""
        return [driver for driver in self.drivers if driver.running]

    def kill(self, driver: Driver) -> None:
        """SIGKILL; then look at the store as it was left."""
        driver.end = "kill"
        with suppress(ProcessLookupError):
            os.kill(driver.process.pid, signal.SIGKILL)
        driver.process.wait()
        if not self.running():  # or another one writes into what is being copied
            self.judge_copy()

    def interrupt(self, driver: Driver) -> float:
        """Ctrl-C; seconds until it ended."""
        driver.end = "Ctrl-C"
        begun = time.monotonic()
        with suppress(ProcessLookupError):
            driver.process.send_signal(signal.SIGINT)
        if not self.wait(CTRL_C_S, lambda: not driver.running):
            self.hung(driver, f"did not end within {CTRL_C_S:g} s of Ctrl-C")
        return time.monotonic() - begun

    def hung(self, driver: Driver, what: str) -> None:
        """A driver that does not end: its stacks go to its log, and it goes too."""
        self.violations.append(f"hang: driver {driver.number} {what}")
        driver.end = "hang"
        driver.process.send_signal(signal.SIGABRT)
        with suppress(subprocess.TimeoutExpired):
            driver.process.wait(10)
        driver.process.kill()
        driver.process.wait()

    def judge_copy(self) -> None:
        """The database files as a killed driver left them open, and are whole."""
        source = self.world.database(STUDY)
        if not source.exists():
            return
        copy = self.world.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                shutil.copy(f"{source}{suffix}", copy / f"study.db{suffix}")
        try:
            with closing(sqlite3.connect(copy / "study.db")) as database:
                said = [row[0] for row in database.execute("PRAGMA integrity_check")]
                if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    database.execute("SELECT count(*) FROM measurements").fetchone()
        except sqlite3.Error as error:
            said = [str(error)]
        if said != ["ok"]:
            self.violations.append(f"store: the copy taken at a kill says {said[:3]}")

    def read(self) -> None:
        """Take up what the drivers said since."""
        now = time.monotonic()
        for driver in self.drivers:
            with suppress(FileNotFoundError), driver.log.open("rb") as file:
                file.seek(driver.read)
                data = file.read()
                driver.read += len(data)
                *whole, driver.rest = (driver.rest + data.decode(errors="replace")).split("\n")
                self.lines += [Line(now, driver.number, text) for text in whole if text.strip()]
            if driver.rest.strip() and not driver.running:
                self.lines.append(Line(now, driver.number, driver.rest))
                driver.rest = ""

    def said(self, place: Place, since: float) -> list[Line]:
        """What was said of a device since then."""
        name = place.name
        return [
            line
            for line in self.lines
            if line.at >= since and (f"] {name}: " in line.text or f"{name} is left out" in line.text
                                     or f"left out: {name}: " in line.text or f"{name} lacks" in line.text)
        ]  # fmt: skip

    def stored_after(self, place: Place, since: float) -> Line | None:
        """The first word of a new measurement on a device."""
        return next(
            (line for line in self.said(place, since) if STORED.match(line.text) and "(known" not in line.text), None
        )
