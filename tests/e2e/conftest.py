"""The command line as people meet it: real processes, a real agent, layouts of 1.5M parameters."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from archsearch.store import MeasurementRecord, Store
from tests.unit.search_space.own_blocks import install

FIRST = ("test_faults", "test_kernels", "test_front", "test_studies", "test_hostile", "test_devices", "test_phone",
         "test_android", "test_ssh", "test_run", "test_bad_input")  # fmt: skip
"""Files that take long: workers that begin with them end at the same time."""

LAYOUT = "CCGCG:width=128,vocab=1024,params=1.5M,multiple=16,head_dim=32"
TINY = ("--space", "tiny", "--workload", "16/4", "--no-tune")  # kernels are compared in the tests of just that
DEVICES = """\
devices:
  - name: {name}
    transport: local
    work_dir: {work}
    threads: 1
    cooling: {{max_other_cpu: 1.0, timeout_s: 5}}
    {more}
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files of this folder first; all others stay in their order."""
    here = Path(__file__).parent
    place = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(FIRST)) if here in item.path.parents else len(FIRST))


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(slots=True)
class Cli:
    """Runs `archsearch` in a folder with a devices.yaml of its own, whose device works in a folder of its own."""

    folder: Path
    work: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def devices(self, more: str = "", *, name: str = "local") -> None:
        text = DEVICES.format(name=name, work=self.work, more=more)
        (self.folder / "devices.yaml").write_text(text, encoding="utf-8")

    def start(self, *arguments: str | Path, **how: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "archsearch.cli.main", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **how.pop("env", {})}
        process = subprocess.Popen(
            command, cwd=self.folder, text=True, start_new_session=True, env=environment, **{**pipes, **how}
        )
        self.running.append(process)
        return process

    def __call__(self, *arguments: str | Path, code: int | None = 0, timeout: float = 120, **how: Any) -> Done:
        """Run to the end; the exit code must be `code`, and no traceback may be seen."""
        return self.finish(self.start(*arguments, **how), code=code, timeout=timeout)

    def finish(self, process: subprocess.Popen[str], *, code: int | None = 0, timeout: float = 120) -> Done:
        out, err = process.communicate(timeout=timeout)
        done = Done(process.returncode, out, err)
        assert "Traceback" not in err, err
        assert code is None or done.code == code, f"exit code {done.code}\n{out}\n{err}"
        return done

    def refused(self, *arguments: str | Path, code: int = 2, **how: Any) -> str:
        """Run what must fail: one or two lines on stderr (and a hint), nothing on stdout."""
        done = self(*arguments, code=code, **how)
        assert done.out == ""
        lines = done.err.strip().splitlines()
        assert 1 <= len([line for line in lines if not line.startswith("  try:")]) <= 2, done.err
        assert lines[0].startswith("archsearch: "), done.err
        return done.err

    def on_terminal(self, *arguments: str | Path) -> str:
        """What a command prints on a terminal of 24-bit colours, escape codes and all."""
        master, slave = pty.openpty()
        colors = {"NO_COLOR": "", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        process = self.start(*arguments, stdout=slave, env=colors)
        os.close(slave)
        parts = []
        with suppress(OSError):  # Linux ends a terminal that nobody writes to any more with an error
            while part := os.read(master, 4096):
                parts.append(part)
        os.close(master)
        self.finish(process)
        return b"".join(parts).decode()

    def store(self, study: str) -> Store:
        return Store.open(self.folder / "runs" / study / "study.db", create=False)

    def measurements(self, study: str) -> list[MeasurementRecord]:
        with self.store(study) as store:
            return store.measurements(study)

    def jobs(self) -> list[tuple[str, str, int]]:
        """(id, state, agent's process id) of the jobs on the device."""
        found = []
        for file in self.work.glob("jobs/*/status.json"):
            try:
                status = json.loads(file.read_text())
            except (OSError, ValueError):
                continue  # being removed
            found.append((file.parent.name, status["state"], status["pid"]))
        return found

    def processes(self) -> list[str]:
        """Command lines of what still runs from this device's folder: agents and their workers."""
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.work) in line:
                found.append(line)
        return found


def wait_until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `condition` gives once it is true; an assertion when it never is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s")


def nothing_twice(records: Sequence[MeasurementRecord]) -> None:
    """Each key was measured once, but for runs that drift asked for (these say that they are fresh)."""
    first = [record for record in records if not record.info.get("fresh")]
    again = {key: times for key, times in Counter(record.key_hash for record in first).items() if times > 1}
    assert not again, [(record.label, record.status) for record in first if record.key_hash in again]


class Watchman:
    """Looks at a device's jobs while tests run: were two ever measuring at one time?"""

    def __init__(self, cli: Cli) -> None:
        self.together: set[tuple[str, ...]] = set()
        self._cli = cli
        self._stop = Event()
        self._thread = Thread(target=self._look)

    def _look(self) -> None:
        seen: Counter[tuple[str, ...]] = Counter()
        while not self._stop.wait(0.1):
            busy = tuple(sorted(job for job, state, _ in self._cli.jobs() if state not in ("waiting_lease", "done")))
            seen = Counter({busy: seen[busy] + 1})
            if len(busy) > 1 and seen[busy] >= 3:  # the files are read one after the other
                self.together.add(busy)

    def __enter__(self) -> Watchman:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _make(folder: Path) -> Iterator[Cli]:
    made = Cli(folder=folder, work=folder / "device")
    made.devices()
    yield made
    for process in made.running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    for _, state, pid in made.jobs():
        if state != "done" and any(str(made.work) in line for line in made.processes()):
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    yield from _make(tmp_path)


@pytest.fixture
def state_space(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block of `tests/state_space.py`, installed for the processes that a test starts."""
    folder = tmp_path_factory.mktemp("site")
    file = Path(__file__).parents[1] / "state_space.py"
    install(folder, "state_space", file.read_text(encoding="utf-8"), "state_space = state_space:StateSpace\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A folder that several tests use; none may spoil it for the others."""
    yield from _make(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session")
def study(shared: Cli) -> Done:
    """A finished study of three candidates, called `first`, in the shared folder; its output."""
    return shared("run", *TINY, "--study", "first", "--trials", "3")


@pytest.fixture(scope="session")
def exported(shared: Cli) -> Path:
    """An export with weights for contexts up to 32; read only."""
    shared("export", LAYOUT, "-o", "exported", "--random-weights", "--context", "32")
    return shared.folder / "exported"
