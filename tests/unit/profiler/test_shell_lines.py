"""Which shell an account has, and what can be said to it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from profiler.errors import TransportError
from profiler.transports._base import Completed, process_id
from profiler.transports._dialects import SCRIPTS, PosixDialect, PythonDialect
from profiler.transports._quoting import cmd_line, powershell_line, sh_line
from profiler.transports._shell import heard
from profiler.transports.ssh import _WHICH_SHELL, shell_of


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (b'"Windows_NT,$env:OS,"\r\n', cmd_line),
        (b"%OS%,Windows_NT,\r\n", powershell_line),
        (b"%OS%,:OS,\n", None),
        (b"", None),
    ],
)
def test_one_answer_tells_the_shells_apart(answer: bytes, line: object):
    assert shell_of(answer) is line


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_posix_shell_answers_as_neither(shell: str):
    done = subprocess.run([shell, "-c", _WHICH_SHELL], capture_output=True, check=True)
    assert done.stdout == b"%OS%,:OS,\n"
    assert shell_of(done.stdout) is None


def test_cmd_gets_carets_and_the_programs_name_in_quotes():
    line = cmd_line(["C:/Program Files/python.exe", "-c", "print('a b')", 'a"b', "c&d", "e\\"])
    assert line == '"C:/Program Files/python.exe" -c ^"print^(\'a b\'^)^" a\\^"b c^&d e\\'


@pytest.mark.parametrize("word", ["a\nb", "a\rb", "\0", "%PATH%", "100%"])
def test_cmd_is_not_given_what_it_cannot_pass_on(word: str):
    with pytest.raises(TransportError, match=r"cmd\.exe cannot pass on"):
        cmd_line(["python", word])


def test_cmd_has_a_longest_line():
    assert len(cmd_line(["python", "x" * 8182])) == 8191
    with pytest.raises(TransportError, match="8192 characters is too long"):
        cmd_line(["python", "x" * 8183])


def test_powershell_gets_single_quotes():
    line = powershell_line(["C:/it's here/python.exe", "-c", "$env:PATH; `whoami` | %{ $_ } \u2019"])
    said = "& 'C:/it''s here/python.exe' '-c' '$env:PATH; `whoami` | %{ $_ } \u2019\u2019'; exit $LASTEXITCODE"
    assert line == said


@pytest.mark.parametrize("word", ['a"b', "", "a\\", "a\nb", "\0"])
def test_powershell_is_not_given_what_it_loses(word: str):
    with pytest.raises(TransportError, match="PowerShell cannot pass on"):
        powershell_line(["python", word])


def test_what_varies_is_never_on_the_command_line():
    for line in (sh_line, cmd_line, powershell_line):
        dialect = PythonDialect(line, "C:/Python/python.exe", windows=line is not sh_line)
        lines = {dialect.command("remove", name, "'\"%\n\udcff", "^&") for name in ("a", "b")}
        assert len({command for command, _ in lines}) == 1
        assert all(len(command) < 200 for command, _ in lines)


def test_the_program_leaves_the_rest_of_its_input_alone():
    command, head = PythonDialect(sh_line, sys.executable, windows=False).command("run", "/", "cat")
    done = subprocess.run(["sh", "-c", command], input=head + b"rest\0of it", capture_output=True, check=True)
    assert done.stdout == b"\x1ehere\x1e\nrest\0of it"


def test_the_program_ends_when_its_input_is_cut_short():
    command, head = PythonDialect(sh_line, sys.executable, windows=False).command("nothing")
    for size in (0, 10, 200, len(head) - 1):
        done = subprocess.run(["sh", "-c", command], input=head[:size], capture_output=True, timeout=20, check=False)
        assert b"here" not in done.stdout


def test_paths_of_windows_have_drives_and_forward_slashes():
    dialect = PythonDialect(cmd_line, "python", windows=True)
    assert dialect.join("C:/Users/me/w", "jobs/1") == "C:/Users/me/w/jobs/1"
    assert dialect.join("C:/Users/me/w", "D:/else/where") == "D:/else/where"
    assert dialect.plain("C:/Users/me/w/../../x//y") == "C:/Users/x/y"
    assert dialect.absolute("C:/Users")
    assert not dialect.absolute("/home/me")
    assert dialect.for_sftp("C:/Users/me") == b"/C:/Users/me"
    assert PosixDialect().for_sftp("/jobs/\udcff") == b"/jobs/\xff"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not write")
def test_a_folder_that_may_not_be_written_is_said_in_words():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        command = ["sh", "-c", SCRIPTS["open"], "sh", folder]
        done = subprocess.run(command, capture_output=True, user=65534, cwd="/", timeout=20, check=False)
    assert (done.returncode, done.stderr) == (1, b"not writable\n")


@pytest.mark.parametrize(
    ("out", "err", "said"),
    [
        (b"Welcome\nThis account is \x1b[31mdisabled.\n", b"", "This account is \ufffd[31mdisabled."),
        (b"Welcome\n", b"no shell for you\n", "no shell for you"),
        (b"", b"", "exit code 1"),
        (b"x" * 5000, b"", "x" * 300),
    ],
)
def test_what_a_device_says_in_place_of_a_script_is_shown(out: bytes, err: bytes, said: str):
    with pytest.raises(TransportError) as caught:
        heard(Completed(exit_code=1, stdout=out, stderr=err))
    assert str(caught.value) == f"the device's shell does not run scripts: {said}"


@pytest.mark.parametrize(("said", "pid"), [(b" 17\n", 17), (b"", None), (b"-1", None), (b"9" * 5000, None)])
def test_a_process_id_has_few_digits(said: bytes, pid: int | None):
    assert process_id(said) == pid
