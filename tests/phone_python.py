"""The Python that phones are given, on an emulated one: made and unpacked once, then copied."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from profiler.android import COMPILE, Bundle, bundle
from tests.phone import Link, Phone, connected
from tests.phone_root import CACHE


def kept_bundle() -> Bundle:
    """The bundle, kept between runs of the tests."""
    return bundle(say=print, folder=CACHE)


def unpack(link: Link, made: Bundle, folder: str) -> None:
    """Unpack it into a new folder on a phone, with the phone's own tools."""
    link.push(made.path.read_bytes(), f"{folder}.tar.gz")
    quoted = shlex.quote(folder)
    unpacked = f"mkdir {quoted} && cd {quoted} && tar -xzf {quoted}.tar.gz && rm {quoted}.tar.gz"
    assert link.said(f"{unpacked} && echo done", timeout_s=300) == "done"


def give_python(phone: Phone) -> str:
    """Put it on a phone, quickly; the path of its `python.sh` there."""
    made = kept_bundle()
    ready = CACHE / f"phone-python-{made.sha256[:12]}"
    with FileLock(CACHE / "phone-python.lock"):
        if not ready.exists():
            with tempfile.TemporaryDirectory(dir=CACHE, prefix="phone-python.partial.") as beside:
                other = Phone(Path(beside))
                other.start()
                try:
                    with connected(other) as link:
                        unpack(link, made, "/data/local/tmp/python")
                        compiled = f"cd /data/local/tmp/python && sh python.sh {shlex.join(COMPILE)}"
                        assert link.said(compiled, timeout_s=300) == ""
                finally:
                    other.stop()
                (other.data / "python").rename(ready)
    shutil.copytree(ready, phone.data / "python", symlinks=True)
    return "/data/local/tmp/python/python.sh"
