"""The files of a Python for phones: where they come from, and how they lie.

Android has no glibc, but its kernel runs a glibc program whose loader is started by name. So the folder holds Debian's
loader, libraries and Python, and the wheels that PyPI has for aarch64 and glibc; `python.sh` starts them together.
Nothing in it is built here, and nothing of it runs here.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from profiler.errors import BundleError

SUITE = "trixie"
ARCHITECTURE = "arm64"
PYTHON = "3.13"
LIBRARIES = {
    "libc6": ("ld-linux-aarch64.so.1", "libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1"),
    "libgcc-s1": ("libgcc_s.so.1",),
    "libstdc++6": ("libstdc++.so.6",),
    "zlib1g": ("libz.so.1",),
    "libzstd1": ("libzstd.so.1",),
    "libexpat1": ("libexpat.so.1",),
    "libffi8": ("libffi.so.8",),
    "libbz2-1.0": ("libbz2.so.1.0",),
    "liblzma5": ("liblzma.so.5",),
    "libssl3t64": ("libcrypto.so.3",),
}
"""Debian's packages and the libraries that are taken from each."""
INTERPRETER = (f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
LEFT_OUT = (
    "test", "tests", "idlelib", "ensurepip", "lib2to3", "pydoc_data", "turtledemo", "tkinter", "venv", "_pyrepl",
    "__pycache__", "sitecustomize.py", "*.pyi", "*.a", "*.pxd", "*.h",
    "_curses*", "_dbm*", "_gdbm*", "_sqlite3*", "_ssl.*", "_uuid.*", "readline.*",
    "_test*", "_ctypes_test*", "_xx*", "xx*",
)  # fmt: skip
"""What no measurement needs: tests, build tools, and modules whose libraries are not here either."""
WHEELS_LEFT_OUT = {"onnxruntime": ("transformers", "quantization", "tools", "datasets"), "numpy": ("f2py",)}

# What came into the environment for Android's own programs (Termux preloads a library) would break ours. The wheels of
# onnxruntime send usage data from Linux since 1.29, by a thread of their own, and keep an id in HOME: / under adb.
LAUNCHER = """\
#!/bin/sh
# Runs Python: sh python.sh ARGUMENTS. Its folder may lie anywhere, under any name without a colon or a semicolon.
case $0 in
    */*) here=${0%/*} ;;
    *) here=. ;;
esac
here=$(unset CDPATH; cd -- "$here/" && pwd -P) || exit 126
case $here in
    *[:\\;]*) echo "$here: a colon or semicolon in this path would part it in two; move the folder" >&2; exit 126 ;;
esac
[ -d "$here/tmp" ] || mkdir -p "$here/tmp" || exit 126
unset LD_PRELOAD
export PYTHONHOME="$here" PYTHONPATH="$here/site" PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUTF8=1
export TMPDIR="$here/tmp" ORT_DISABLE_TELEMETRY=1
[ -n "${HOME:-}" ] && [ -w "$HOME" ] || export HOME="$here/tmp"
exec "$here/lib/ld-linux-aarch64.so.1" --library-path "$here/lib" "$here/bin/python@PYTHON@" "$@"
""".replace("@PYTHON@", PYTHON)


@dataclass(frozen=True, slots=True)
class Part:
    """One package or wheel: its name, its version and the SHA-256 of its file."""

    name: str
    version: str
    sha256: str


def lay_out(folder: Path, ort_version: str, *, beside: Path, say: Callable[[str], None]) -> list[Part]:
    """Fetch all parts (about 50 MB) and lay them out in a new folder; what they are.

    Args:
        folder: Is made.
        ort_version: Version of onnxruntime; the wheels it needs come with it.
        beside: An empty folder for what is fetched.
        say: Called with a line before each long step.

    Raises:
        BundleError: A tool is missing here, or cannot fetch what is wanted.
    """
    say(f"fetching Python {PYTHON} for {ARCHITECTURE} from Debian {SUITE}")
    parts = unpack_packages([*LIBRARIES, *INTERPRETER], ARCHITECTURE, beside / "debian")
    say(f"fetching onnxruntime {ort_version} for aarch64 and what it needs from PyPI")
    wheels = _download_wheels(ort_version, beside / "wheels")
    system = beside / "debian/usr"
    (folder / "bin").mkdir(parents=True)
    shutil.copy(system / f"bin/python{PYTHON}", folder / "bin")
    standard = folder / f"lib/python{PYTHON}"
    shutil.copytree(system / f"lib/python{PYTHON}", standard, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for library in (name for names in LIBRARIES.values() for name in names):
        shutil.copy(system / "lib/aarch64-linux-gnu" / library, folder / "lib")
    (folder / "lib/ld-linux-aarch64.so.1").chmod(0o755)
    for wheel in wheels:
        name, version = wheel.name.split("-")[:2]
        parts.append(Part(name, version, hashlib.sha256(wheel.read_bytes()).hexdigest()))
        _unpack_wheel(wheel, folder / "site", beside / "wheel", [*LEFT_OUT, *WHEELS_LEFT_OUT.get(name, ())])
    (folder / "python.sh").write_text(LAUNCHER, encoding="utf-8")
    (folder / "python.sh").chmod(0o755)
    return parts


def unpack_packages(names: Sequence[str], architecture: str, folder: Path) -> list[Part]:
    """Unpack packages of Debian, and what they depend on, into a new folder; nothing of them is run.

    mmdebstrap checks the signatures, and in this mode needs no root and no namespaces.

    Returns:
        The named packages, in that order.

    Raises:
        BundleError: mmdebstrap is missing, or says why it failed.
    """
    elsewhere = "on other systems take a bundle that was made on Debian: archsearch devices setup NAME --bundle FILE"
    if shutil.which("mmdebstrap") is None:
        raise BundleError(
            "a Python for Android is put together from Debian's packages, by mmdebstrap, which is not installed here",
            hint=f"apt-get install mmdebstrap debian-archive-keyring (Debian, Ubuntu); {elsewhere}",
        )
    archives = folder.with_name(f"{folder.name}.archives")
    archives.mkdir(parents=True)
    keep = f'cp "$1"/var/cache/apt/archives/*.deb {shlex.quote(str(archives))}'
    command = ["mmdebstrap", "--mode=chrootless", "--variant=extract", f"--architectures={architecture}"]
    _run(
        [*command, f"--include={','.join(names)}", f"--extract-hook={keep}", SUITE, str(folder)],
        hint=f"is the network there, and the package debian-archive-keyring; {elsewhere}",
    )
    found = {}
    for archive in archives.iterdir():
        name, version, _ = archive.stem.split("_")
        found[name] = Part(name, version.replace("%3a", ":"), hashlib.sha256(archive.read_bytes()).hexdigest())
    return [found[name] for name in names]


def _download_wheels(ort_version: str, folder: Path) -> list[Path]:
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}", *platforms]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
    _run(
        [*pip, *target, f"--dest={folder}", f"onnxruntime=={ort_version}"],
        hint="is pip installed here (python -m ensurepip), and is the network there",
    )
    return sorted(folder.glob("*.whl"))


def _unpack_wheel(wheel: Path, site: Path, beside: Path, left_out: Sequence[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(beside)  # zipfile keeps members inside
    shutil.copytree(beside, site, ignore=shutil.ignore_patterns(*left_out), dirs_exist_ok=True)
    shutil.rmtree(beside)


def _run(command: Sequence[str], *, hint: str) -> None:
    """Run a tool; BundleError with the last line that it wrote."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise BundleError(f"{command[0]} cannot be started: {error}", hint=hint) from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith(("I: ", "W: "))]
        tool = "mmdebstrap" if command[0] == "mmdebstrap" else "pip"
        raise BundleError(f"{tool} failed: {' '.join(lines[-3:])[-600:] or done.returncode}", hint=hint)
