"""The file system of an emulated phone, made once and kept: Debian's adbd for aarch64 over Android's own userland.

What is real: adbd, mksh and toybox, built by Debian for aarch64 from Android's sources and from those that Android
takes; as on a phone they lie in /system, there is no Python, no /usr, no /tmp and no /dev/shm. What is not: `getprop`
and `dumpsys`, which ask services that only Android has, are scripts that print a file (`tests/phone.py` writes them);
and the C library is glibc, so that its loader lies in /lib. Its libraries lie in /system/lib64, where a glibc program
that came from elsewhere does not find them.

mmdebstrap rather than debootstrap: it resolves what adbd needs beyond the few packages named (40 MB in place of 240,
in 4 s in place of 15), takes packages of another architecture without running anything, checks their signatures, and
its mode `chrootless` needs neither root nor a namespace.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from profiler.android_folder import unpack_packages

SUITE = "trixie"
PACKAGES = ("adbd", "mksh", "toybox")
NATIVE = platform.machine() == "aarch64"
CACHE = Path(
    os.environ.get("ARCHSEARCH_TEST_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archsearch-tests"
)
"""Where tests keep what takes long to make; read before the tests are given a cache folder that is removed."""

APPLETS = tuple(
    """
[ acpi base64 basename blockdev cal cat chgrp chmod chown chroot chrt cksum clear cmp comm cp cpio cut date df dirname
dmesg dos2unix du echo egrep env expand fallocate false fgrep file find flock free fsync getconf grep groups gunzip
head hostname hwclock id ifconfig inotifyd insmod ionice iorenice kill killall ln logname losetup ls lsattr lsmod lspci
lsusb md5sum microcom mkdir mkfifo mknod mkswap mktemp modinfo mount mountpoint mv nc netstat nice nl nohup nproc
nsenter od paste patch pgrep pidof pkill pmap printenv printf prlimit ps pwd readelf readlink realpath renice rev rm
rmdir rmmod sed seq setsid sha1sum sha224sum sha256sum sha384sum sha512sum sleep sort split stat strings swapoff swapon
sync sysctl tac tail tar taskset tee test time timeout top touch true truncate tty ulimit umount uname uniq unix2dos
unlink unshare uptime usleep uudecode uuencode vmstat wc which whoami xargs xxd yes zcat
""".split()  # noqa: SIM905 - as the documentation prints them
)
"""Commands of toybox that Debian's build has and Android's too. Debian's lacks dd, diff, expr, gzip, lsof, more, tr."""

GETPROP = """\
#!/system/bin/sh
if [ $# -eq 0 ]; then
    while IFS='=' read -r name value; do echo "[$name]: [$value]"; done </vendor/properties
    exit
fi
while IFS='=' read -r name value; do [ "$name" != "$1" ] || { echo "$value"; exit; }; done </vendor/properties
echo "${2:-}"
"""
DUMPSYS = """\
#!/system/bin/sh
[ -f "/vendor/dumpsys/${1:-}" ] || { echo "Can't find service: ${1:-}"; exit 20; }
exec cat "/vendor/dumpsys/$1"
"""
LOADER = "ld-linux-aarch64.so.1"
DEFAULT_FOLDER = b"/lib/aarch64-linux-gnu/"
"""Where Debian's loader looks for libraries; the phone's own is made to look in /system/lib64."""
ACCOUNTS = "root:x:0:0::/:/bin/sh\nshell:x:2000:2000::/:/bin/sh\n"
GROUPS = "root:x:0:\nshell:x:2000:\n"
FOLDERS = ("proc", "dev", "data", "vendor", "etc", "lib", "sys/devices/system/cpu", "system/bin", "system/lib64")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a phone runs on.

    Attributes:
        root: The file system, which phones share and nobody writes to.
        qemu: The emulator, statically linked; None on a machine that is aarch64 itself.
    """

    root: Path
    qemu: Path | None


def recipe() -> str:
    """Hash of all that the machine is made from: this file."""
    return hashlib.sha256(Path(__file__).read_bytes() + platform.machine().encode()).hexdigest()[:12]


def machine() -> Machine:
    """The cached machine, made on first use (15 s and 50 MB of packages)."""
    folder = CACHE / f"phone-{recipe()}"
    made = Machine(folder / "root", None if NATIVE else folder / "qemu-aarch64")
    if folder.exists():
        return made
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / "phone.lock"):
        if not folder.exists():
            for remains in CACHE.glob("phone.partial.*"):  # of one that was killed
                shutil.rmtree(remains)
            with tempfile.TemporaryDirectory(dir=CACHE, prefix="phone.partial.") as beside:
                _make(Path(beside))
                (Path(beside) / "made").rename(folder)
    return made


def _make(beside: Path) -> None:
    packages, root = beside / "packages", beside / "made/root"
    unpack_packages(PACKAGES, "arm64", packages)
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    libraries = packages / "usr/lib/aarch64-linux-gnu"
    for library in (*libraries.glob("lib*.so*"), *libraries.glob("android/*")):
        shutil.copy(library, root / "system/lib64")
    loader = (libraries / LOADER).read_bytes()
    assert DEFAULT_FOLDER in loader
    here = b"/system/lib64/".ljust(len(DEFAULT_FOLDER), b"/")
    (root / "lib" / LOADER).write_bytes(loader.replace(DEFAULT_FOLDER, here))
    (root / "lib" / LOADER).chmod(0o755)
    programs = root / "system/bin"
    for program in ("usr/bin/mksh", "usr/bin/toybox", "usr/lib/android-sdk/platform-tools/adbd"):
        shutil.copy(packages / program, programs)
    (programs / "sh").symlink_to("mksh")
    for applet in APPLETS:
        (programs / applet).symlink_to("toybox")
    for name, text in (("getprop", GETPROP), ("dumpsys", DUMPSYS)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (root / "bin").symlink_to("system/bin")
    (root / "etc/passwd").write_text(ACCOUNTS)
    (root / "etc/group").write_text(GROUPS)
    (root / "etc/mkshrc").write_text("")
    if not NATIVE:
        # Debian 12's emulator, version 7.2, crashes inside libonnxruntime.
        host = {"x86_64": "amd64"}.get(platform.machine(), platform.machine())  # in Debian's words
        unpack_packages(["qemu-user"], host, beside / "emulator")
        shutil.copy(beside / "emulator/usr/bin/qemu-aarch64", beside / "made")
