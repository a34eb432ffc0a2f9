"""Reads devices.yaml.

Every mistake in a file is found before the first is reported. The JSON schema for editors is generated from the models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from profiler.devices import MODELS, Cooling, DeviceFields, DevicesFile, cross_checks
from profiler.yaml_errors import Positions, Problems, did_you_mean, mistake_in_words, read_yaml

SCHEMA_NAME = "devices.schema.json"


def load_devices(path: Path) -> DevicesFile:
    """Read a device file.

    Raises:
        ConfigError: Every mistake in it, one `file:line: ...` each, with the wrong value and the allowed ones.
    """
    data, positions, problems = read_yaml(path)
    if not isinstance(data, dict):
        problems.add(positions.line, "the file must start with `devices:` and a list")
        problems.raise_if_any()
    devices = data.get("devices")
    file: DevicesFile | None = None
    try:
        file = DevicesFile.model_validate(data)
    except ValidationError as error:
        _report(error, data, positions, problems)
    if isinstance(devices, list):
        _check_list(devices, positions, problems)
    problems.raise_if_any(hint=f"`archsearch devices schema` prints what {path.name} may hold.")
    assert file is not None
    return file


def _check_list(devices: list[Any], positions: Positions, problems: Problems) -> None:
    first: dict[str, int] = {}
    _check_groups(devices, positions, problems)
    for index, device in enumerate(devices):
        if not isinstance(device, dict):
            continue
        name = device.get("name")
        if isinstance(name, str):
            line = positions.line_of(["devices", index, "name"])
            if name in first:
                problems.add(line, f"name: {name!r} is already the device on line {first[name]}")
            first.setdefault(name, line)
        for key, message in cross_checks(device):
            problems.add(positions.line_of(["devices", index, key]), message)
        if device.get("transport") not in list(MODELS):  # whatever its type: a key of a mapping must be hashable
            _check_common(device, index, positions, problems)


_ALIKE = ("transport", "threads", "cores", "providers", "memory_limit_mib", "clock_policy", "clock_mhz")
"""What devices of one group must have in common, or their numbers would differ for it."""


def _check_groups(devices: list[Any], positions: Positions, problems: Problems) -> None:
    first: dict[str, dict[str, Any]] = {}
    names = {
        name: device.get("group")
        for device in devices
        if isinstance(device, dict) and isinstance(name := device.get("name"), str)
    }
    for index, device in enumerate(devices):
        group = device.get("group") if isinstance(device, dict) else None
        if not isinstance(group, str):
            continue
        line = positions.line_of(["devices", index, "group"])
        if group in names and names[group] != group:
            problems.add(line, f"group: {group!r} is the name of a device that is not in it")
        other = first.setdefault(group, device)
        for key in _ALIKE:
            if device.get(key) != other.get(key):
                message = f"group: {group!r} is of like devices, and {key} is not that of {other.get('name')!r}"
                problems.add(line, message)


def _check_common(device: dict[str, Any], index: int, positions: Positions, problems: Problems) -> None:
    """What can still be said of a device whose transport is unknown."""
    known = {key: value for key, value in device.items() if key in DeviceFields.model_fields}
    try:
        DeviceFields.model_validate(known)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            path = ["devices", index, *item["loc"]]
            problems.add(positions.line_of(path), _message(path, item, DeviceFields))


def _report(error: ValidationError, data: dict[str, Any], positions: Positions, problems: Problems) -> None:
    for item in error.errors(include_url=False):
        path: list[str | int] = list(item["loc"])
        model: type[BaseModel] = DevicesFile
        if len(path) > 1 and path[0] == "devices":
            if len(path) > 2:
                model = MODELS[str(path.pop(2))]
                if path[2:3] == ["cooling"] and len(path) > 3:
                    model = Cooling
            if item["type"] == "value_error" and len(path) == 2:
                continue  # raised by _across_fields; _check_list says it with the right line
            device = data["devices"][path[1]]
            if item["type"].startswith("union_tag") and isinstance(device, dict):
                given = device.get("transport")
                text = "is missing" if given is None else f"{given!r} is unknown"
                message = f"transport: {text}{did_you_mean(given or '', list(MODELS))}"
                problems.add(positions.line_of([*path, "transport"]), message)
                continue
        if item["type"] == "default_factory_not_called" or (item["type"] == "too_short" and item["input"]):
            continue  # follows from a mistake that is reported by itself
        problems.add(positions.line_of(path), _message(path, item, model))


def _message(path: list[Any], item: Any, model: type[BaseModel]) -> str:
    """One mistake in words."""
    keys = [str(part) for part in path if isinstance(part, str)]
    field = ".".join(keys[1:] if keys[:1] == ["devices"] and len(keys) > 1 else keys) or "a device"
    return mistake_in_words(field, item, list(model.model_fields))


def devices_schema() -> dict[str, Any]:
    """JSON schema of devices.yaml, for editors that complete and check it."""
    schema = TypeAdapter(DevicesFile).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "archsearch devices"}


def devices_schema_text() -> str:
    """The schema as the text of `devices.schema.json`."""
    return json.dumps(devices_schema(), indent=2, ensure_ascii=False) + "\n"
