"""devices.yaml: what is accepted, and how every mistake is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from profiler.device_files import SCHEMA_NAME, devices_schema, devices_schema_text, load_devices
from profiler.devices import AdbDevice, LocalDevice, SshDevice, physical_cores
from profiler.errors import ConfigError, TransportError, UnsupportedTransport
from profiler.transports import make_transport, transports

ROOT = Path(__file__).parents[3]


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "devices.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_devices(path)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def test_the_shipped_file():
    devices = load_devices(ROOT / "devices.yaml")
    assert [device.name for device in devices.enabled()] == ["local"]
    assert isinstance(devices.named("ryzen-ai-max-395"), SshDevice)
    assert isinstance(devices.named("galaxy-s25-ultra"), AdbDevice)
    first = (ROOT / "devices.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA_NAME}"


def test_the_shipped_schema_is_up_to_date():
    assert (ROOT / SCHEMA_NAME).read_text() == devices_schema_text(), (
        "write devices_schema_text() to devices.schema.json"
    )


def test_the_schema_names_every_transport_and_no_machine():
    text = devices_schema_text()
    assert {"LocalDevice", "SshDevice", "AdbDevice"} <= set(devices_schema()["$defs"])
    assert str(Path.home()) not in text


def test_a_local_device_has_a_number_of_threads(write):
    (device,) = load_devices(write("devices:\n  - {name: here, transport: local}")).devices
    assert isinstance(device, LocalDevice)
    assert device.threads == physical_cores() >= 1
    assert [provider.name for provider in device.providers] == ["CPUExecutionProvider"]


def test_threads_follow_the_listed_cores(write):
    (device,) = load_devices(write("devices: [{name: here, transport: local, cores: [3, 5, 7]}]")).devices
    assert device.threads == 3


def test_a_mistake_across_fields_is_told_once(write):
    with pytest.raises(ConfigError) as caught:
        load_devices(write("devices:\n  - name: b\n    transport: local\n    threads: 4\n    cores: [0, 1]\n"))
    (line,) = str(caught.value).splitlines()
    assert line.endswith(":4: threads: 4 is more than the 2 cores listed in `cores`")


def test_providers_take_options(write):
    text = (
        "devices:\n  - name: p\n    transport: local\n    providers:\n"
        "      - QNNExecutionProvider: {backend_type: htp, level: 3, fast: true}\n      - CPUExecutionProvider\n"
    )
    (device,) = load_devices(write(text)).devices
    assert [(p.name, dict(p.options)) for p in device.providers] == [
        ("QNNExecutionProvider", {"backend_type": "htp", "level": "3", "fast": "true"}),
        ("CPUExecutionProvider", {}),
    ]


def test_anchors_and_merge_keys_serve_racks(write):
    text = (
        "devices:\n  - &phone {name: a, transport: adb, serial: A, threads: 4}\n  - {<<: *phone, name: b, serial: B}\n"
    )
    a, b = load_devices(write(text)).devices
    assert isinstance(b, AdbDevice)
    assert (a.threads, b.threads, b.serial) == (4, 4, "B")


def test_all_mistakes_are_reported_at_once_with_their_lines(write):
    path = write(
        "devices:\n"
        "  - name: 12\n"
        "    transport: local\n"
        "    thread: 4\n"
        "    cooling: {max_temp_c: 3,\n"
        "      timeout_s: -1}\n"
        "  - name: a b\n"
        "    transport: sssh\n"
        "    cores: [1, 1]\n"
        "    enabled: yes\n"
        "  - name: x\n"
        "    transport: adb\n"
        "    connection: tcp\n"
        "    clock_policy: turbo\n"
        "    providers: [CPU]\n"
        "    threads: 0\n"
        "    threads: 3\n"
        "  - name: x\n"
        "    transport: local\n"
        "    cores: [0, 1]\n"
        "    threads: 4\n"
        "    memory_limit_mib: .inf\n"
        "  - 3\n"
        "  - name: y\n"
        "    transport: ssh\n"
        "device: 3\n"
    )
    found = problems(path)
    expected = [
        "2: name: must be text (quote it), not 12",
        "4: unknown key 'thread'; did you mean 'threads'?",
        "5: unknown key 'max_temp_c'; did you mean 'max_temperature_c'?",
        "6: cooling.timeout_s: must be greater than or equal to 0, not -1",
        "7: name: must be letters, digits",
        "8: transport: 'sssh' is unknown; did you mean 'ssh'? allowed: local, ssh, adb",
        "9: cores: [1, 1] names a core twice",
        "10: enabled: must be true or false, not 'yes'",
        "13: connection: tcp needs `host`",
        "14: clock_policy: 'turbo' is not allowed; allowed: 'stock', 'fixed'",
        "15: providers: 'CPU' is no execution provider",
        "16: threads: must be greater than or equal to 1, not 0",
        "17: key 'threads' is given twice (first on line 16)",
        "18: name: 'x' is already the device on line 11",
        "21: threads: 4 is more than the 2 cores listed in `cores`",
        "22: memory_limit_mib: must be a whole number, not inf",
        "23: devices: must be a mapping of keys to values, not 3",
        "24: host: is missing",
        "26: unknown key 'device'; did you mean 'devices'?",
    ]
    assert len(found) == len(expected), found
    for got, want in zip(found, expected, strict=True):
        assert got.startswith(want), (got, want)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: the file is empty"),
        ("  \n\n", "1: the file is empty"),
        ("# only a comment\n", "1: the file holds only comments"),
        ("devices: []", "1: devices: must not be empty"),
        ("devices:", "1: devices: must be a list, not None"),
        ("- a\n- b", "1: the file must start with `devices:`"),
        ("devices:\n  - {name: a", "not valid YAML"),
        ("devices:\n\t- name: a", "2: not valid YAML"),
        ("devices: [{transport: local}]", "1: name: is missing"),
        ("devices: [{name: a}]", "1: transport: is missing; allowed: local, ssh, adb"),
        ("devices: [{name: a, transport: local, work_dir: rel/ative}]", "work_dir: must be an absolute path"),
        ("devices: [{name: ../a, transport: local}]", "name: must be letters"),
        ("devices: [{name: a, transport: adb, work_dir: rel}]", "work_dir: must be an absolute path"),
        ("devices: [{name: a, transport: adb, work_dir: '-'}]", "work_dir: must be an absolute path"),
        ("devices: [{name: a, transport: adb, work_dir: ~/x}]", "work_dir: must be an absolute path"),
        (
            "devices: [{name: a, transport: ssh, host: b, python: ~/venv/bin/python}]",
            "python: must be a name such as python3.12 or an absolute path such as /home/me/venv/bin/python",
        ),
        ("devices: [{name: a, transport: [ssh]}]", "1: transport: ['ssh'] is unknown"),
        ("devices: [{name: a, transport: {x: y}}]", "1: transport: {'x': 'y'} is unknown"),
        ("devices: [{name: [a], transport: local, group: b}]", "1: name: must be text"),
        ("devices: [{name: {a: b}, transport: local, group: {c: d}}]", "1: name: must be text"),
        ("devices: [{name: a, transport: local, threads: true}]", "threads: must be a whole number, not True"),
        ("devices: [{name: a, transport: local, providers: []}]", "providers: must be a list"),
        ("devices: [{name: a, transport: local, cores: []}]", "cores: must not be empty"),
        ("devices: [{name: a, transport: local, cooling: {timeout_s: .nan}}]", "cooling.timeout_s: must be"),
        ("devices: [{name: a, transport: ssh, host: b, port: 99999}]", "port: must be less than or equal to 65535"),
        (b"devices:\n  - name: \xff\xfe", "2: not UTF-8 text (byte 0xff)"),
        ("a: &a [*a]", "1: refers to itself"),
        ("? [complex, key]\n: 1", "a key must be a word"),
        ("[" * 3000, "YAML"),
    ],
)  # fmt: skip
def test_broken_files_give_a_line(write, text: str | bytes, said: str):
    assert any(said in problem for problem in problems(write(text))), problems(write(text))


def test_unfolding_aliases_is_bounded(write):
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 10))
    assert any("unfolds into more" in problem for problem in problems(write("l0: &l0 [x, x]\n" + levels)))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such file") as caught:
        load_devices(tmp_path / "absent.yaml")
    assert caught.value.hint


def test_a_folder_is_no_file(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_devices(tmp_path)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="did you mean 'local'"):
        load_devices(ROOT / "devices.yaml").named("lokal")


@settings(max_examples=60)
@given(st.text(max_size=200))
@example("=")  # YAML's "value" tag, which no constructor knows
@example("!anything x")
def test_no_text_does_anything_but_load_or_explain(tmp_path_factory: pytest.TempPathFactory, text: str):
    path = tmp_path_factory.mktemp("any") / "devices.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(ConfigError):
        load_devices(path)


def test_only_present_transports_open():
    devices = load_devices(ROOT / "devices.yaml")
    assert "local" in transports()
    for device in devices.devices:
        if device.transport in transports():
            assert make_transport(device).name == device.transport
        else:
            with pytest.raises(UnsupportedTransport, match="measures over") as caught:
                make_transport(device)
            assert device.name in str(caught.value)


def test_a_transport_that_does_not_import_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import profiler.transports as package

    (tmp_path / "brokentransport.py").write_text("import no_such_module_at_all\n")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    transports.cache_clear()
    try:
        with pytest.raises(TransportError, match="no_such_module_at_all"):
            transports()
    finally:
        transports.cache_clear()


def test_a_python_of_this_machine_may_be_below_home(write):
    (device,) = load_devices(write("devices: [{name: a, transport: local, python: ~/venv/bin/python}]")).devices
    assert device.python == str(Path.home() / "venv/bin/python")
