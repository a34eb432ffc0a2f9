"""YAML with the line of every value, so that a mistake can be reported where it stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search_space.errors import SpaceError

_MAX_BYTES = 1 << 20
_MAX_VALUES = 50_000

Place = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A parsed YAML file.

    Attributes:
        path: Where it was read.
        value: Plain Python values.
        lines: Line (from 1) of each key and list entry, by its path.
        problems: Mistakes of form found on the way (repeated keys): line and message.
    """

    path: Path
    value: Any
    lines: dict[tuple[Place, ...], int]
    problems: list[tuple[int, str]] = field(default_factory=list)

    def line_of(self, place: Iterable[Place]) -> int:
        """Line of the deepest part of `place` that exists in the file."""
        where = tuple(place)
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)


def read_yaml(path: Path) -> Document:
    """Read one YAML document.

    Raises:
        SpaceError: The file cannot be read or is not YAML.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(_text(path))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise SpaceError(f"{path}:{line}: not valid YAML: {what}") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise SpaceError(f"{path}:1: not valid YAML: {str(error).partition(chr(10))[0]}") from error
    if node is None:
        raise SpaceError(f"{path}:1: the file is empty")
    document = Document(path=path, value=None, lines={})
    try:
        value = _Reader(document, yaml.constructor).read(node, ())
    except RecursionError as error:
        raise SpaceError(f"{path}:1: nested too deeply, or refers to itself") from error
    return Document(path=path, value=value, lines=document.lines, problems=document.problems)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SpaceError(f"{path}: larger than {_MAX_BYTES >> 20} MiB, which no space file is")
        data = path.read_bytes()
    except OSError as error:
        raise SpaceError(f"{path}: {error.strerror or error}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SpaceError(f"{path}:{line}: not UTF-8 text (byte 0x{data[error.start]:02x})") from error


class _Reader:
    def __init__(self, document: Document, constructor: Any) -> None:
        self.document = document
        self.constructor = constructor
        self.count = 0

    def read(self, node: Any, place: tuple[Place, ...]) -> Any:
        from ruamel.yaml.constructor import ConstructorError
        from ruamel.yaml.nodes import MappingNode, SequenceNode

        line = node.start_mark.line + 1
        self.document.lines.setdefault(place, line)
        self.count += 1
        if self.count > _MAX_VALUES:
            raise SpaceError(f"{self.document.path}:{line}: more than {_MAX_VALUES} values")
        if isinstance(node, MappingNode):
            return self.mapping(node, place)
        if isinstance(node, SequenceNode):
            return [self.read(item, (*place, index)) for index, item in enumerate(node.value)]
        try:
            return self.constructor.construct_object(node)
        except (ValueError, ArithmeticError) as error:
            self.document.problems.append((line, f"{node.value!r} cannot be read: {error}"))
            return None
        except ConstructorError:
            text = f"{node.value!r} cannot be read: its tag {node.tag!r} means nothing here"
            self.document.problems.append((line, text))
            return None

    def mapping(self, node: Any, place: tuple[Place, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if not isinstance(key, str):
                self.document.problems.append((line, "a key must be a word"))
            elif key_node.tag == "tag:yaml.org,2002:merge":
                self.document.problems.append((line, "merge keys (<<) are not read in space files"))
            elif key in values:
                first = self.document.lines[(*place, key)]
                self.document.problems.append((line, f"key {key!r} is given twice (first on line {first})"))
            else:
                self.document.lines[(*place, key)] = line
                values[key] = self.read(value_node, (*place, key))
        return values
