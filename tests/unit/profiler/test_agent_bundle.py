"""The agent is one file, the same on every host, and light."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from profiler.agent_bundle import agent_bytes, agent_name


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    path = tmp_path / agent_name()
    path.write_bytes(agent_bytes())
    return path


def test_equal_sources_give_equal_bytes() -> None:
    first, name = agent_bytes(), agent_name()
    agent_bytes.cache_clear()
    assert (agent_bytes(), agent_name()) == (first, name)
    assert {entry.date_time for entry in zipfile.ZipFile(io.BytesIO(first)).infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_it_needs_only_the_standard_library_numpy_and_onnxruntime_and_python_3_10() -> None:
    allowed = {*sys.stdlib_module_names, "numpy", "onnxruntime", "archsearch_agent"}
    archive = zipfile.ZipFile(io.BytesIO(agent_bytes()))
    for name in archive.namelist():
        for node in ast.walk(ast.parse(archive.read(name), name, feature_version=(3, 10))):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, name
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert (node.module or "").split(".")[0] in allowed, name


def test_the_supervisor_imports_neither_numpy_nor_onnxruntime(agent: Path) -> None:
    code = "import sys, archsearch_agent.supervisor; print({'numpy', 'onnxruntime', 'subprocess'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={"PYTHONPATH": str(agent)}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_info_describes_the_device(agent: Path) -> None:
    done = subprocess.run([sys.executable, str(agent), "info"], capture_output=True, text=True, check=True)
    info = json.loads(done.stdout)
    assert info["cores"] >= 1
    assert info["memory_mib"] > 100
    assert info["onnxruntime"]
    assert info["numpy"]
    assert info["problems"] == []
    assert "CPUExecutionProvider" in info["providers"]


def test_onnxruntime_reports_to_nobody(agent: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    alone = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    subprocess.run(
        [sys.executable, str(agent), "info"], env={**alone, "HOME": str(home)}, capture_output=True, check=True
    )
    assert list(home.iterdir()) == []


def test_info_says_what_is_missing(agent: Path) -> None:
    done = subprocess.run([sys.executable, "-S", str(agent), "info"], capture_output=True, text=True, check=True)
    info = json.loads(done.stdout)
    assert info["numpy"] is None
    assert any("numpy" in problem for problem in info["problems"])


def test_wrong_usage_is_said(agent: Path) -> None:
    for words in ([], ["run"], ["run", "/nonexistent"]):
        done = subprocess.run([sys.executable, str(agent), *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr
