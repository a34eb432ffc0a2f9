"""ONNX files as they lie there: our own exports (signature.json beside them), or decoders from elsewhere."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from archsearch.subjects import Subject
from profiler.foreign import ForeignModel, inspect
from profiler.workloads import Workload
from search_space.errors import LayoutError
from search_space.export import graph_name
from search_space.layout import Layout
from search_space.layout_file import read_layout


def onnx_file(what: str) -> Path | None:
    """The ONNX file that a text means: itself, or that of an exported folder; None where it means none."""
    path = Path(what)
    with suppress(OSError, ValueError, RuntimeError):  # too long, a zero byte, ~nobody: no file is called so
        path = path.expanduser()
        if (path / "model.onnx").is_file():
            return path / "model.onnx"
    return path if what.lower().endswith(".onnx") else None


def foreign_subject(path: Path, workload: Workload) -> Subject:
    """A file to be measured.

    Raises:
        ForeignModelError: It cannot be driven, or not so far as the workload goes.
    """
    model = inspect(path)
    model.require_context(workload)
    return Subject(
        label=path.name,
        workload=workload,
        precision="file",
        layout=_layout_beside(model),
        foreign=model,
        name=f"{path.resolve().parent.name}/{path.name}",
    )


def _layout_beside(model: ForeignModel) -> Layout | None:
    """The layout.json of an export, when the graph says that it is the one it was made from."""
    try:
        layout = read_layout(model.path.parent / "layout.json").layout
    except LayoutError:
        return None
    return layout if model.graph_name == graph_name(layout) else None
