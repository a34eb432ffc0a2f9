"""layout.json: reading and writing. Every mistake is reported at once, with its place in the file.

Besides the canonical form a file may carry a `name`, `notes`, and `extra_params`: parameters of the published model
that lie outside the language model (a vision tower), kept as a named line. They are no part of the layout and of its
id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache, lru_cache
from math import isfinite
from pathlib import Path
from stat import S_ISREG
from types import UnionType
from typing import Any, get_args, get_type_hints

from pydantic_core import from_json

from search_space.blocks import Block, blocks_by_kind, feed_forwards, mixers
from search_space.errors import LayoutError, SearchSpaceError
from search_space.layout import LAYOUT_FORMAT, Embedding, Layer, Layout, canonical_id
from search_space.wording import did_you_mean

_MAX_FILE_BYTES = 16 << 20
_MAX_PROBLEMS = 12
_PLUGIN = "a block of one's own is known where the package is installed that names it (entry points archsearch.blocks)"
_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLayout:
    """A layout with what its file says about it.

    Attributes:
        layout: The layout.
        name: A name for tables, or None.
        notes: Where its numbers come from.
        extra_params: Parameters outside the language model, by name.
    """

    layout: Layout
    name: str | None = None
    notes: str = ""
    extra_params: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of a layout file."""
        head: dict[str, Any] = {"name": self.name} if self.name else {}
        if self.notes:
            head["notes"] = self.notes
        if self.extra_params:
            head["extra_params"] = dict(self.extra_params)
        return {**head, **self.layout.to_json()}


def read_layout(path: Path) -> NamedLayout:
    """Read a layout file.

    Raises:
        LayoutError: The file cannot be read, is not JSON, or describes no possible layout.
    """
    data = read_json(path, LayoutError)
    try:
        return parse_layout(data)
    except LayoutError as error:
        raise LayoutError(f"{path}: {error}", hint=error.hint) from error


def read_json(path: Path, error_class: type[SearchSpaceError]) -> Any:
    """Parse a JSON file of at most 16 MiB in which no object has a field twice.

    Raises:
        SearchSpaceError: It cannot be read or is not such a file; of the class asked for, with the path in front.
    """
    try:
        return json.loads(_text(path), object_pairs_hook=_without_repeats)
    except OSError as error:
        raise error_class(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise error_class(f"{path}: not a JSON file ({error})") from error
    except LayoutError as error:
        raise error_class(f"{path}: {error}") from error


def write_layout(named: NamedLayout, path: Path) -> None:
    """Write a layout file that `read_layout` reads back to the same layout.

    Raises:
        OSError: It cannot be written.
    """
    path.write_text(json.dumps(named.to_json(), indent=1) + "\n", encoding="utf-8")


def parse_layout(data: object) -> NamedLayout:
    """Turn parsed JSON into a layout.

    Raises:
        LayoutError: With every mistake found.
    """
    problems: list[str] = []
    reader = _Reader(problems)
    named = reader.named(data)
    if problems or named is None:
        more = len(problems) - _MAX_PROBLEMS
        raise LayoutError(
            "; ".join(problems[:_MAX_PROBLEMS]) + (f"; and {more} more mistakes" if more > 0 else ""),
            hint=_PLUGIN if reader.unknown_kind else None,
        )
    return named


def read_stored(text: str, layout_id: str) -> Layout:
    """The layout whose canonical form, as `Layout.layout_id` hashes it, was stored under its id.

    A study has a hundred thousand layers made of a few hundred specs: each of those is read once.

    Raises:
        LayoutError: With every mistake found.
        ValueError: It is not JSON.
    """
    if canonical_id(text) != layout_id:  # written by somebody else
        return parse_layout(from_json(text)).layout
    try:
        layout = _of_known_parts(text)
    except (ValueError, LayoutError):  # which mistake, and where, is told of the whole
        layout = parse_layout(from_json(text)).layout
    layout.__dict__["layout_id"] = layout_id  # where the cached property keeps it
    return layout


def _of_known_parts(text: str) -> Layout:
    """Specs are cut out of the text. A cut inside of a string leaves parts that are not JSON."""
    embedding, _, rest = text.removeprefix('{"embedding":').partition(',"format":')
    version, _, rest = rest.partition(',"layers":[{"ffn":')
    layers, _, tail = rest.rpartition('}],"norm_eps":')
    kinds = tuple(blocks_by_kind().values())
    made: dict[str, Layer] = {}
    for layer in layers.split('},{"ffn":'):
        if layer not in made:
            ffn, _, mixer = layer.partition(',"mixer":')
            made[layer] = Layer(mixer=_known("mixer", mixer, kinds), ffn=_known("ffn", ffn, kinds))
    problems: list[str] = []
    named = _Reader(problems).named(
        from_json(f'{{"format":{version},"norm_eps":{tail}'),
        _known("embedding", embedding, kinds), [made[layer] for layer in layers.split('},{"ffn":')],
    )  # fmt: skip
    if problems or named is None:
        raise ValueError("; ".join(problems))
    return named.layout


@lru_cache(maxsize=1 << 14)
def _known(part: str, text: str, kinds: tuple[type[Block], ...]) -> Any:  # noqa: ARG001 - other kinds, other specs
    """The spec of an embedding or a block.

    Raises:
        ValueError: It has mistakes.
    """
    problems: list[str] = []
    reader, data = _Reader(problems), from_json(text)
    found = None
    if part == "embedding":
        found = reader.spec(Embedding, data, part)
    elif part == "mixer" or data is not None:
        found = reader.block(mixers() if part == "mixer" else feed_forwards(), data, part)
    if problems:
        raise ValueError("; ".join(problems))
    return found


def parse_block(name: str) -> tuple[Block, int]:
    """The spec and the model width that `search_space.layout.block_name` wrote.

    Raises:
        LayoutError: It is no such text, or of a block that is not known here.
    """
    problems: list[str] = []
    try:
        data = json.loads(name)
        width = data.pop("width")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise LayoutError(f"{name!r} names no block") from error
    block = _Reader(problems).block({**mixers(), **feed_forwards()}, data, "block")
    if problems or type(width) is not int:
        raise LayoutError("; ".join(problems) or f"width is {width!r}")
    return block, width


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for name, value in pairs:
        if name in seen:
            raise LayoutError(f"field {name!r} stands twice in one object")
        seen[name] = value
    return seen


def _text(path: Path) -> str:
    status = path.stat()
    if not S_ISREG(status.st_mode):
        raise LayoutError("not a file")
    if status.st_size > _MAX_FILE_BYTES:
        raise LayoutError(f"larger than {_MAX_FILE_BYTES >> 20} MiB")
    return path.read_text(encoding="utf-8-sig")


class _Reader:
    """Collects problems instead of stopping at the first."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        self.unknown_kind = False

    def named(
        self, data: object, embedding: Embedding | None = None, layers: list[Layer] | None = None
    ) -> NamedLayout | None:
        """A layout; its parts are those of `data`, unless they were read before."""
        if not isinstance(data, dict):
            self.problems.append(f"a layout is a JSON object, not {_typename(data)}")
            return None
        known = {"format", "name", "notes", "extra_params", "width", "embedding", "layers", "norm_eps", "post_norm"}
        self.unknown(data, known, "layout")
        version = data.get("format", LAYOUT_FORMAT)
        if type(version) is not int or version != LAYOUT_FORMAT:
            self.problems.append(f"format {version!r} is not known; this version reads format {LAYOUT_FORMAT}")
        values: dict[str, Any] = {}
        for name, kind, default in (("width", int, None), ("norm_eps", float, 1e-5), ("post_norm", bool, False)):
            values[name] = self.value(data, name, kind, default, "layout")
        embedding = embedding or self.spec(Embedding, data.get("embedding"), "embedding")
        layers = layers or self.layers(data.get("layers"))
        extra = data.get("extra_params", {})
        if not isinstance(extra, dict) or not all(type(n) is int and n >= 0 for n in extra.values()):
            self.problems.append("extra_params must map names to whole numbers")
        for text in ("name", "notes"):
            given = data.get(text, "")
            if not isinstance(given, str) or not given.replace("\n", " ").isprintable():
                self.problems.append(f"{text} must be text without control characters")
        if self.problems:
            return None
        try:
            layout = Layout(embedding=embedding, layers=tuple(layers), **values)
        except LayoutError as error:
            self.problems.append(str(error))
            return None
        return NamedLayout(layout=layout, name=data.get("name"), notes=data.get("notes", ""), extra_params=dict(extra))

    def layers(self, data: object) -> list[Layer]:
        if not isinstance(data, list):
            self.problems.append("layers must be a list")
            return []
        layers = []
        for index, entry in enumerate(data):
            where = f"layers[{index}]"
            if not isinstance(entry, dict):
                self.problems.append(f"{where} must be an object with mixer and ffn")
                continue
            self.unknown(entry, {"mixer", "ffn", "repeat"}, where)
            mixer = self.block(mixers(), entry.get("mixer"), f"{where}.mixer")
            ffn = None
            if entry.get("ffn") is not None:
                ffn = self.block(feed_forwards(), entry["ffn"], f"{where}.ffn")
            repeat = entry.get("repeat", 1)
            if type(repeat) is not int or not 1 <= repeat <= 512:
                self.problems.append(f"{where}.repeat is {repeat!r}; it must be 1 to 512")
                repeat = 1
            layers += [Layer(mixer=mixer, ffn=ffn)] * repeat
        return layers

    def block(self, kinds: Mapping[str, type[Any]], data: object, where: str) -> Any:
        given = data.get("kind") if isinstance(data, dict) else data
        if not isinstance(data, dict) or not isinstance(given, str) or given not in kinds:
            self.problems.append(f"{where}: kind {given!r} is not one of {', '.join(sorted(kinds))}")
            self.unknown_kind |= isinstance(given, str)
            return None
        return self.spec(kinds[given], {k: v for k, v in data.items() if k != "kind"}, where)

    def spec(self, cls: type[Any], data: object, where: str) -> Any:
        if not isinstance(data, dict):
            self.problems.append(f"{where} must be an object")
            return None
        before = len(self.problems)
        hints = _hints(cls)  # type: ignore[arg-type]  # classes are hashable
        declared = fields(cls)
        self.unknown(data, {spec_field.name for spec_field in declared}, where)
        values = {}
        for spec_field in declared:
            name = spec_field.name
            if name in data:
                values[name] = self.value(data, name, hints[name], None, where)
            elif spec_field.default is MISSING:
                self.problems.append(f"{where}.{name} is missing")
        return cls(**values) if len(self.problems) == before else None

    def value(self, data: Mapping[str, Any], name: str, kind: Any, default: Any, where: str) -> Any:
        if name not in data:
            if default is None:
                self.problems.append(f"{where}.{name} is missing")
            return default
        value = data[name]
        options = get_args(kind) if isinstance(kind, UnionType) or hasattr(kind, "__args__") else (kind,)
        if all(not isinstance(option, type) for option in options):  # Literal
            if value not in options:
                self.problems.append(f"{where}.{name} is {value!r}; it must be one of {', '.join(map(repr, options))}")
            return value
        if float in options and type(value) in (int, float):
            number = _finite(value)
            if number is None:
                self.problems.append(f"{where}.{name} is not a finite number")
            return number
        if type(value) not in options:
            expected = " or ".join(_TYPE_NAMES.get(option, option.__name__) for option in options)
            self.problems.append(f"{where}.{name} is {value!r}; it must be {expected}")
        return value

    def unknown(self, data: Mapping[str, Any], known: set[str], where: str) -> None:
        for key in data:
            if key not in known:
                self.problems.append(f"{where}: unknown field {key!r}{did_you_mean(key, sorted(known))}")


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls)


def _finite(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None


def _typename(value: object) -> str:
    return {"list": "a list", "str": "a text", "NoneType": "null"}.get(type(value).__name__, type(value).__name__)
