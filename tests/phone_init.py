"""The first process of an emulated phone: mounts what a phone has, runs adbd, and takes in orphans, as init does.

It runs in namespaces of its own (user, mount, process, network), which `tests/phone.py` makes; when it ends, or the
test that holds the other end of its socket does, the kernel ends every process and every mount of the phone with it.

Arguments of `main`: SOCKET ROOT FOLDER PORT DATA_MIB QEMU ASKS
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import uuid
from pathlib import Path

from tests.phone_key import admit

SHELL_UID = 2000
"""Android's user `shell`, whose commands adbd runs."""

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_AARCH64 = (
    r":archsearch-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:{qemu}:OCF"
)
"""ELF, 64 bits, little-endian, executable or position-independent, machine 183 (linux/elf.h)."""

_ENVIRONMENT = {
    "PATH": "/product/bin:/apex/com.android.runtime/bin:/system_ext/bin:/system/bin:/system/xbin:/odm/bin:/vendor/bin",
    "ANDROID_ROOT": "/system",
    "ANDROID_DATA": "/data",
    "ANDROID_STORAGE": "/storage",
    "EXTERNAL_STORAGE": "/sdcard",
    "HOME": "/",
    "TMPDIR": "/data/local/tmp",
}
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"mount {' '.join(map(str, arguments))}: {done.stderr.strip()}")


def mount_all(root: Path, folder: Path, data_mib: int, qemu: str) -> Path:
    """Put the phone together below `folder`/root, read-only but for /data; returns that folder. No `qemu`: native."""
    mount("-t", "proc", "none", "/proc")  # of this process namespace
    if qemu:
        mount("-t", "binfmt_misc", "none", _BINFMT)  # a user namespace has one of its own since Linux 6.7
        (_BINFMT / "register").write_text(_AARCH64.format(qemu=qemu))
    top = folder / "root"
    mount("--bind", root, top)
    mount("-o", "remount,bind,ro,nosuid,nodev", top)
    mount("-t", "proc", "none", top / "proc")
    mount("--bind", folder / "answers/boot_id", top / "proc/sys/kernel/random/boot_id")
    mount("-t", "tmpfs", "-o", "size=64k,mode=755", "none", top / "dev")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        (top / "dev" / name).touch()
        mount("--bind", f"/dev/{name}", top / "dev" / name)
    (top / "dev/pts").mkdir()
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=600", "none", top / "dev/pts")
    (top / "dev/ptmx").symlink_to("pts/ptmx")
    (top / "dev/fd").symlink_to("/proc/self/fd")
    mount("-o", "remount,bind,ro", top / "dev")
    mount("--bind", "/sys/devices/system/cpu", top / "sys/devices/system/cpu")
    if data_mib:
        mount("-t", "tmpfs", "-o", f"size={data_mib}m,mode=771", "none", top / "data")
        make_data(top / "data")
    else:
        mount("--bind", folder / "data", top / "data")
    mount("--bind", folder / "answers", top / "vendor")
    mount("-o", "remount,bind,ro,nosuid,nodev", top / "vendor")
    return top


def make_data(data: Path) -> None:
    """The folders of /data that adbd's user meets, with Android's modes."""
    for folder, mode in ((data, 0o771), (data / "local", 0o751), (data / "local/tmp", 0o771)):
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)


def loopback_up() -> None:
    with socket.socket() as any_socket:
        flags = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sh22x", b"lo", 0))
        up = struct.unpack_from("16sh", flags)[1] | _IFF_UP
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", up))


class Phone:
    """adbd, and the relay that leads to it from the host: adbd itself listens on every address it sees."""

    def __init__(self, top: Path, folder: Path, port: int, *, asks: bool) -> None:
        self._top, self._folder, self._port, self._asks = top, folder, port, asks
        self._adbd: subprocess.Popen[bytes] | None = None
        self._listener: socket.socket | None = None
        # One user namespace for all that ever runs here, in which there is no root: uid 0 outside is `shell` inside.
        user = ["unshare", "--user", f"--map-user={SHELL_UID}", f"--map-group={SHELL_UID}", "sh", "-c", "echo; read x"]
        holder = subprocess.Popen(user, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert holder.stdout is not None
        holder.stdout.readline()
        self._user = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY)
        holder.communicate()

    def start(self, listener: socket.socket) -> None:
        nsenter = shutil.which("nsenter")
        assert nsenter is not None
        enter = [nsenter, f"--user=/proc/self/fd/{self._user}", "--preserve-credentials", f"--root={self._top}"]
        with (self._folder / "adbd.log").open("ab") as log:
            self._adbd = subprocess.Popen(
                [*enter, f"--wd={self._top}", "/system/bin/adbd"],
                env={**_ENVIRONMENT, "ADBD_PORT": str(self._port)},
                pass_fds=(self._user,), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + 60
        while True:
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", self._port)) == 0:
                    break
            if self._adbd.poll() is not None or time.monotonic() > until:
                raise OSError("adbd does not listen: " + (self._folder / "adbd.log").read_text(errors="replace"))
            time.sleep(0.01)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def stop(self, *, everything: bool) -> None:
        """End adbd, or every process of the phone."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listener.close()
            self._listener = None
        if everything:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # all but the caller, which is the first
            (self._folder / "answers/boot_id").write_text(f"{uuid.uuid4()}\n")
        if self._adbd is not None:
            self._adbd.kill()
            self._adbd.wait()
            self._adbd = None

    def reap(self) -> None:
        """Take the exit status of orphans; that of adbd is its `Popen`'s."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            if self._adbd is not None and ended.si_pid == self._adbd.pid:
                self._adbd.wait()
            else:
                os.waitpid(ended.si_pid, 0)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                outside, _ = listener.accept()
                outside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._relay, args=(outside,), daemon=True).start()

    def _relay(self, outside: socket.socket) -> None:
        with contextlib.suppress(OSError), outside:
            first: bytes | None = b""
            if self._asks:
                first = admit(outside, self._folder / "allowed", self._folder / "asked")
            if first is None:
                return
            with socket.create_connection(("127.0.0.1", self._port)) as inside:
                inside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                inside.sendall(first)
                back = threading.Thread(target=_copy, args=(inside, outside), daemon=True)
                back.start()
                _copy(outside, inside)
                back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 18):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def main(arguments: list[str]) -> None:
    control = socket.socket(fileno=int(arguments[0]))
    root, folder, port, data_mib = Path(arguments[1]), Path(arguments[2]), int(arguments[3]), int(arguments[4])
    try:
        loopback_up()
        top = mount_all(root, folder, data_mib, arguments[5])
        phone = Phone(top, folder, port, asks=bool(arguments[6]))
    except OSError as error:
        control.send(str(error).encode())
        return
    control.send(b"ok")
    wake, woken = os.pipe2(os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    while True:
        ready, _, _ = select.select([control, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            phone.reap()
        if control not in ready:
            continue
        order, descriptors, _, _ = socket.recv_fds(control, 64, 1)
        if not order:
            return
        try:
            if order == b"start":
                phone.start(socket.socket(fileno=descriptors[0]))
            else:
                phone.stop(everything=order == b"off")
            control.send(b"ok")
        except OSError as error:
            control.send(str(error).encode()[:60_000])
