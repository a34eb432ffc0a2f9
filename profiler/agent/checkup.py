"""A closer look at the device than a job takes: what it is, what lies in the work folder, and who uses it now.

Everything is read from /proc and /sys, on Android from `getprop` and `dumpsys`. What a device does not show is None.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from .conditions import OtherLoad, busiest_others
from .folder import FOLDERS
from .lease import Lease
from .platforms import HERE, read_text
from .protocol import JobFailure, Json, read_json

_ANSWER_S = 5.0
_LOOK_S = 1.0
_MOST_JOBS = 200
_BUSY = 0.05
_FILLERS = ("to be filled", "system product name", "default string", "system manufacturer", "not specified", "o.e.m.")
"""What makers leave in firmware that should name the machine."""

_CHARGING = {"Charging": True, "Full": True, "Not charging": True, "Discharging": False}
"""Of /sys/class/power_supply; a battery that is not charging is held by its charger at what it has."""

_ANDROID_STATUS = {"2": "Charging", "3": "Discharging", "4": "Not charging", "5": "Full"}
"""Constants of Android's BatteryManager, as `dumpsys battery` shows them."""


def checkup(work: Path) -> Json:
    """Everything of this module; takes a little longer than a second, over which the load of others is taken."""
    load = OtherLoad(time.process_time)
    begun = time.monotonic()
    found: Json = {
        **identity(),
        "core_groups": core_groups(Path("/sys/devices/system/cpu")),
        "battery": battery(Path("/sys/class/power_supply")),
        "screen": _screen(),
        **contents(work),
    }
    busiest = busiest_others([os.getpid()], max(0.3, _LOOK_S - (time.monotonic() - begun)))
    found["other_cpu"] = other = load.since_mark()
    found["busiest"] = busiest if other is not None and other > _BUSY else None
    return found


def _said(*command: str) -> str | None:
    """What a program of Android answers; None where there is none, or it does not answer in time."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True, timeout=_ANSWER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() or None


def _named(*parts: str | None) -> str | None:
    """The parts that say something, joined; a maker that the model begins with is not said twice."""
    good = [part for part in parts if part and not any(filler in part.lower() for filler in _FILLERS)]
    if len(good) == 2 and good[1].lower().startswith(good[0].lower()):
        del good[0]
    return " ".join(good) or None


def identity() -> Json:
    """What the device is called: `model`, `soc`, `os_build`."""
    if shutil.which("getprop"):
        props = {
            name: _said("getprop", f"ro.{name}")
            for name in ("product.manufacturer", "product.model", "soc.manufacturer", "soc.model", "build.fingerprint")
        }
        return {
            "model": _named(props["product.manufacturer"], props["product.model"]),
            "soc": _named(props["soc.manufacturer"], props["soc.model"]),
            "os_build": props["build.fingerprint"],
        }
    dmi, soc = Path("/sys/class/dmi/id"), Path("/sys/devices/soc0")
    # The last entry of a device tree's `compatible` is the most general: the chip, after the board.
    compatible = (read_text("/proc/device-tree/compatible") or "").split("\0")[-1]
    return {
        "model": read_text("/proc/device-tree/model")
        or _named(read_text(dmi / "sys_vendor"), read_text(dmi / "product_name")),
        "soc": _named(read_text(soc / "family"), read_text(soc / "machine")) or compatible or None,
        "os_build": _os_build(),
    }


def _os_build() -> str | None:
    """Of systems that are built as images: SteamOS, rolling releases."""
    lines = (read_text("/etc/os-release") or "").splitlines()
    return next((line[9:].strip("'\"") for line in lines if line.startswith("BUILD_ID=")), None)


def core_groups(folder: Path) -> list[Json]:
    """Cores with the same highest clock, fastest first: their ids, the clock in MHz, and how many are physical.

    Args:
        folder: /sys/devices/system/cpu.
    """
    groups: dict[float | None, list[tuple[int, str]]] = {}
    for core in folder.glob("cpu[0-9]*"):
        if not core.name[3:].isdigit() or read_text(core / "online") == "0":
            continue
        text = read_text(core / "cpufreq" / "cpuinfo_max_freq")
        mhz = int(text) / 1000 if text is not None and text.isdigit() else None
        siblings = read_text(core / "topology" / "thread_siblings_list") or core.name[3:]
        groups.setdefault(mhz, []).append((int(core.name[3:]), siblings))
    return [
        {
            "cores": sorted(number for number, _ in cores),
            "max_mhz": mhz,
            "physical": len({siblings for _, siblings in cores}),
        }
        for mhz, cores in sorted(groups.items(), key=lambda item: -(item[0] or 0.0))
    ]


def battery(folder: Path) -> Json | None:
    """The device's own battery: `level_percent`, `status` and `on_power`; None where there is none.

    Args:
        folder: /sys/class/power_supply.
    """
    told = _said("dumpsys", "battery")
    if told is not None:
        fields = dict(line.strip().split(": ", 1) for line in told.splitlines() if ": " in line)
        if fields.get("present", "true") != "true" or not fields.get("level", "").isdigit():
            return None
        scale = int(fields["scale"]) if fields.get("scale", "").isdigit() else 100
        powered = [value == "true" for name, value in fields.items() if name.endswith(" powered")]
        status = _ANDROID_STATUS.get(fields.get("status", ""))
        return {
            "level_percent": round(100 * int(fields["level"]) / max(1, scale), 1),
            "status": status,
            "on_power": any(powered) if powered else _CHARGING.get(status or ""),
        }
    for supply in sorted(folder.glob("*")):
        # `scope` is Device for batteries of mice and headsets.
        if read_text(supply / "type") == "Battery" and read_text(supply / "scope") != "Device":
            level, status = read_text(supply / "capacity"), read_text(supply / "status")
            return {
                "level_percent": float(level) if level is not None and level.isdigit() else None,
                "status": status,
                "on_power": _CHARGING.get(status or ""),
            }
    return None


def _screen() -> str | None:
    """Android's word for it: Awake, Dreaming, Dozing or Asleep."""
    for line in (_said("dumpsys", "power") or "").splitlines():
        name, _, value = line.strip().partition("=")
        if name == "mWakefulness" and value:
            return value
    return None


def contents(work: Path) -> dict[str, Any]:
    """What the work folder holds: `lease`, `jobs`, `weights_mib`, and `free_mib` of its disk."""
    try:
        free: float | None = round(shutil.disk_usage(work).free / 2**20, 1)
    except OSError:
        free = None
    return {
        "lease": _lease(work / "lease"),
        "jobs": [_job(folder) for folder in _ours(work / "jobs")[:_MOST_JOBS]],
        "weights_mib": round(sum(map(_bytes, _ours(work / "weights"))) / 2**20, 2),
        "free_mib": free,
    }


def _ours(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if FOLDERS[folder.name].fullmatch(path.name))


def _lease(path: Path) -> Json | None:
    held = Lease(path).look()
    if held is None:
        return None
    pid, label, since = held.get("pid"), held.get("label"), held.get("since_unix")
    return {
        "pid": pid if isinstance(pid, int) else None,
        "label": str(label or "")[:200],
        "seconds": max(0.0, round(time.time() - since, 1)) if isinstance(since, (int, float)) else None,
    }


def _job(folder: Path) -> Json:
    try:
        status = read_json(folder / "status.json")
    except JobFailure:
        status = {}
    pid, state = status.get("pid"), status.get("state")
    running = isinstance(pid, int) and pid > 1 and state != "done" and HERE.runs(pid, folder.name)
    return {"id": folder.name, "state": str(state)[:40] if state else None, "pid": pid if running else None}


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += 0 if path.is_dir() else path.lstat().st_size
        except OSError:
            continue
    return total
