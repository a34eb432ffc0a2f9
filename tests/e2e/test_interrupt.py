"""Ctrl-C before a command has begun its work: one line and the usual exit code, whatever is being imported."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.e2e.conftest import TINY, Cli, Done

DURING_IMPORT = """
    import os, signal, sys
    module, how, *arguments = sys.argv[1:]

    class Interrupt:
        '''Ctrl-C is pressed when a module is looked for; `swallow` keeps the exception, as some libraries do.'''

        def find_spec(self, name, path=None, target=None):
            if name != module:
                return
            sys.meta_path.remove(self)
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000):  # the handler runs between two instructions
                    pass
            except BaseException:
                if how == "raise":
                    raise

    sys.meta_path.insert(0, Interrupt())
    sys.argv = ["archsearch", *arguments]
    from archsearch.cli.main import main
    main()
"""


def interrupted(cli: Cli, module: str, how: str, *arguments: str) -> Done:
    code = [sys.executable, "-c", textwrap.dedent(DURING_IMPORT), module, how, *arguments]
    done = subprocess.run(code, cwd=cli.folder, capture_output=True, text=True, timeout=60, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("how", ["raise", "swallow"])
@pytest.mark.parametrize("module", ["typer", "archsearch.cli.app", "archsearch.cli.run", "archsearch.configuration"])
def test_ctrl_c_during_imports_is_one_line(cli: Cli, module: str, how: str):
    done = interrupted(cli, module, how, "run", *TINY, "--study", "early", "--trials", "50")
    assert (done.code, done.out, done.err) == (130, "", "archsearch: stopped\n")
    assert cli.jobs() == []


def test_ctrl_c_in_a_command_that_keeps_nothing_is_one_line(cli: Cli):
    done = interrupted(cli, "search_space.notation", "raise", "describe", "lfm2.5-350m")
    assert (done.code, done.out, done.err) == (130, "", "archsearch: stopped\n")
