"""The `needs` marker skips with what to install, and fails under CI."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests import conftest


def item(*things: str) -> Any:
    return SimpleNamespace(iter_markers=lambda name: [SimpleNamespace(args=things)] if name == "needs" else [])


@pytest.fixture(autouse=True)
def absent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(conftest.COMMANDS, "no-such-command", "apt-get install nothing")
    monkeypatch.setitem(conftest.MODULES, "no_such_module", "pip install nothing")


def test_a_missing_part_skips_and_names_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no-such-command \(apt-get install nothing\); no_such_module"):
        conftest.pytest_runtest_setup(item("no-such-command", "no_such_module"))


def test_a_missing_part_fails_under_ci(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="pip install nothing"):
        conftest.pytest_runtest_setup(item("no_such_module"))


def test_what_is_there_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(conftest.MODULES, "json", "never")
    conftest.pytest_runtest_setup(item("json"))
    conftest.pytest_runtest_setup(item())


def test_an_unknown_part_is_an_error_and_not_a_skip():
    with pytest.raises(pytest.UsageError, match="typo"):
        conftest.pytest_runtest_setup(item("typo"))
