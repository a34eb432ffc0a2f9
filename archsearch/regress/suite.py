"""Suite files: what a night measures, and what tells a device from what is measured on it.

Every mistake of a file is reported at once, each with its line. What an entry stands for is found by
`archsearch.regress.items`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from archsearch.objectives import objectives
from profiler.errors import ConfigError, WorkloadError
from profiler.workloads import parse_workload
from profiler.yaml_errors import Positions, Problems, did_you_mean, mistake_in_words, read_yaml

_FOLDER = Path(__file__).parent / "suites"
DEFAULT = "default"

Precision = Literal["fp32", "int8", "int4"]


def _printable(value: str) -> str:
    if not value.isprintable() or not value.strip():
        raise ValueError("must hold printable characters, and not spaces alone")
    return value


def _workload(value: str) -> str:
    try:
        parse_workload(value)
    except WorkloadError as error:
        raise ValueError(str(error)) from error
    return value


def _quantity(value: str) -> str:
    measured = [name for name, known in objectives().items() if known.measured]
    if value not in measured:
        raise ValueError(f"{value!r} is not measured{did_you_mean(value, measured)}")
    return value


Text = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_printable)]
Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
Workloads = Annotated[list[Annotated[str, AfterValidator(_workload)]], Field(min_length=1)]
Precisions = Annotated[list[Precision], Field(min_length=1)]
Effect = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
"""Smallest relative change that is worth an alarm."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Entry(_Strict):
    """One thing to measure, or the front of a study: exactly one of `layout`, `onnx` and `study`."""

    layout: Text | None = None
    onnx: Text | None = None
    study: Text | None = None
    neighbours: Annotated[int, Field(ge=0, le=1000)] | None = None
    name: Name | None = None
    workloads: Workloads | None = None
    precisions: Precisions | None = None
    minimum_effect: Effect | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        given = [name for name in ("layout", "onnx", "study") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs one of layout, onnx and study, and has {' and '.join(given) or 'none'}")
        if self.neighbours is not None and self.study is None:
            raise ValueError("neighbours are those of a study's front; give `study:` with them")
        if self.precisions is not None and self.onnx is not None:
            raise ValueError("an ONNX file is measured as it is; leave `precisions:` out")
        return self

    @property
    def kind(self) -> str:
        """Which of the three it is."""
        return next(name for name in ("layout", "onnx", "study") if getattr(self, name) is not None)


class SuiteFile(_Strict):
    """What a suite file may hold."""

    anchors: Annotated[list[Text], Field(min_length=1, max_length=8)] = ["lfm2.5-350m"]
    measure: Annotated[list[Entry], Field(min_length=1, max_length=1000)]
    workloads: Workloads = ["quick"]
    precisions: Precisions = ["int4"]
    quantities: Annotated[list[Annotated[str, AfterValidator(_quantity)]], Field(min_length=1)] = [
        "ttft_ms", "decode_ms", "peak_rss_mib",
    ]  # fmt: skip
    minimum_effect: Effect = 0.04
    pause_s: Annotated[float, Field(ge=0, le=3600)] = 60.0
    """How long a device is left alone before it measures again what lies between anchors that moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A suite file that was read.

    Attributes:
        name: Of the file, without its ending.
        path: Where it lies; paths in it begin there.
        file: What it says.
        positions: Lines of its parts.
    """

    name: str
    path: Path
    file: SuiteFile
    positions: Positions

    def problems(self) -> Problems:
        """A place for the mistakes that are found later."""
        return Problems(self.path)


def suite_names() -> tuple[str, ...]:
    """Names of the suites that ship."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_suite(name_or_path: str) -> Suite:
    """A suite that ships, by name, or any suite file.

    Raises:
        ConfigError: There is no such suite, or its file has mistakes, one `file:line: ...` each.
    """
    path = _FOLDER / f"{name_or_path}.yaml" if name_or_path in suite_names() else Path(name_or_path)
    if not path.is_file():
        raise ConfigError(
            [f"there is no suite {name_or_path!r}{did_you_mean(name_or_path, suite_names())}, or the path of a file"],
            hint="archsearch regress run --suite FILE",
        )
    data, positions, problems = read_yaml(path)
    if not isinstance(data, dict):
        problems.add(positions.line, "the file must start with `measure:` and a list")
        problems.raise_if_any()
    file: SuiteFile | None = None
    try:
        file = SuiteFile.model_validate(data)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            place = list(item["loc"])
            inside = len(place) > 1 and place[0] == "measure"
            field = ".".join(str(part) for part in (place[1:] if inside else place) if isinstance(part, str))
            known = Entry.model_fields if inside else SuiteFile.model_fields
            problems.add(positions.line_of(place), mistake_in_words(field or "an entry", item, known))
    problems.raise_if_any()
    assert file is not None
    return Suite(name=path.stem, path=path, file=file, positions=positions)
