"""The emulated phone is one: adbd answers from an aarch64 machine that has Android's shell and nothing more."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from adb_shell.auth.keygen import keygen
from adb_shell.auth.sign_pythonrsa import PythonRSASigner
from adb_shell.exceptions import AdbConnectionError, AdbTimeoutError, DeviceAuthError, TcpTimeoutException

from tests.phone import Phone, connected

pytestmark = pytest.mark.needs("phone")


def test_it_is_a_machine_like_a_phone(phone: Phone):
    with connected(phone) as link:
        assert link.said("uname -m") == "aarch64"
        assert link.said("id -un; pwd; echo $HOME $TMPDIR") == "shell\n/\n/ /data/local/tmp"
        assert "MIRBSD KSH" in link.said("echo $KSH_VERSION")
        assert link.said("readlink $(which sha256sum)") == "toybox"
        assert link.said("env -i /system/bin/sh -c 'exec /system/bin/uname -m'") == "aarch64"
        for absent in ("python", "python3", "tr", "bash"):
            assert link.said(f"which {absent} || echo none") == "none"
        for absent in ("/tmp", "/dev/shm", "/usr", "/etc/ld.so.cache"):
            assert link.said(f"test -e {absent} || echo none") == "none"
        assert "Read-only" in link.said("touch /file")
        assert link.said("grep -c ^processor /proc/cpuinfo") == str(os.cpu_count())


def test_its_services_say_what_the_test_wants(phone: Phone):
    with connected(phone) as link:
        assert link.said("getprop ro.soc.model; getprop none default") == "SM8750\ndefault"
        assert "[ro.product.model]: [SM-S938B]" in link.said("getprop")
        assert "mWakefulness=Awake" in link.said("dumpsys power")
        power = phone.answers / "dumpsys/power"
        before = power.read_text()
        power.write_text(before.replace("Awake", "Asleep"))
        assert "mWakefulness=Asleep" in link.said("dumpsys power")
        power.write_text(before)
        assert "temperature: 273" in link.said("dumpsys battery")
        assert "Thermal Status: 0" in link.said("dumpsys thermalservice")
        assert link.said("dumpsys nothing") == "Can't find service: nothing"


def test_files_arrive_whole(phone: Phone):
    content = os.urandom(1 << 20)
    with connected(phone) as link:
        link.push(content, "/data/local/tmp/a file")
        assert link.said("sha256sum -b '/data/local/tmp/a file'").split()[0] == hashlib.sha256(content).hexdigest()
    assert (phone.data / "a file").read_bytes() == content
    (phone.data / "a file").unlink()


def test_what_runs_detached_outlives_adbd_but_not_a_reboot(tmp_path: Path):
    phone = Phone(tmp_path / "phone")
    phone.start()
    try:
        with connected(phone) as link:
            boot = link.said("cat /proc/sys/kernel/random/boot_id")
            pid = link.said("cd /data/local/tmp; trap '' HUP; setsid sleep 1000 </dev/null >log 2>&1 & echo $!")
            phone.restart_adbd()
            with pytest.raises((OSError, AdbConnectionError)):
                link.said("echo the link is broken")
        with connected(phone) as link:
            assert link.said(f"kill -0 {pid} && echo alive") == "alive"
            assert link.said("cat /proc/sys/kernel/random/boot_id") == boot
        phone.reboot()
        with connected(phone) as link:
            assert "alive" not in link.said(f"kill -0 {pid} && echo alive")
            assert link.said("cat /proc/sys/kernel/random/boot_id") != boot
            assert link.said("ls /data/local/tmp") == "log"
        phone.unplug()
        with pytest.raises(ConnectionRefusedError), connected(phone):
            pass
        phone.plug()
        phone.stop()
        with pytest.raises(ConnectionRefusedError), connected(phone):
            pass
        phone.start()
        with connected(phone) as link:
            assert link.said("ls /data/local/tmp") == "log"
    finally:
        phone.stop()


def test_an_orphan_that_ends_is_gone(phone: Phone):
    with connected(phone) as link:
        pid = link.said("trap '' HUP; setsid sleep 0.1 </dev/null >/dev/null 2>&1 & echo $!")
        until = time.monotonic() + 10
        while "alive" in link.said(f"kill -0 {pid} && echo alive"):
            assert time.monotonic() < until
            time.sleep(0.05)


def test_its_disk_may_be_full(phone: Phone, tmp_path: Path):
    small = Phone(tmp_path / "small", data_mib=8)
    small.start()
    try:
        with connected(small) as link:
            assert "No space left" in link.said("head -c 9000000 /dev/zero >/data/local/tmp/big")
        assert 7 << 20 < (small.data / "big").stat().st_size <= 8 << 20
        assert not (phone.data / "big").exists()
    finally:
        small.stop()


def signer(folder: Path) -> PythonRSASigner:
    keygen(str(folder / "key"))
    return PythonRSASigner((folder / "key.pub").read_text(), (folder / "key").read_text())


def test_one_that_asks_lets_in_whom_its_owner_allows(tmp_path: Path):
    phone = Phone(tmp_path / "phone", asks=True)
    phone.start()
    try:
        mine, other = signer(tmp_path), signer(tmp_path)
        with pytest.raises(DeviceAuthError), connected(phone):
            pass
        with pytest.raises((TcpTimeoutException, AdbTimeoutError)), connected(phone, mine, wait_s=0.5):
            pass
        assert phone.asked() is not None
        assert str(phone.asked()).split()[0] == mine.GetPublicKey().split()[0]
        phone.allow()
        with connected(phone, mine) as link:
            assert link.said("echo in") == "in"
        with pytest.raises((TcpTimeoutException, AdbTimeoutError)), connected(phone, other, wait_s=0.5):
            pass
        phone.reboot()
        with connected(phone, mine) as link:
            assert link.said("echo known") == "known"
    finally:
        phone.stop()


def test_nothing_is_left_of_it_when_the_test_dies(tmp_path: Path):
    code = (
        "import pathlib, sys, time; from tests.phone import Phone\n"
        f"phone = Phone(pathlib.Path({str(tmp_path)!r}) / 'phone'); phone.start()\n"
        "print(phone.port, flush=True); time.sleep(1000)"
    )
    test = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert test.stdout is not None
    assert int(test.stdout.readline()) > 0
    folder = str(tmp_path / "phone")

    def of_the_phone() -> list[Path]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                used = (process / "cmdline").read_bytes() + (process / "mountinfo").read_bytes()
            except OSError:
                continue
            if folder.encode() in used and process.name != str(os.getpid()):
                found.append(process)
        return found

    assert of_the_phone()
    test.send_signal(signal.SIGKILL)
    test.communicate()
    until = time.monotonic() + 20
    while of_the_phone():
        assert time.monotonic() < until
        time.sleep(0.05)
