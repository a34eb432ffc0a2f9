"""The registry of transports: every module of this folder brings one, found by its presence.

To add one, write `profiler/transports/NAME.py` with a subclass of `Transport` whose `name` is the value of `transport:`
in devices.yaml. A module that does not import, or brings no transport, is an error and not a silent gap.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

from profiler.errors import TransportError, UnsupportedTransport
from profiler.transports._base import Completed, Transport

if TYPE_CHECKING:
    from profiler.devices import Device

__all__ = ["Completed", "Transport", "make_transport", "transports"]


@cache
def transports() -> dict[str, type[Transport]]:
    """Every transport of this version, by name.

    Raises:
        TransportError: A module of this folder does not import or brings no transport; mend or remove it.
    """
    found: dict[str, type[Transport]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        if module_info.name.startswith("_"):
            continue
        qualified = f"{__name__}.{module_info.name}"
        try:
            module = importlib.import_module(qualified)
        except Exception as error:
            raise TransportError(f"transport {qualified} does not import: {error}") from error
        classes = [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, Transport)
            and value.__module__ == qualified
            and not getattr(value, "__abstractmethods__", None)
        ]
        if len(classes) != 1:
            raise TransportError(f"{qualified} must define one complete Transport, and defines {len(classes)}")
        found[classes[0].name] = classes[0]
    return found


def make_transport(device: Device) -> Transport:
    """The unopened transport of a device.

    Raises:
        UnsupportedTransport: This version has no transport of that name; set `enabled: false`.
    """
    known = transports()
    if device.transport not in known:
        raise UnsupportedTransport(
            f"device {device.name!r} wants transport {device.transport!r}; this version measures over "
            f"{', '.join(sorted(known))} only",
            hint=f"Set `enabled: false` for {device.name!r} in the device file.",
        )
    return known[device.transport].from_device(device)
