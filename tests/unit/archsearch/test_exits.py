"""Every error has its exit code, and a bug is told as one."""

from __future__ import annotations

import inspect

import pytest
import typer

from archsearch import errors as own
from archsearch.cli import exits
from profiler import errors as profiler
from reports import errors as reports
from search_space import errors as search_space

CODES = {
    profiler.TransportError: 3, profiler.DeviceUnavailable: 3, profiler.AgentDied: 5, profiler.ResultError: 5,
}  # fmt: skip


def errors_of(*modules):
    return [
        kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__
    ]  # fmt: skip


def code_of(error: BaseException) -> int:
    app = typer.Typer()

    @app.command()
    def command() -> None:
        raise error

    import sys

    before, sys.argv = sys.argv, ["archsearch"]
    try:
        return exits.guarded(app)
    finally:
        sys.argv = before


@pytest.mark.parametrize("kind", errors_of(own, profiler, reports, search_space))
def test_an_expected_error_is_a_message(kind, capsys):
    wanted = next((code for base, code in CODES.items() if issubclass(kind, base)), 2)
    try:
        error = kind("it is broken", hint="mend it")
    except TypeError:
        error = kind(["it is broken"])
    assert code_of(error) == wanted
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert "archsearch: " in shown.err


def test_a_hint_follows_the_message(capsys):
    code_of(own.StoreError("the store is gone", hint="look behind the sofa"))
    assert capsys.readouterr().err == "archsearch: the store is gone\n  try: look behind the sofa\n"


def test_a_message_cannot_write_on_the_terminal(capsys):
    assert code_of(profiler.DeviceUnavailable("box: \x1b[2Jgone\x9b31m", hint="\x07")) == 3
    assert capsys.readouterr().err == "archsearch: box: [2Jgone31m\n  try: \n"


@pytest.mark.parametrize("code", [0, 2, 3, 5, 130])
def test_a_command_says_its_code(code):
    assert code_of(exits.CommandError("so", code=code)) == code
    assert code_of(typer.Exit(code)) == code


def test_a_bug_shows_where_it_is(capsys):
    assert code_of(KeyError("oops")) == 4
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "this is a bug in archsearch" in shown


def test_an_interruption_is_no_bug(capsys):
    assert code_of(KeyboardInterrupt()) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_an_operating_system_error_is_a_message(capsys):
    assert code_of(PermissionError(13, "Permission denied", "/x")) == 2
    assert "/x" in capsys.readouterr().err
