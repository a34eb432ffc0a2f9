"""The `needs` marker: what a test needs beside the pinned dependencies, and what to install when it is missing.

No test is judged by its time: two cores run many at once.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.phone import Phone
from tests.phone import missing as missing_for_a_phone
from tests.phone_root import CACHE

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before anything imports onnxruntime
settings.register_profile("archsearch", deadline=None)
settings.load_profile("archsearch")

DEBIAN_POSTGRES = sorted(str(path) for path in Path("/usr/lib/postgresql").glob("*/bin"))
"""Debian keeps the server's programs outside PATH."""

MODULES = {
    "onnxruntime_genai": "pip install onnxruntime-genai",
    "transformers": "pip install transformers",
    "psycopg": "pip install 'psycopg[binary]'",
}
COMMANDS = {
    "sshd": "apt-get install openssh-server",
    "chromium": "apt-get install chromium",
    "postgres": "apt-get install postgresql",
    "make": "apt-get install make",
}


def _missing(thing: str) -> str | None:
    """How to install a thing that is not here; None when it is."""
    if thing == "phone":
        return missing_for_a_phone()
    if thing in COMMANDS:
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", *DEBIAN_POSTGRES])
        return None if shutil.which(thing, path=path) else COMMANDS[thing]
    if thing not in MODULES:
        raise pytest.UsageError(f"needs({thing!r}): not in tests/conftest.py; add it with how to install it")
    return None if importlib.util.find_spec(thing) else MODULES[thing]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests, and the processes they start, keep exported modules in a folder of their own: one for all workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("ARCHSEARCH_TEST_CACHE", str(CACHE))
        yield


@pytest.fixture(scope="session")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    """A phone that is on, for all tests of this process; who unplugs it plugs it in again. Its tests need `phone`."""
    phone = Phone(tmp_path_factory.mktemp("phone"))
    phone.start()
    yield phone
    phone.stop()


@pytest.fixture(scope="session")
def phone_python(phone: Phone) -> str:
    """Path of a `python.sh` on `phone`: Python with onnxruntime, as phones are given it."""
    from tests.phone_python import give_python

    return give_python(phone)


def _one_torch_thread() -> None:
    """Tiny products are slower on many threads, and very slow where others use the cores."""
    torch = sys.modules.get("torch")  # whoever needs it has imported it, or is about to
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    _one_torch_thread()
    absent = {
        thing: how for mark in item.iter_markers("needs") for thing in mark.args if (how := _missing(thing)) is not None
    }
    if not absent:
        return
    message = "needs " + "; ".join(f"{thing} ({how})" for thing, how in absent.items())
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(f"{message}: a missing part is a failure under CI", pytrace=False)
    pytest.skip(message)
