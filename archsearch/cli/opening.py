"""Opening devices for a command: reads the device file, opens what is enabled, says what is not usable."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from archsearch.cli.exits import NO_DEVICE, CommandError
from archsearch.cli.output import console

if TYPE_CHECKING:
    from profiler.devices import Device
    from profiler.runner import DeviceSession


def chosen_devices(path: Path, names: Sequence[str] | None) -> list[Device]:
    """The named devices of a file, or all enabled ones; at least one. None of them is opened.

    Raises:
        ConfigError: The device file has mistakes.
        CommandError: An unknown or disabled device was named, or none is enabled.
    """
    from profiler.device_files import load_devices

    file = load_devices(path)
    if names:
        known = {device.name: device for device in file.devices}
        for name in names:
            if name not in known:
                raise CommandError(f"{path} has no device {name!r}; it has {', '.join(known)}")
            if not known[name].enabled:
                raise CommandError(f"device {name!r} is not enabled", hint=f"set `enabled: true` for it in {path}")
        chosen = [known[name] for name in dict.fromkeys(names)]
    else:
        chosen = list(file.enabled())
    if not chosen:
        raise CommandError(f"no device of {path} is enabled", code=NO_DEVICE, hint=f"set `enabled: true` in {path}")
    return chosen


def _opened(session: DeviceSession) -> DeviceSession:
    session.open()
    return session


@contextmanager
def open_devices(
    path: Path,
    names: Sequence[str] | None,
    *,
    needed: str | None = None,
    otherwise: str = "",
    lost: dict[str, str] | None = None,
) -> Iterator[list[DeviceSession]]:
    """Sessions of the chosen devices, or of all enabled ones; at least one.

    Args:
        path: The device file.
        names: Devices, or None for all that are enabled.
        needed: A device or group without which nothing is to be begun: some device of it must be open.
        otherwise: What to do instead, for the message that it is not.
        lost: Filled with the devices that cannot be used, and why.

    Raises:
        ConfigError: The device file has mistakes.
        CommandError: An unknown or disabled device was named, none can be used, or what is needed cannot.
    """
    from profiler.errors import DeviceUnavailable, TransportError
    from profiler.runner import DeviceSession

    chosen = chosen_devices(path, names)
    sessions: list[DeviceSession] = []
    messages: dict[str, str] = {}
    with ExitStack() as stack, ThreadPoolExecutor(max_workers=len(chosen)) as threads:
        opening = {device.name: threads.submit(_opened, DeviceSession(device)) for device in chosen}
        for name, future in opening.items():
            try:
                session = future.result()
            except (TransportError, DeviceUnavailable) as error:
                hint = f" (try: {error.hint})" if error.hint else ""
                messages[name] = f"{name}: {error}{hint}"
                if lost is not None:
                    lost[name] = str(error)
            else:
                stack.callback(session.close)
                sessions.append(session)
        if not sessions:
            raise CommandError("\n".join(["no device can be used", *messages.values()]), code=NO_DEVICE)
        if needed is not None and all(session.device.pool != needed for session in sessions):
            why = [messages[device.name] for device in chosen if device.pool == needed]
            if why:
                first = f"{needed} alone counts (--across), and cannot be used"
                raise CommandError("\n".join([first, *why]), code=NO_DEVICE, hint=f"mend it, or {otherwise}")
            raise CommandError(
                f"{needed} alone counts (--across), and is not among the devices of this run",
                code=NO_DEVICE,
                hint=f"enable it in {path} and name it with --device, or {otherwise}",
            )
        for message in messages.values():
            console(stderr=True).print(f"archsearch: left out: {message}")
        yield sessions


@contextmanager
def stop_on_signals() -> Iterator[Event]:
    """An event that Ctrl-C or SIGTERM sets; a second one ends the program at once."""
    import signal

    event = Event()
    told = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal told
        if not event.is_set():
            event.set()
            os.write(2, b"archsearch: stopping, once more stops at once\n")
            return
        if not told:  # the devices' threads may take a while to end, and the keys are pressed again
            told = True
            os.write(2, b"archsearch: stopped at once; everything measured so far is saved\n")
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
