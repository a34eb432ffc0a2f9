"""The bundle is a whole Python on a phone that has none, and the agent measures there."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from profiler.agent_bundle import agent_bytes, agent_name
from profiler.results import Result
from tests.phone import Phone, connected
from tests.phone_python import kept_bundle, unpack
from tests.unit.profiler import agent_models as models

pytestmark = pytest.mark.needs("phone")

HOME = "/data/local/tmp"
GRAPH = """\
import numpy as np, onnxruntime as ort
session = ort.InferenceSession('model.onnx', providers=['CPUExecutionProvider'])
x = np.arange(8, dtype=np.float32).reshape(1, 1, 8)
y, state = session.run(['y', 'present'], {'x': x, 'past': np.ones((1, 1, 8), np.float32)})
print(ort.__version__, state.ravel().tolist())
"""
FOREIGN = """\
import numpy, onnxruntime
lines = [line.split(maxsplit=5) for line in open('/proc/self/maps')]
print(sorted({line[5].strip() for line in lines if len(line) > 5 and line[5][0] == '/'}))
"""
IMPORTS = """\
import importlib, pathlib, sysconfig
for extension in pathlib.Path(sysconfig.get_path('stdlib'), 'lib-dynload').glob('*.so'):
    importlib.import_module(extension.name.partition('.')[0])
print('all')
"""


def test_it_unpacks_and_runs_with_the_phones_own_tools(tmp_path: Path):
    made = kept_bundle()
    phone = Phone(tmp_path / "phone")
    phone.start()
    try:
        with connected(phone) as link:
            folder = f"{HOME}/a python"
            unpack(link, made, folder)
            models.unpack(phone.data / "graph", models.block())
            run = f"cd {HOME}/graph && sh {shlex.quote(folder + '/python.sh')} -c {shlex.quote(GRAPH)} 2>/dev/null"
            assert link.said(run, timeout_s=300) == f"{made.ort_version} {[float(i + 1) for i in range(8)]}"
            files = [path for path in (phone.data / "a python").rglob("*") if path.suffix != ".pyc" and path.is_file()]
            manifest = json.loads((phone.data / "a python/MANIFEST").read_text())
            assert sum(path.stat().st_size for path in files if path.name != "MANIFEST") == made.unpacked_size
            names = {part["name"]: part["version"] for part in manifest["parts"]}
            assert names["onnxruntime"] == made.ort_version
            assert {"libc6", "python3.13-minimal", "numpy", "protobuf"} <= set(names)
    finally:
        phone.stop()


def test_it_needs_nothing_from_outside_its_folder(phone: Phone, phone_python: str):
    with connected(phone) as link:
        used = link.said(f"sh {phone_python} -c {shlex.quote(FOREIGN)} 2>/dev/null", timeout_s=300)
        paths = json.loads(used.replace("'", '"'))
        assert any(path.endswith("/lib/libstdc++.so.6") for path in paths)
        assert [path for path in paths if not path.startswith(f"{HOME}/python/")] == []
        assert link.said(f"sh {phone_python} -c {shlex.quote(IMPORTS)}", timeout_s=300) == "all"


def test_settings_of_the_environment_may_be_ignored(phone: Phone, phone_python: str):
    """As when the host has it unpack a job: `-I` leaves PYTHONHOME out of account, `-S` what is installed."""
    (phone.data / "agent.zip").write_bytes(agent_bytes())
    with connected(phone) as link:
        assert link.said(f"sh {phone_python} -I -S -m zipfile -e {HOME}/agent.zip {HOME}/unpacked", timeout_s=60) == ""
    assert (phone.data / "unpacked/__main__.py").exists()


def test_the_agent_measures_there(phone: Phone, phone_python: str):
    graph, recipe, signature = models.hybrid()
    check, files = models.block_check()
    limits = {"timeout_s": 300.0, "memory_mib": 4000}
    order = models.job(signature, checks=[check], protocol={"memory_pass": True}, limits=limits)
    files |= {"model.onnx": graph, "recipe.json": json.dumps(recipe).encode()}
    folder = models.folder_of(phone.data / "work folder", order, files)
    agent = f"sh {phone_python} {HOME}/work\\ folder/{agent_name()}"
    with connected(phone) as link:
        info = json.loads(link.said(f"{agent} info 2>/dev/null", timeout_s=300))
        assert (info["machine"], info["os"], info["problems"]) == ("aarch64", "Android", [])
        assert info["usable_cores"] == os.cpu_count()
        assert link.said(f"{agent} run {HOME}/work\\ folder/jobs/job-1", timeout_s=500) == ""
        assert "python3.13" not in link.said("ps -A -o ARGS")
    result = Result.model_validate_json((folder / "result.json").read_bytes())
    assert (result.status, result.reason) == ("ok", "")
    assert [process.kind for process in result.processes] == ["check", "timing", "timing", "memory"]
    assert result.memory is not None
    # A phone's arithmetic is not a host's, but the same tokens come out.
    here = models.measure(phone.data / "here", models.hybrid())
    there = json.loads((folder / "result.json").read_text())
    tokens = [process["points"][0]["logits"]["tokens"] for process in (*there["processes"][1:3], here["processes"][1])]
    assert tokens[0] == tokens[1] == tokens[2]
