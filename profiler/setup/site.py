"""The place on a device where set-up works: a folder of its own, and commands that write nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from profiler.transports import Completed, Transport


class Site:
    """`WORK/python` while something is made in it.

    Attributes:
        transport: Open.
        root: Absolute path on the device.
        token: What is new ends in it; what does not when all is done is of an earlier set-up.
        scratch: Folder for what need not stay; it exists, and is removed at the end.
        say: Called with one sentence per step.
    """

    def __init__(self, transport: Transport, *, root: str, token: str, say: Callable[[str], None]) -> None:
        self.transport = transport
        self.root = root
        self.token = token
        self.scratch = f"{root}/scratch-{token}"
        self.say = say

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        """Run a command that keeps its temporary files in `scratch`, and no caches anywhere.

        The account's own settings of pip (a proxy, an index of its own) stay in force.

        Raises:
            CommandTimeout: It ran longer.
            RemoteFileMissing: There is no such program.
        """
        private = {
            "TMPDIR": self.scratch, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1", "PIP_NO_CACHE_DIR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0",
        }  # fmt: skip
        settings = [f"{name}={value}" for name, value in private.items()]
        return self.transport.run(["env", *settings, *argv], timeout_s=timeout_s, stdin=stdin)
