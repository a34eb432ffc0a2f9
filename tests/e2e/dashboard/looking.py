"""The dashboard as typed, and what tests read off its page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.browser import Screen

EVIL = "<img src=x onerror=alert(1)>"
"""A name that a page must show and never obey."""


class Server:
    """`archsearch dashboard`, as typed."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "archsearch.cli.main", "dashboard", *arguments, "--no-browser", "--port", "0"]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        found = re.match(r"(http://127\.0\.0\.1:\d+/)\?study=\S+    Ctrl-C ends it", self.said)
        assert found, self.said + self.end()[1]
        self.address = found[1]
        self.first = self.said.split()[0]

    def end(self) -> tuple[int, str]:
        """Ctrl-C; the exit code and what was said on stderr."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


def counts(seen: Screen) -> dict[str, int]:
    """Kinds of points as the line above the front says them."""
    text = seen.text("#counts").partition(" — ")[2]
    return {kind: int(number.replace(",", "")) for number, kind in re.findall(r"(\d[\d,]*) ([a-z ]+)", text)}


def points(seen: Screen, kind: str) -> list[tuple[float, float, str]]:
    """Values and ids of the points of a kind."""
    for trace in seen.figure("front")["data"]:
        if trace.get("name") == kind:
            x, y = values(trace["x"]), values(trace["y"])
            return [(a, b, key.split("~")[0]) for a, b, key in zip(x, y, trace["customdata"], strict=True)]
    return []


def values(column: object) -> list[float]:
    """Numbers of a trace; Plotly may pack them."""
    if isinstance(column, dict):
        import base64

        import numpy as np

        return [float(value) for value in np.frombuffer(base64.b64decode(column["bdata"]), dtype=column["dtype"])]
    assert isinstance(column, list)
    return column


def choose(seen: Screen, control: str, text: str) -> None:
    """Choose in a drop-down as a hand does."""
    seen.page.click(f"#{control}")
    seen.page.locator("[role=option], .dash-dropdown-option").filter(has_text=text).first.click()
    seen.settle()
