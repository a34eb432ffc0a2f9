"""A Windows account over SSH, as far as Wine can be one: OpenSSH's server here, Windows' cmd.exe and Python behind it.

It needs `wine`, and in ARCHSEARCH_WINE_PYTHON the path of a Windows python.exe (3.10 or newer, with numpy and
onnxruntime for what measures). What is real: the Windows Python, its C runtime's splitting of command lines, our calls
of kernel32 in form. What is Wine's own: cmd.exe, kernel32, pipes. What is missing: OpenSSH's server for Windows, of
which `_SERVER` does what its source does for a command (win32compat/w32-doexec.c), and its SFTP.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PYTHON = os.environ.get("ARCHSEARCH_WINE_PYTHON", "")
MISSING = "" if shutil.which("wine") and Path(PYTHON).is_file() else "needs Wine and ARCHSEARCH_WINE_PYTHON"

_SERVER = r"""
import ctypes, os, subprocess, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import there
line = os.environ.pop("SSH_ORIGINAL_COMMAND")
os.chdir("C:/")
child = subprocess.Popen('"C:\\windows\\system32\\cmd.exe" /c "' + line + '"')
there.own_job(child)
os._exit(child.wait() & 255)
"""
_COMMAND = """#!{interpreter}
import os, subprocess, sys, threading
line = os.environ["SSH_ORIGINAL_COMMAND"]
if "sftp" in line.split()[0]:
    os.execv({sftp!r}, [{sftp!r}])
os.environ.update({environment!r})
process = subprocess.Popen(["wine", {python!r}, {server!r}], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
# Processes that Wine starts inherit the standard error of whoever started them, detached ones too: it must not be
# the channel's, whose end would never come.
def copy(source, target):
    while data := os.read(source.fileno(), 1 << 16):
        while data:
            data = data[os.write(target, data):]
copies = [threading.Thread(target=copy, args=pair, daemon=True) for pair in ((process.stdout, 1), (process.stderr, 2))]
for thread in copies:
    thread.start()
code = process.wait()
for thread in copies:
    thread.join(0.5)
os._exit(code & 255)
"""
_SFTP = next((path for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server") if Path(path).exists()), "")


def environment(prefix: Path) -> dict[str, str]:
    """What Wine needs to know; `prefix` is its own folder."""
    return {**os.environ, "WINEPREFIX": str(prefix), "WINEDEBUG": "-all", "WINEARCH": "win64"}


def make_prefix(prefix: Path) -> Path:
    """A new Windows 10 of Wine."""
    for command in (["wineboot", "-i"], ["winecfg", "-v", "win10"]):
        subprocess.run(
            ["wine", *command], env=environment(prefix), check=True, capture_output=True, timeout=300
        )  # fmt: skip
    return prefix


def end(prefix: Path) -> None:
    """Whatever runs there."""
    subprocess.run(["wineserver", "-k"], env=environment(prefix), check=False, capture_output=True, timeout=60)


def forced_command(folder: Path, prefix: Path) -> Path:
    """A program for sshd's ForceCommand: commands go to cmd.exe, files to the SFTP server of this machine."""
    from profiler.transports import _there

    server, command = folder / "server.py", folder / "command"
    (folder / "there.py").write_bytes(Path(str(_there.__file__)).read_bytes())
    server.write_text(_SERVER)
    own = {name: environment(prefix)[name] for name in ("WINEPREFIX", "WINEDEBUG", "WINEARCH")}
    command.write_text(
        _COMMAND.format(interpreter=sys.executable, sftp=_SFTP, environment=own, python=PYTHON, server=f"Z:{server}")
    )
    command.chmod(0o755)
    return command
