"""Packs `profiler.agent` into the one file that travels to a device: a zip that Python runs, equal on every host."""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache
from importlib import resources

_PACKAGE = "archsearch_agent"
_MAIN = f"import sys\n\nfrom {_PACKAGE}.main import main\n\nsys.exit(main(sys.argv[1:]))\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@cache
def agent_bytes() -> bytes:
    """The agent as a zip with `__main__.py` at its root.

    Fixed order and times, no compression (zlib's versions differ): equal sources give equal bytes on every host.
    """
    sources = {
        f"{_PACKAGE}/{entry.name}": entry.read_bytes()
        for entry in resources.files("profiler.agent").iterdir()
        if entry.name.endswith(".py")
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in [("__main__.py", _MAIN.encode()), *sorted(sources.items())]:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def agent_name() -> str:
    """File name with the hash of the content, so that several versions can stand side by side."""
    return f"agent-{hashlib.sha256(agent_bytes()).hexdigest()[:12]}.pyz"
