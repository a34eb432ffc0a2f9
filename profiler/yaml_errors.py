"""Reads YAML with the line of every key, so that a mistake can be reported where it stands.

`read_yaml` parses a whole file into plain Python values plus a `Positions` tree; `Problems` collects messages and
raises them together. Anchors, aliases and merge keys work; a file that refers to itself, or unfolds into more than
`MAX_NODES` values, is refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profiler.errors import ConfigError

MAX_NODES = 50_000
MAX_BYTES = 4 * 2**20
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(slots=True, kw_only=True)
class Positions:
    """Line numbers (from 1) of a YAML value and of what it contains."""

    line: int
    children: dict[str | int, Positions] = field(default_factory=dict)

    def line_of(self, path: Iterable[str | int]) -> int:
        """Line of the deepest part of `path` that exists in the file."""
        here = self
        for part in path:
            if part not in here.children:
                break
            here = here.children[part]
        return here.line


@dataclass(slots=True)
class Problems:
    """Mistakes found in one file, reported together and in file order."""

    path: Path
    found: set[tuple[int, str]] = field(default_factory=set)

    def add(self, line: int, message: str) -> None:
        """Note a mistake; saying the same twice reports it once."""
        self.found.add((line, message))

    def raise_if_any(self, hint: str | None = None) -> None:
        """End with everything that was noted.

        Raises:
            ConfigError: With one `file:line: message` per mistake; correct these lines.
        """
        if self.found:
            raise ConfigError([f"{self.path}:{line}: {text}" for line, text in sorted(self.found)], hint=hint)


def did_you_mean(word: object, allowed: Iterable[str]) -> str:
    """The ending ``; did you mean 'threads'? allowed: cores, threads``; without the guess when nothing is near.

    `search_space` says it in the same words; a test holds both together, as neither may import the other.
    """
    names = list(allowed)
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(str(word).casefold(), folded, n=1)
    guess = f"; did you mean {folded[near[0]]!r}?" if near else ";"
    return f"{guess} allowed: {', '.join(names)}"


_SAY = {
    "missing": "is missing",
    "string_type": "must be text (quote it)",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}


def mistake_in_words(field: str, item: Any, allowed: Iterable[str]) -> str:
    """One mistake that pydantic found: the field, the wrong value, what is allowed.

    Args:
        field: Its name, for people.
        item: One of `ValidationError.errors`.
        allowed: Keys that are known where it stands.
    """
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key {item['loc'][-1]!r}{did_you_mean(item['loc'][-1], allowed)}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{field}: must be a mapping of keys to values, not {_show(value)}"
    if kind == "missing":
        return f"{field}: is missing"
    if kind == "literal_error":
        return f"{field}: {_show(value)} is not allowed; allowed: {str(context['expected']).replace(' or ', ', ')}"
    if kind == "value_error":
        told = field.startswith("providers") or isinstance(value, dict)
        return f"{field}: {context['error']}" + ("" if told else f", not {_show(value)}")
    said = _SAY.get(kind) or item["msg"].removeprefix("Input ").removeprefix("Value ").replace("should", "must")
    return f"{field}: {said}, not {_show(value)}"


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def read_yaml(path: Path) -> tuple[Any, Positions, Problems]:
    """Parse one YAML document with positions.

    Returns:
        The plain value, the positions of its parts, and the mistakes found so far (repeated keys).

    Raises:
        ConfigError: The file is missing, unreadable, empty, not UTF-8, too large, or not YAML.
    """
    problems = Problems(path)
    text = _read_text(path)
    if not text.strip():
        raise ConfigError([f"{path}:1: the file is empty"])

    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise ConfigError([f"{path}:{line}: not valid YAML: {what}"]) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError([f"{path}:1: not valid YAML: {_first_line(error)}"]) from error
    if node is None:
        raise ConfigError([f"{path}:1: the file holds only comments"])
    builder = _Builder(yaml.constructor, problems)
    try:
        value, positions = builder.build(node)
    except RecursionError as error:
        raise ConfigError([f"{path}:1: nested too deeply"]) from error
    return value, positions, problems


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError([f"{path}:1: larger than {MAX_BYTES // 2**20} MiB"])
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError([f"{path}: no such file"], hint="Name another file with --devices.") from error
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError([f"{path}:{line}: not UTF-8 text (byte 0x{data[error.start]:02x})"]) from error


class _Builder:
    """Turns YAML nodes into plain values and positions."""

    def __init__(self, constructor: Any, problems: Problems) -> None:
        self._constructor = constructor
        self._problems = problems
        self._open: set[int] = set()
        self._count = 0

    def build(self, node: Any) -> tuple[Any, Positions]:
        from ruamel.yaml.nodes import MappingNode, SequenceNode

        positions = Positions(line=node.start_mark.line + 1)
        self._count += 1
        if id(node) in self._open:
            raise ConfigError([f"{self._problems.path}:{positions.line}: refers to itself"])
        if self._count > MAX_NODES:
            raise ConfigError([f"{self._problems.path}:{positions.line}: unfolds into more than {MAX_NODES} values"])
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, positions), positions
            if isinstance(node, SequenceNode):
                values = []
                for index, item in enumerate(node.value):
                    value, positions.children[index] = self.build(item)
                    values.append(value)
                return values, positions
            return self._scalar(node, positions.line), positions
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: Any, line: int) -> Any:
        from ruamel.yaml.constructor import ConstructorError

        if node.tag.startswith("tag:yaml.org,2002:timestamp"):
            return node.value
        try:
            value = self._constructor.construct_object(node)
        except (ValueError, ArithmeticError) as error:
            self._problems.add(line, f"{node.value[:60]!r} cannot be read: {_first_line(error)}")
            return None
        except ConstructorError:
            self._problems.add(
                line, f"{node.value[:60]!r} cannot be read: its tag {node.tag[:60]!r} means nothing here"
            )
            return None
        if isinstance(value, int) and value.bit_length() > 63:
            self._problems.add(line, f"{node.value[:60]!r} is too large a number")
            return None
        return value

    def _mapping(self, node: Any, positions: Positions) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: list[tuple[dict[str, Any], Positions]] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            value, child = self.build(value_node)
            if key_node.tag == _MERGE:
                sources = value if isinstance(value, list) else [value]
                for index, source in enumerate(sources):
                    if isinstance(source, dict):
                        merged.append((source, child.children[index] if isinstance(value, list) else child))
                    else:
                        self._problems.add(line, "'<<' merges mappings only")
                continue
            if not isinstance(key_node.value, str):
                self._problems.add(line, "a key must be a word")
                continue
            key = key_node.value
            if key in values:
                self._problems.add(line, f"key {key!r} is given twice (first on line {positions.children[key].line})")
                continue
            values[key] = value
            child.line = line
            positions.children[key] = child
        for source, child in merged:
            for key, value in source.items():
                if key not in values:
                    values[key] = value
                    positions.children[key] = child.children[key]
        return values
