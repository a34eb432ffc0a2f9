"""What every transport must do when its link breaks: say so in time, leave nothing half done, and be found again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, ClassVar

import pytest

from profiler.conformance._transport import eventually
from profiler.devices import LocalDevice
from profiler.errors import ConnectionLost
from profiler.installed import AgentFile
from profiler.jobs import Job, Runtime
from profiler.runner import DeviceSession, JobHandle
from profiler.transports import Transport
from profiler.workloads import Point

SIZE = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An open transport and hands on its link.

    Attributes:
        transport: Open; its work folder is empty and its device has Python 3.
        beside: Open, in the same work folder, by a way that no break touches.
        cut: Break the link: whoever waits on it is told at once, and connecting fails.
        freeze: Break it without a word: nothing moves any more, nobody is told, and connecting is not answered.
        restore: Mend what `cut` and `freeze` did.
        crossed: Bytes that crossed it so far, both ways.
    """

    transport: Transport
    beside: Transport
    cut: Callable[[], None]
    freeze: Callable[[], None]
    restore: Callable[[], None]
    crossed: Callable[[], int]

    def breaker(self, how: str) -> Callable[[], None]:
        """`cut` or `freeze`."""
        return {"cut": self.cut, "frozen": self.freeze}[how]


class DisconnectionConformance:
    """Subclass, name it Test..., and give the fixture `link` (a `Link`).

    The fixture should shorten the time-outs of its transport where it can: each frozen link is waited for.

    Attributes:
        patience_s: A call on a frozen link ends so long after its own time-out at the latest.
    """

    patience_s: ClassVar[float] = 30.0

    @contextmanager
    def broken(self, link: Link, how: str, when: Callable[[], bool]) -> Iterator[Event]:
        """Break the link as soon as `when` holds, from a thread of its own; the event says that it is broken."""
        over, done = Event(), Event()

        def watch() -> None:
            while not over.wait(0.002):
                if when():
                    link.breaker(how)()
                    done.set()
                    return

        thread = Thread(target=watch)
        thread.start()
        try:
            yield done
        finally:
            over.set()
            thread.join()

    def crossing(self, link: Link, more: int) -> Callable[[], bool]:
        """True when so many more bytes have crossed the link."""
        until = link.crossed() + more
        return lambda: link.crossed() >= until

    def attempt(self, action: Callable[[], Any], *, timeout_s: float = 0.0) -> tuple[bool, Any]:
        """Whether an action succeeded, and what it gave; a lost link is no mistake, a long wait is."""
        start = time.monotonic()
        try:
            found = True, action()
        except ConnectionLost:
            found = False, None
        assert time.monotonic() - start < timeout_s + self.patience_s
        return found

    def reopen(self, link: Link) -> None:
        """As whoever lost a link does."""
        link.restore()
        link.transport.close()
        link.transport.open()

    @pytest.mark.parametrize("how", ["cut", "frozen"])
    @pytest.mark.parametrize("call", ["run", "exists", "push", "pull", "listdir", "start_detached", "alive", "open"])
    def test_before_a_call(self, link: Link, how: str, call: str) -> None:
        """Every call says that the link is lost."""
        transport = link.transport
        transport.push(b"kept", "folder/file")
        begin = [*transport.python, "-c", "open('began', 'w').close()"]
        actions: dict[str, Callable[[], Any]] = {
            "run": lambda: transport.run(begin, timeout_s=1),
            "exists": lambda: transport.exists("folder/file"),
            "push": lambda: transport.push(b"new", "folder/file"),
            "pull": lambda: transport.pull("folder/file", max_bytes=100),
            "listdir": lambda: transport.listdir("folder"),
            "start_detached": lambda: transport.start_detached(begin, log="log"),
            "alive": lambda: transport.alive(1),
            "open": lambda: (transport.close(), transport.open()),
        }
        link.breaker(how)()
        start = time.monotonic()
        with pytest.raises(ConnectionLost):
            actions[call]()
        assert time.monotonic() - start < 1 + self.patience_s
        self.reopen(link)
        assert transport.pull("folder/file", max_bytes=100) == b"kept"

    @pytest.mark.parametrize("how", ["cut", "frozen"])
    def test_during_push(self, link: Link, how: str) -> None:
        """The target is the old file or the new one, and the next push leaves nothing else beside it."""
        old, new = b"old", bytes(range(250)) * (SIZE // 250)
        link.transport.push(old, "folder/file")
        with self.broken(link, how, self.crossing(link, SIZE // 3)):
            arrived, _ = self.attempt(lambda: link.transport.push(new, "folder/file"))
        assert not arrived, "the link was not broken in time"
        assert link.beside.pull("folder/file", max_bytes=SIZE) == old
        self.reopen(link)
        link.transport.push(new, "folder/file")
        assert link.transport.pull("folder/file", max_bytes=SIZE) == new
        assert link.transport.listdir("folder") == ("file",)

    @pytest.mark.parametrize("how", ["cut", "frozen"])
    def test_at_the_end_of_a_push(self, link: Link, how: str) -> None:
        """Whether the last word was heard or not, the target is whole."""
        data = b"x" * 100_000
        for early in (0, 500, 2000):
            with self.broken(link, how, self.crossing(link, len(data) - early)):
                arrived, _ = self.attempt(lambda: link.transport.push(data, "folder/file"))
            self.reopen(link)
            there = link.beside.exists("folder/file")
            assert there or not arrived
            assert not there or link.beside.pull("folder/file", max_bytes=SIZE) == data
            link.transport.push(data, "folder/file")
            assert link.transport.listdir("folder") == ("file",)
            link.transport.remove("folder")

    @pytest.mark.parametrize("how", ["cut", "frozen"])
    def test_during_pull(self, link: Link, how: str) -> None:
        """All of the file, or an error."""
        data = bytes(range(250)) * (SIZE // 250)
        link.beside.push(data, "file")
        with self.broken(link, how, self.crossing(link, SIZE // 3)):
            arrived, _ = self.attempt(lambda: link.transport.pull("file", max_bytes=SIZE))
        assert not arrived, "the link was not broken in time"
        self.reopen(link)
        assert link.transport.pull("file", max_bytes=SIZE) == data

    @pytest.mark.parametrize("how", ["cut", "frozen"])
    def test_during_a_slow_command(self, link: Link, how: str) -> None:
        """A lost link is not taken for a command that ended."""
        code = "import time; open('began', 'w').close(); time.sleep(8)"
        with self.broken(link, how, lambda: link.beside.exists("began")):
            ended, _ = self.attempt(
                lambda: link.transport.run([*link.transport.python, "-c", code], timeout_s=6), timeout_s=6
            )
        assert not ended
        self.reopen(link)
        assert link.transport.run([*link.transport.python, "-c", "print(1)"], timeout_s=30).stdout == b"1\n"

    @pytest.mark.parametrize("how", ["cut", "frozen"])
    def test_during_the_input_of_a_command(self, link: Link, how: str) -> None:
        """Nor is one whose input did not arrive; and what waits to be sent keeps nobody."""
        code = "import sys; data = sys.stdin.buffer.read(); print(len(data))"
        with self.broken(link, how, self.crossing(link, SIZE // 3)):
            ended, _ = self.attempt(
                lambda: link.transport.run([*link.transport.python, "-c", code], timeout_s=5, stdin=bytes(SIZE)),
                timeout_s=5,
            )
        assert not ended, "the link was not broken in time"
        self.reopen(link)
        assert link.transport.exists(".")

    @pytest.mark.parametrize("how", ["cut", "frozen"])
    @pytest.mark.parametrize("more", [1, 600, 1500, 2500, 4000, 8000])
    def test_around_the_start_of_a_detached_process(self, link: Link, how: str, more: int) -> None:
        """It was started once, or not at all; once when its number was told."""
        code = "open('starts', 'a').write('x'); import time; time.sleep(1)"
        with self.broken(link, how, self.crossing(link, more)):
            told, _ = self.attempt(
                lambda: link.transport.start_detached([*link.transport.python, "-c", code], log="log")
            )
        self.reopen(link)
        if told:
            assert eventually(lambda: link.beside.exists("starts"))
        time.sleep(0.5)  # a second one would come by now
        starts = link.beside.pull("starts", max_bytes=100) if link.beside.exists("starts") else b""
        assert len(starts) in ({1} if told else {0, 1})

    @pytest.mark.parametrize("how", ["cut", "frozen"])
    def test_after_a_detached_process_began(self, link: Link, how: str) -> None:
        """It goes on without the link."""
        code = (
            "import time; open('starts', 'a').write('x')\n"
            "import os\nwhile not os.path.exists('stop'): time.sleep(0.02)\nopen('stopped', 'w').close()"
        )
        with self.broken(link, how, lambda: link.beside.exists("starts")) as broken:
            told, pid = self.attempt(
                lambda: link.transport.start_detached([*link.transport.python, "-c", code], log="log")
            )
            assert broken.wait(30)
        self.reopen(link)
        assert not told or link.transport.alive(pid)
        link.transport.push(b"", "stop")
        assert eventually(lambda: link.transport.exists("stopped"))
        assert link.beside.pull("starts", max_bytes=100) == b"x"

    @contextmanager
    def job(self, link: Link, *, reconnect_s: float) -> Iterator[tuple[DeviceSession, JobHandle]]:
        """A job on the device that ends when there is a file `go` in its folder; it must have run once."""
        device = LocalDevice(name="linked", transport="local", work_dir="/not/used", reconnect_s=reconnect_s)
        agent = AgentFile(name="agent-conformance.py", data=_AGENT.encode())
        order = Job(
            job_id="job", label="", signature={}, runtime=Runtime(threads=1), content_id="none",
            points=(Point(prompt=1, decode=1),),
        )  # fmt: skip
        with DeviceSession(device, transport=link.transport, agent=agent, poll_s=0.1) as session:
            handle = session.submit(order, {"model.onnx": b"", "recipe.json": b""})
            yield session, handle
            assert link.beside.pull(f"{handle.folder}/starts", max_bytes=100) == b"x"
            session.cleanup("job")
            assert link.transport.listdir("jobs") == ()

    @pytest.mark.parametrize("how", ["cut", "frozen"])
    def test_a_short_break_is_bridged(self, link: Link, how: str) -> None:
        """Whoever waits for a job does not notice it."""
        looks: list[object] = []
        job = self.job(link, reconnect_s=60 + self.patience_s)
        with job as (session, handle), self.broken(link, how, lambda: len(looks) > 3) as broken:

            def mend() -> None:
                broken.wait(30)
                time.sleep(1)
                link.restore()
                link.beside.push(b"", f"{handle.folder}/go")

            thread = Thread(target=mend)
            thread.start()
            try:
                assert json.loads(session.wait(handle, looks.append)) == {"job": "job"}
            finally:
                thread.join()
            assert broken.is_set()

    @pytest.mark.parametrize("how", ["cut", "frozen"])
    def test_after_a_long_break_a_job_is_found_again(self, link: Link, how: str) -> None:
        """The work went on."""
        looks: list[object] = []
        with self.job(link, reconnect_s=1.0) as (session, handle):
            with self.broken(link, how, lambda: len(looks) > 3), pytest.raises(ConnectionLost):
                session.wait(handle, looks.append)
            self.reopen(link)
            found = session.attach("job")
            assert found is not None
            assert found.pid == handle.pid
            link.beside.push(b"", f"{handle.folder}/go")
            assert json.loads(session.wait(found)) == {"job": "job"}


_AGENT = """
import json, os, sys, time
if sys.argv[1] == "info":
    print(json.dumps({"numpy": "2", "onnxruntime": "1", "cores": 1})); raise SystemExit
folder, beat = sys.argv[2], 0
open(folder + "/starts", "a").write("x")

def write(name, value):
    with open(folder + "/.tmp", "w") as file:
        json.dump(value, file)
    os.replace(folder + "/.tmp", folder + "/" + name)

def status(state):
    write("status.json", {"state": state, "heartbeat_unix": beat, "pid": os.getpid()})

while not os.path.exists(folder + "/go"):
    beat += 1
    status("timing")
    time.sleep(0.05)
write("result.json", {"job": json.load(open(folder + "/job.json"))["job_id"]})
status("done")
"""
"""An agent that works until it is told to stop."""
