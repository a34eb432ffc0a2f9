"""What a device file may say: which devices there are, how each is reached, and what a measurement on it may use."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from profiler.errors import ConfigError
from profiler.yaml_errors import did_you_mean

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NO_WORD = frozenset("'`\"$;&<>|(){}")
_PROVIDERS = (
    "CPUExecutionProvider", "XnnpackExecutionProvider", "NnapiExecutionProvider", "QNNExecutionProvider",
    "CUDAExecutionProvider", "ROCMExecutionProvider", "MIGraphXExecutionProvider", "OpenVINOExecutionProvider",
    "DmlExecutionProvider", "WebGpuExecutionProvider", "CoreMLExecutionProvider", "VitisAIExecutionProvider",
    "TensorrtExecutionProvider", "AzureExecutionProvider",
)  # fmt: skip


def physical_cores() -> int:
    """Physical cores that this process may use: a number of at least 1, never "let the runtime decide"."""
    import psutil

    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    process = psutil.Process()
    allowed = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else physical
    return int(max(1, min(physical, allowed)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An ONNX Runtime execution provider and its options, as text."""

    name: str
    options: Mapping[str, str]


def _read_providers(value: object) -> tuple[Provider, ...]:
    if isinstance(value, tuple) and all(isinstance(item, Provider) for item in value):
        return value
    if not isinstance(value, list) or not value:
        raise ValueError(
            "must be a list such as [CPUExecutionProvider] or [{QNNExecutionProvider: {backend_type: htp}}]"
        )
    found: list[Provider] = []
    for item in value:
        pair = {item: {}} if isinstance(item, str) else item
        if not isinstance(pair, dict) or len(pair) != 1:
            raise ValueError(f"each entry is a name or {{name: options}}, not {item!r}")
        ((name, options),) = pair.items()
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9]+ExecutionProvider", name):
            raise ValueError(f"{name!r} is no execution provider{did_you_mean(name, _PROVIDERS)}")
        options = {} if options is None else options
        if not isinstance(options, dict) or not all(isinstance(v, str | int | float) for v in options.values()):
            raise ValueError(f"the options of {name} must be a mapping of names to text or numbers")
        text = {str(key): str(v).lower() if isinstance(v, bool) else str(v) for key, v in options.items()}
        found.append(Provider(name=name, options=text))
    if len({provider.name for provider in found}) < len(found):
        raise ValueError("names a provider twice")
    return tuple(found)


_OPTION_SCHEMA = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
Providers = Annotated[
    tuple[Provider, ...],
    BeforeValidator(_read_providers),
    WithJsonSchema({
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [
            {"type": "string", "examples": list(_PROVIDERS)},
            {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": _OPTION_SCHEMA},
        ]},
    }),
]  # fmt: skip


def _printable(value: str) -> str:
    """No control character ends a file name or moves a terminal's cursor."""
    if not value.isprintable():
        raise ValueError("must hold printable characters only")
    return value


def _plain_word(value: str) -> str:
    """As OpenSSH holds it: what may become part of a command (ProxyCommand, Match exec) is neither option nor code."""
    if value.startswith("-") or any(char.isspace() or char in _NO_WORD for char in value):
        raise ValueError("must be one word that does not start with '-', without quotes and signs that a shell reads")
    return value


def _jumps(value: str) -> str:
    for hop in value.split(","):
        _plain_word(hop.strip())
    return value


def _absolute(value: str) -> str:
    if not value.startswith(("/", "~/")):
        raise ValueError("must be an absolute path or start with ~/")
    return value


def _from_the_root(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("must be an absolute path: a phone's shell has no home")
    return value


def _program(value: str) -> str:
    if value.startswith("~"):
        raise ValueError("must be a name such as python3.12 or an absolute path such as /home/me/venv/bin/python")
    return value


Text = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_printable)]
Folder = Annotated[Text, AfterValidator(_absolute)]
PlainWord = Annotated[Text, AfterValidator(_plain_word)]
Count = Annotated[int, Field(ge=1, le=4096)]
Port = Annotated[int, Field(ge=1, le=65535)]
CoreId = Annotated[int, Field(ge=0, le=4095)]


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )


class Cooling(_Strict):
    """What must hold before a measurement starts; otherwise its status is `not_cooled`."""

    max_temperature_c: float | None = Field(
        default=None,
        gt=0,
        le=150,
        description="Hottest sensor allowed at the start, in °C; omit to ignore temperature.",
    )
    max_other_cpu: float = Field(
        default=0.10, gt=0, le=1, description="Share of all cores that other programs may use, 0 to 1."
    )
    timeout_s: float = Field(default=60.0, ge=0, le=3600, description="How long to wait for it.")


class DeviceFields(_Strict):
    """What every device has, whatever its transport."""

    name: str = Field(
        description="Letters, digits, '.', '_' and '-'; at most 64. It names results: keep it.",
        json_schema_extra={"pattern": f"^{_NAME.pattern}$"},
    )
    enabled: bool = Field(default=True, description="Whether runs use it.")
    group: str | None = Field(
        default=None,
        description="Name shared by devices of one make and model: a search measures each candidate on one of them, "
        "and shows the group as one device. Default: the device's own name.",
        json_schema_extra={"pattern": f"^{_NAME.pattern}$"},
    )
    cores: Annotated[tuple[CoreId, ...], Field(min_length=1, strict=False)] | None = Field(
        default=None, description="Ids of the cores to run on; omit to allow all."
    )
    providers: Providers = Field(
        default=(Provider(name="CPUExecutionProvider", options={}),),
        description="Execution providers in order of preference: names, or {name: {option: value}}.",
        json_schema_extra={"default": ["CPUExecutionProvider"]},
    )
    memory_limit_mib: int | None = Field(
        default=None, ge=16, le=2**24, description="Memory of the agent's worker in MiB; above it: out_of_memory."
    )
    cooling: Cooling = Field(default=Cooling(), description="What must hold before a measurement starts.")
    clock_policy: Literal["stock", "fixed"] = Field(
        default="stock",
        description="`fixed`: clocks do not move, by `clock_mhz` or by your own doing. Each is a series of its own.",
    )
    clock_mhz: int | None = Field(
        default=None,
        ge=100,
        le=10000,
        description="With clock_policy fixed: the clock that cores are set to for each job, and back after it (root).",
    )
    timeout_s: float = Field(
        default=300.0,
        gt=0,
        le=86400,
        description="Longest time for one candidate, in seconds; grows with prompts beyond 4096 tokens.",
    )
    lease_timeout_s: float = Field(
        default=3600.0,
        ge=0,
        le=86400,
        description="How long to wait for somebody else's measurement to end, in seconds.",
    )
    reconnect_s: float = Field(
        default=300.0,
        ge=0,
        le=86400,
        description="How long a device that went away while it was in use is waited for, in seconds.",
    )

    @property
    def pool(self) -> str:
        """Its group, or its own name where it has none."""
        return self.group or self.name

    @field_validator("name", "group")
    @classmethod
    def _safe_name(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError("must be letters, digits, '.', '_' or '-', start with a letter or digit, at most 64 long")
        return value

    @model_validator(mode="after")
    def _across_fields(self) -> DeviceFields:
        for _, message in cross_checks(self.model_dump(mode="python")):
            raise ValueError(message)
        return self


def _local_threads(data: dict[str, Any]) -> int:
    cores = data.get("cores")
    return len(cores) if cores else physical_cores()


class LocalDevice(DeviceFields):
    """The machine that runs `archsearch`."""

    transport: Literal["local"]
    threads: Count = Field(
        default_factory=_local_threads,
        description="Threads of the runtime; default: its physical cores.",
    )
    work_dir: Folder = Field(
        default="~/.cache/archsearch", description="Folder for the agent, weights and jobs: an absolute path or ~/..."
    )
    python: Annotated[Text, AfterValidator(os.path.expanduser)] | None = Field(
        default=None, description="Python that has numpy and onnxruntime; default: this one."
    )


class SshDevice(DeviceFields):
    """A machine reached by SSH."""

    transport: Literal["ssh"]
    host: PlainWord = Field(description="Name, address, or a Host of ~/.ssh/config.")
    port: Port | None = Field(default=None, description="TCP port; default: that of ~/.ssh/config, or 22.")
    user: PlainWord | None = Field(default=None, description="Default: that of ~/.ssh/config, or your own name.")
    key_file: Text | None = Field(
        default=None, description="Private key; default: those of ~/.ssh/config, of the agent and of ~/.ssh."
    )
    jump: Annotated[Text, AfterValidator(_jumps)] | None = Field(
        default=None, description="user@host:port to go through; several with commas between."
    )
    known_hosts: Text | None = Field(
        default=None,
        description="File of host keys beside that of `archsearch devices trust`; default: ~/.ssh/known_hosts.",
    )
    threads: Count | None = Field(default=None, description="Threads of the runtime; default: its physical cores.")
    work_dir: Folder = Field(
        default="~/.cache/archsearch", description="Folder on the device: an absolute path or ~/..."
    )
    python: Annotated[Text, AfterValidator(_program)] | None = Field(
        default=None,
        description="Python on the device that has numpy and onnxruntime; default: that of `archsearch devices setup`.",
    )


class AdbDevice(DeviceFields):
    """An Android device reached by ADB."""

    transport: Literal["adb"]
    connection: Literal["usb", "tcp", "server"] = Field(
        default="usb", description="usb: directly; tcp: host and port; server: a running adb server."
    )
    serial: PlainWord | None = Field(default=None, description="Serial number as `adb devices` shows it (usb, server).")
    host: PlainWord | None = Field(
        default=None, description="Address of the device (tcp) or of the adb server (server)."
    )
    port: Port | None = Field(default=None, description="Default: 5555 (tcp), 5037 (server).")
    threads: Count | None = Field(default=None, description="Threads of the runtime; default: its physical cores.")
    work_dir: Annotated[Text, AfterValidator(_from_the_root)] = Field(
        default="/data/local/tmp/archsearch", description="Folder on the device: an absolute path."
    )


Device = LocalDevice | SshDevice | AdbDevice
MODELS: dict[str, type[LocalDevice | SshDevice | AdbDevice]] = {
    "local": LocalDevice, "ssh": SshDevice, "adb": AdbDevice,
}  # fmt: skip


class DevicesFile(_Strict):
    """The whole file."""

    devices: Annotated[
        tuple[Annotated[Device, Field(discriminator="transport")], ...],
        Field(min_length=1, max_length=1000, strict=False, description="One entry per device."),
    ]

    def enabled(self) -> tuple[Device, ...]:
        """The devices that runs use, in file order."""
        return tuple(device for device in self.devices if device.enabled)

    def named(self, name: str) -> Device:
        """One device by name, enabled or not.

        Raises:
            ConfigError: No device has this name.
        """
        for device in self.devices:
            if device.name == name:
                return device
        names = [device.name for device in self.devices]
        raise ConfigError([f"no device {name!r}{did_you_mean(name, names)}"])


def cross_checks(device: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rules over several fields of one device, on plain values that may still be of wrong types."""
    found = []
    cores, threads = device.get("cores"), device.get("threads")
    if isinstance(cores, list | tuple) and all(isinstance(core, int) for core in cores):
        if len(set(cores)) < len(cores):
            found.append(("cores", f"cores: {list(cores)!r} names a core twice"))
        if type(threads) is int and len(set(cores)) < threads:
            found.append(("threads", f"threads: {threads} is more than the {len(set(cores))} cores listed in `cores`"))
    if device.get("clock_mhz") is not None and device.get("clock_policy") != "fixed":
        found.append(("clock_mhz", "clock_mhz: goes with `clock_policy: fixed`"))
    if device.get("transport") == "adb":
        connection, host, serial = device.get("connection", "usb"), device.get("host"), device.get("serial")
        if connection == "tcp" and not host:
            found.append(("connection", "connection: tcp needs `host`"))
        if connection == "tcp" and serial:
            found.append(("serial", "serial: goes with connection usb or server; for tcp give `host`"))
        if connection == "usb" and (host or device.get("port")):
            found.append(("host", "host and port go with connection tcp or server, not usb"))
    return found
