"""Errors of profiler.

ProfilerError
├── ConfigError            devices.yaml is wrong: every mistake, with file and line
├── WorkloadError          a text that names no workload
├── JobError               a job that cannot be asked for
├── ForeignModelError      an ONNX file that this harness cannot drive: which input, and why
├── ResultError            what an agent wrote is not a result
├── AgentDied              the agent ended, or stopped, without a result
├── BundleError            a Python for phones cannot be made here, or a file is none
├── DeviceUnavailable      the device cannot measure now (no Python, no onnxruntime, no answer)
└── TransportError         moving bytes or starting commands failed
    ├── UnsupportedTransport   no transport of that name here
    ├── AccessRefused          the device, or we, refuse the link: a key is unknown, changed or not taken
    ├── ConnectionLost         the link broke; the only error that is ever tried again
    ├── CommandTimeout         a command ran longer than it was given
    ├── TransferError          what arrived is not what was sent
    └── RemoteFileMissing      the file is not on the device
"""

from __future__ import annotations

from collections.abc import Sequence


class ProfilerError(Exception):
    """Root of this package's errors.

    Attributes:
        hint: What to try next, one sentence, or None.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(ProfilerError):
    """A device file with mistakes.

    Attributes:
        problems: One line per mistake, `file:line: what is wrong`, in file order.
    """

    def __init__(self, problems: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems: tuple[str, ...] = tuple(problems)


class WorkloadError(ProfilerError):
    """A text that names no workload, or sizes that cannot be run."""


class JobError(ProfilerError):
    """A job whose fields contradict each other."""


class ForeignModelError(ProfilerError):
    """An ONNX file that cannot be read, or has an input that is not understood."""


class ResultError(ProfilerError):
    """Bytes from an agent that are not a valid result, status or environment."""


class AgentDied(ProfilerError):  # noqa: N818 - an event, named as the caller reads it
    """The agent's process is gone, or its heartbeat stopped, and there is no result."""


class BundleError(ProfilerError):
    """A Python for phones could not be put together, or the file given is not one."""


class DeviceUnavailable(ProfilerError):  # noqa: N818 - a state of the device
    """The device cannot measure: it does not answer, or lacks Python, numpy or onnxruntime."""


class TransportError(ProfilerError):
    """A device could not be reached, or a file operation on it failed."""


class UnsupportedTransport(TransportError):  # noqa: N818
    """The device file names a transport that this version does not have."""


class AccessRefused(TransportError):  # noqa: N818
    """The device does not let us in, or we do not trust it; trying again changes nothing."""


class ConnectionLost(TransportError):  # noqa: N818
    """The link to the device broke. The work on the device goes on."""


class CommandTimeout(TransportError):  # noqa: N818
    """A command ran longer than it was given and was killed."""


class TransferError(TransportError):
    """A file arrived with another size or checksum, or is larger than allowed."""


class RemoteFileMissing(TransportError):  # noqa: N818
    """A file or folder does not exist on the device."""
