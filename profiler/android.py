"""A Python with onnxruntime for phones that have none: one file, made once on the host, that travels to them.

It is a gzipped tar archive whose first member, MANIFEST (JSON), names its parts. Unpacked anywhere on an aarch64 Linux,
with `tar -xzf`, it is started by `sh FOLDER/python.sh ARGUMENTS`; `COMPILE` are arguments that quicken later starts.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from profiler import android_folder as folders
from profiler.errors import BundleError

COMPILE = (
    "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", f"lib/python{folders.PYTHON}", "site",
)  # fmt: skip
"""To be run once in the unpacked folder. Its sources never change, so nothing need compare their times."""
FORMAT = 1
"""Raised when the code of this module or of `android_folder` makes something else of the same recipe."""
_MANIFEST = "MANIFEST"
_PARTIAL = "android-python.partial."
"""What `tempfile` adds is eight letters, digits and underscores."""
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The file.

    Attributes:
        path: Where it lies.
        sha256: Of its content.
        size: Bytes of the file.
        unpacked_size: Bytes of the files in it; what it compiles to (`COMPILE`) needs about 15 MB more.
        ort_version: Version of onnxruntime in it.
    """

    path: Path
    sha256: str
    size: int
    unpacked_size: int
    ort_version: str


def bundle(*, say: Callable[[str], None], folder: Path | None = None, onnxruntime: str | None = None) -> Bundle:
    """The bundle with a version of onnxruntime; made if it is not there yet, or damaged.

    Args:
        say: Called with a line of text before each step that takes long.
        folder: Where bundles are kept: by default `$XDG_CACHE_HOME/archsearch`, or `~/.cache/archsearch`.
        onnxruntime: Its version; None for the one that is installed here.

    Raises:
        BundleError: A tool is missing here, the network is, or the folder cannot be written.
    """
    version = onnxruntime or _installed_version()
    kept = folder or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "archsearch"
    name = f"android-python-{recipe(version)}"
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with FileLock(kept / "android-python.lock"):
            for found in sorted(kept.glob(f"{name}-{12 * '[0-9a-f]'}.tar.gz")):
                if found.name == f"{name}-{_sha256(found)[:12]}.tar.gz":
                    return read(found)
                say(f"{found} is damaged and is made anew")
                found.unlink()
            for remains in kept.glob(f"{_PARTIAL}{8 * '[a-z0-9_]'}"):  # of one that was killed
                shutil.rmtree(remains, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=kept, prefix=_PARTIAL) as beside:
                made = _make(Path(beside), version, say)
                return read(made.rename(kept / f"{name}-{_sha256(made)[:12]}.tar.gz"))
    except OSError as error:
        raise BundleError(
            f"a Python for Android cannot be put together in {kept}: {error}",
            hint="it needs about 500 MB while it is made; XDG_CACHE_HOME names another place",
        ) from error


def read(path: Path) -> Bundle:
    """A bundle that was made here or elsewhere, read to its end.

    Raises:
        BundleError: The file is no bundle, is damaged, or is of another format.
    """
    try:
        with gzip.open(path) as zipped:
            with tarfile.open(fileobj=zipped, mode="r|") as archive:
                members = iter(archive)
                first = next(members, None)
                opened = archive.extractfile(first) if first is not None and first.name == _MANIFEST else None
                if opened is None:
                    raise BundleError(f"{path} is no bundle: it does not begin with {_MANIFEST}")
                manifest = json.load(opened)
                if not isinstance(manifest, dict):
                    raise BundleError(f"{path} is no bundle: its {_MANIFEST} is not one")
                size = sum(member.size for member in members)
            while zipped.read(_BLOCK):
                pass  # an archive ends before its checksum does
    except (OSError, tarfile.TarError, EOFError, ValueError, zlib.error) as error:
        raise BundleError(f"{path} is no bundle, or a damaged one: {error}", hint="make or copy it again") from error
    if manifest.get("format") != FORMAT or size != manifest.get("unpacked_size"):
        raise BundleError(
            f"{path} is of format {manifest.get('format')}, with {size} bytes of {manifest.get('unpacked_size')}; "
            f"this version reads format {FORMAT}",
            hint="make it again with the version of archsearch that is to use it",
        )
    return Bundle(
        path=path, sha256=_sha256(path), size=path.stat().st_size, unpacked_size=size,
        ort_version=str(manifest.get("onnxruntime")),
    )  # fmt: skip


def recipe(ort_version: str) -> str:
    """Hash of all that a bundle is made from, as far as it is decided here."""
    parts = [
        FORMAT, folders.SUITE, folders.ARCHITECTURE, folders.PYTHON, folders.LIBRARIES, folders.INTERPRETER,
        folders.PLATFORMS, folders.LEFT_OUT, folders.WHEELS_LEFT_OUT, folders.LAUNCHER, ort_version,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def pack(folder: Path, target: Path, manifest: dict[str, Any]) -> None:
    """Write a folder as a bundle. Equal content gives equal bytes: fixed order, times and owners."""
    entries = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in entries]
    head = json.dumps({"format": FORMAT, "unpacked_size": sum(sizes), **manifest}, indent=1).encode()
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        archive.addfile(_entry(_MANIFEST, len(head), 0o644), io.BytesIO(head))
        for path, size in zip(entries, sizes, strict=True):
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as content:
                archive.addfile(_entry(path.relative_to(folder).as_posix(), size, mode), content)


def _entry(name: str, size: int, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)  # its time is 0, and its owner 0
    entry.size, entry.mode = size, mode
    return entry


def _make(beside: Path, version: str, say: Callable[[str], None]) -> Path:
    parts = folders.lay_out(beside / "folder", version, beside=beside / "fetched", say=say)
    say("packing it")
    made = beside / "made.tar.gz"
    pack(beside / "folder", made, {"onnxruntime": version, "parts": [asdict(part) for part in parts]})
    return made


def _installed_version() -> str:
    try:
        return importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError as error:
        raise BundleError("onnxruntime is not installed here", hint="pip install onnxruntime") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
