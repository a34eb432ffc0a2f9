"""A real adbd on an emulated aarch64 machine, for tests.

Everything runs in namespaces of its own as user `shell`, also where the tests run as root, and is reached through one
loopback port; whatever way the test process ends, nothing stays mounted, registered or running.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from adb_shell.adb_device import AdbDevice
from adb_shell.auth.sign_pythonrsa import PythonRSASigner
from adb_shell.transport.tcp_transport import TcpTransport

from tests.phone_init import make_data
from tests.phone_root import NATIVE, Machine, machine

_NAMESPACES = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork"]
_PROBES = [
    (["true"], "user, mount, process and network namespaces (a container may need --privileged)"),
    (["mount", "-t", "proc", "none", "/proc"], "to mount /proc in a namespace (a container may need --privileged)"),
    (
        ["mount", "-t", "binfmt_misc", "none", "/proc/sys/fs/binfmt_misc"],
        "Linux 6.7 or newer, built with binfmt_misc (as root: modprobe binfmt_misc)",
    ),
]
_INIT = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); from tests.phone_init import main\n"
    "main(sys.argv[1:])"
)
PROPERTIES = {
    "ro.build.fingerprint": "samsung/pa3qxxx/pa3q:15/AP3A.240905.015.A2/S938BXXU1AYA1:user/release-keys",
    "ro.build.version.release": "15",
    "ro.build.version.sdk": "35",
    "ro.hardware": "qcom",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.product.manufacturer": "samsung",
    "ro.product.model": "SM-S938B",
    "ro.serialno": "R5CY10ABCDE",
    "ro.soc.manufacturer": "QTI",
    "ro.soc.model": "SM8750",
}
BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 4012000
  status: 2
  health: 2
  present: true
  level: 80
  scale: 100
  voltage: 4185
  temperature: 273
  technology: Li-ion
"""
THERMAL = """\
IsStatusOverride: false
ThermalEventListeners:
	callbacks: 1
	killed: false
	broadcasts count: -1
ThermalStatusListeners:
	callbacks: 1
	killed: false
	broadcasts count: -1
Thermal Status: 0
Cached temperatures:
	Temperature{mValue=31.2, mType=3, mName=SKIN, mStatus=0}
	Temperature{mValue=27.3, mType=2, mName=BATTERY, mStatus=0}
HAL Ready: true
HAL connection:
	ThermalHAL AIDL 2  connected: yes
Current temperatures from HAL:
	Temperature{mValue=36.4, mType=0, mName=CPU0, mStatus=0}
	Temperature{mValue=31.2, mType=3, mName=SKIN, mStatus=0}
	Temperature{mValue=27.3, mType=2, mName=BATTERY, mStatus=0}
Current cooling devices from HAL:
"""
POWER = """\
POWER MANAGER (dumpsys power)

Power Manager State:
  Settings power_manager_constants:
    no_cached_wake_locks=true
  mDirty=0x0
  mWakefulness=Awake
  mWakefulnessChanging=false
  mIsPowered=true
  mPlugType=2
  mBatteryLevel=80
  mStayOn=false
"""


@cache
def missing() -> str | None:
    """What this machine lacks to run a phone; None when it can."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    for program, package in (("mmdebstrap", "mmdebstrap"), ("unshare", "util-linux"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            return f"apt-get install {package}"
    for command, what in _PROBES[: 2 if NATIVE else 3]:
        done = subprocess.run([*_NAMESPACES, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            return f"needs {what}: {done.stderr.strip()}"
    return None


class Phone:
    """One phone. Off until `start`; `stop` and `start` may be repeated, with the same port and files.

    Debian's adbd lets everybody in; a phone that `asks` does not, until `allow` (`tests/phone_key.py`).

    Attributes:
        port: adbd answers on 127.0.0.1 at this port.
        answers: Folder of what its services say, which may change at any time: `properties` (lines NAME=VALUE, for
            getprop) and `dumpsys/SERVICE`.
    """

    def __init__(self, folder: Path, *, data_mib: int = 0, asks: bool = False) -> None:
        """A phone with its files below `folder`; its /data holds `data_mib` MiB, or what the disk here holds."""
        self._folder = folder
        self._asks = asks
        self._data_mib = data_mib
        self._machine: Machine = machine()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.answers = folder / "answers"
        (self.answers / "dumpsys").mkdir(parents=True)
        (folder / "root").mkdir()
        make_data(folder / "data")
        (self.answers / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (self.answers / "properties").write_text("".join(f"{name}={value}\n" for name, value in PROPERTIES.items()))
        for service, text in (("battery", BATTERY), ("thermalservice", THERMAL), ("power", POWER)):
            (self.answers / "dumpsys" / service).write_text(text)

    @property
    def serial(self) -> str:
        """Its name for adb."""
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """/data/local/tmp as seen from the host; with `data_mib`, only while the phone is on."""
        if not self._data_mib:
            return self._folder / "data/local/tmp"
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return Path(f"/proc/{children[0]}/root{self._folder}/root/data/local/tmp")

    def start(self) -> None:
        """Switch on, and wait until adbd listens."""
        if self._process is None:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                machine = self._machine
                what = [theirs.fileno(), machine.root, self._folder, self.port, self._data_mib, machine.qemu or ""]
                self._process = subprocess.Popen(
                    [*_NAMESPACES, sys.executable, "-I", "-S", "-c", _INIT, *map(str, what), "asks" * self._asks],
                    pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
            self._answer()
        self.plug()

    def stop(self) -> None:
        """Switch off: everything that runs on it ends. May be repeated."""
        if self._process is None:
            return
        assert self._control is not None
        self._control.close()  # its first process ends with it, and with that one all others
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = self._control = None

    def plug(self) -> None:
        """Start adbd."""
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen()
            self._order(b"start", listener)

    def unplug(self) -> None:
        """End adbd alone: connections break and none is taken; what runs detached goes on."""
        self._order(b"stop")

    def asked(self) -> str | None:
        """The public key that it shows to its owner, or showed last."""
        file = self._folder / "asked"
        return file.read_text() if file.exists() else None

    def allow(self) -> None:
        """Its owner allows the key that it shows, always from this computer."""
        key = self.asked()
        assert key is not None, "no key was offered"
        with (self._folder / "allowed").open("a") as allowed:
            allowed.write(f"{key}\n")

    def restart_adbd(self) -> None:
        """As when USB debugging is switched off and on."""
        self.unplug()
        self.plug()

    def reboot(self) -> None:
        """Everything that runs on it ends, its files stay, and it has another boot id."""
        self._order(b"off")
        self.plug()

    def _order(self, order: bytes, listener: socket.socket | None = None) -> None:
        assert self._control is not None, "the phone is off"
        socket.send_fds(self._control, [order], [] if listener is None else [listener.fileno()])
        self._answer()

    def _answer(self) -> None:
        assert self._control is not None
        self._control.settimeout(90)
        answer = self._control.recv(1 << 16)
        if answer != b"ok":
            self.stop()
            raise AssertionError(f"the phone does not start: {answer.decode(errors='replace') or 'its init ended'}")


class Link:
    """A connection to a phone, for tests of what lies there."""

    def __init__(self, device: AdbDevice) -> None:
        self._device = device

    def said(self, command: str, *, timeout_s: float = 60) -> str:
        """What a command printed, on either stream, without the last line's end."""
        answer = self._device.shell(command, transport_timeout_s=timeout_s, read_timeout_s=timeout_s)
        return str(answer).replace("\r\n", "\n").strip()

    def push(self, content: bytes, path: str) -> None:
        self._device.push(io.BytesIO(content), path)


@contextmanager
def connected(phone: Phone, signer: PythonRSASigner | None = None, *, wait_s: float = 10) -> Iterator[Link]:
    """Connect, and close at the end; `wait_s` is how long its owner may take to allow the key."""
    device = AdbDevice(_WholeWrites("127.0.0.1", phone.port))
    try:
        device.connect(rsa_keys=signer and [signer], transport_timeout_s=10, auth_timeout_s=wait_s)
        yield Link(device)
    finally:
        device.close()


class _WholeWrites(TcpTransport):  # type: ignore[misc]
    """adb-shell's own forgets what did not fit into one `send`."""

    def bulk_write(self, data: bytes, transport_timeout_s: float | None) -> int:
        rest = memoryview(data)
        while rest:
            rest = rest[super().bulk_write(rest, transport_timeout_s) :]
        return len(data)
