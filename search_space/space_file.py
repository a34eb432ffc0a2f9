"""Space files: reading, finding the ones that ship, and their JSON schema.

The models are made from the registry of blocks, so a new block can be named in a space file without a change here.
Every mistake of a file is reported at once, each with its line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from search_space.blocks import mixers
from search_space.errors import SpaceError
from search_space.layout import Embedding
from search_space.patterns import Pattern, parse_patterns
from search_space.space import SOLVE, Constraints, FfnChoices, Space, SpecChoices
from search_space.space_models import SpaceModel, read_widths, space_model, spec_choices, spec_model
from search_space.wording import did_you_mean, guess, shown
from search_space.yaml_lines import Document, Place, read_yaml

_FOLDER = Path(__file__).parent / "spaces"
_MAX_SPECS_CHECKED = 20_000


def space_names() -> tuple[str, ...]:
    """Names of the spaces that ship."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_space(name_or_path: str | Path) -> Space:
    """A space that ships, by name, or any space file.

    Raises:
        SpaceError: There is no such space, or its file has mistakes; each is told on a line ``FILE:LINE: ...``.
    """
    return read_space(space_path(name_or_path))


def space_path(name_or_path: str | Path) -> Path:
    """The file of a space that ships, by name, or the path that was given.

    Raises:
        SpaceError: There is no such space or file.
    """
    if isinstance(name_or_path, str) and name_or_path in space_names():
        return _FOLDER / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if not path.exists():
        raise SpaceError(
            f"no space or file is called {str(name_or_path)!r}{guess(name_or_path, space_names())}",
            hint=f"spaces that ship: {', '.join(space_names())}",
        )
    return path


def read_space(path: Path) -> Space:
    """Read a space file.

    Raises:
        SpaceError: With every mistake found.
    """
    document = read_yaml(path)
    mistakes = _Mistakes(document)
    if not isinstance(document.value, dict):
        mistakes.add((), "a space file is a mapping of keys to values, beginning with `width:`")
        mistakes.raise_if_any()
    model = space_model()
    parsed: SpaceModel | None = None
    try:
        parsed = model.model_validate(document.value)
    except ValidationError as error:
        mistakes.add_validation(error, model)
    patterns = _check_patterns(document, mistakes)
    _check_pieces(document.value, mistakes)
    mistakes.raise_if_any()
    assert parsed is not None
    return _space(parsed, patterns, path.stem)


def space_schema() -> dict[str, Any]:
    """JSON schema of space files, for editors."""
    schema = space_model().model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "archsearch space"}


def _space(parsed: SpaceModel, patterns: tuple[Pattern, ...], name: str) -> Space:
    hidden = None if parsed.ffn.hidden == (SOLVE,) else parsed.ffn.hidden
    return Space(
        name=name,
        description=parsed.description,
        anchors=parsed.anchors,
        widths=parsed.width,
        depths=parsed.depth,
        embedding=spec_choices(parsed.embedding),
        mixers={kind: spec_choices(fields) for kind, fields in parsed.mixers if fields is not None},
        patterns=patterns,
        ffn=FfnChoices(
            kinds={kind: spec_choices(fields) for kind, fields in parsed.ffn.kinds if fields is not None},
            hidden=hidden,
            multiple=parsed.ffn.multiple,
        ),
        constraints=Constraints(**dict(parsed.constraints)),
        norm_eps=parsed.norm_eps,
        post_norm=parsed.post_norm,
    )


def _check_patterns(document: Document, mistakes: _Mistakes) -> tuple[Pattern, ...]:
    given = document.value.get("pattern", "free")
    named = document.value.get("mixers")
    letters = [mixers()[kind].letter for kind in named if kind in mixers()] if isinstance(named, dict) else []
    if not letters:
        if isinstance(named, dict):
            mistakes.add(("mixers",), f"mixers: name at least one of {', '.join(sorted(mixers()))}")
        return ()
    found: dict[str, Pattern] = {}
    for index, text in enumerate(given if isinstance(given, list) else [given]):
        if not isinstance(text, str):
            continue  # reported by the model
        try:
            found |= {pattern.text: pattern for pattern in parse_patterns(text, letters)}
        except ValueError as error:
            mistakes.add(("pattern", index), f"pattern {error}")
    return tuple(found.values())


def _check_pieces(data: dict[str, Any], mistakes: _Mistakes) -> None:
    """What the parts that can be read say of each other, even when others cannot be read."""
    constraints, ffn = data.get("constraints") or {}, data.get("ffn") or {}
    if isinstance(constraints, dict) and isinstance(ffn, dict):
        solved = ffn.get("hidden", SOLVE) in (SOLVE, [SOLVE])
        if isinstance(ffn.get("hidden"), list) and SOLVE in ffn["hidden"] and not solved:
            mistakes.add(("ffn", "hidden"), f"ffn.hidden: either {SOLVE} or a list of widths, not both")
        if solved and "total_params" not in constraints:
            place = ("constraints",) if "constraints" in data else ()
            mistakes.add(place, "constraints.total_params: is missing; `ffn.hidden: solve` (the default) solves for it")
        low, high = constraints.get("min_ffn_ratio"), constraints.get("max_ffn_ratio")
        if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
            mistakes.add(("constraints", "min_ffn_ratio"), f"min_ffn_ratio {low} is above max_ffn_ratio {high}")
    widths = read_widths(data.get("width"))
    if not widths:
        return
    named = data.get("mixers")
    pieces: list[tuple[tuple[Place, ...], type[Any], Any]] = [(("embedding",), Embedding, data.get("embedding"))]
    if isinstance(named, dict):
        pieces += [(("mixers", kind), cls, named[kind] or {}) for kind, cls in mixers().items() if kind in named]
    for where, cls, raw in pieces:
        try:
            choices = spec_choices(spec_model(cls).model_validate(raw))
        except ValidationError:
            continue  # reported with the whole file
        if choices.combinations * len(widths) <= _MAX_SPECS_CHECKED:
            _check_options(choices, widths, where, mistakes)


def _check_options(choices: SpecChoices, widths: Sequence[int], place: tuple[Place, ...], mistakes: _Mistakes) -> None:
    """Report every option that works in no combination with the others, at no width."""
    useless: dict[tuple[str, int], str] = {}
    working: set[tuple[str, int]] = set()
    failed: list[tuple[list[tuple[str, int]], str]] = []
    for values in choices.all_values():
        here = [(name, choices.options[name].index(value)) for name, value in values.items()]
        for width in widths:
            try:
                choices.make(values, width)
            except ValueError as error:
                failed.append((here, str(error)))
                for knob in here:
                    useless.setdefault(knob, str(error))
            else:
                working.update(here)
                break
    where = ".".join(map(str, place))
    if not working and useless:
        reasons = list(dict.fromkeys(useless.values()))
        mistakes.add(place, f"{where}: no combination of its choices is possible: {'; '.join(reasons[:3])}")
        return
    for (name, index), first in useless.items():
        if (name, index) not in working:
            # The reason is its own where it fails among choices that work elsewhere.
            alone = (why for knobs, why in failed if set(knobs) - working == {(name, index)})
            reason = next(alone, first)
            value = choices.options[name][index]
            mistakes.add((*place, name, index), f"{where}.{name}: {value!r} is never possible: {reason}")


class _Mistakes:
    """Collects mistakes and raises them together, in the order of the file."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.found = set(document.problems)

    def add(self, place: Iterable[Place], message: str) -> None:
        self.found.add((self.document.line_of(place), message))

    def add_validation(self, error: ValidationError, model: type[BaseModel]) -> None:
        for item in error.errors(include_url=False):
            place = [part for part in item["loc"] if isinstance(part, int) or not part.startswith("function-")]
            self.add(place, _message(place, item, model))

    def raise_if_any(self) -> None:
        if self.found:
            path = self.document.path
            raise SpaceError(
                "\n".join(f"{path}:{line}: {message}" for line, message in sorted(self.found)),
                hint="`archsearch space schema` prints what a space file may hold",
            )


_SAY = {
    "missing": "is missing",
    "string_type": "must be text (quote it)",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
}


def _message(place: Sequence[Place], item: Any, model: type[BaseModel]) -> str:
    field = ".".join(str(part) for part in place if isinstance(part, str))
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key {field!r}{did_you_mean(place[-1], _keys_at(model, place[:-1]))}"
    if kind == "missing":
        return f"{field}: is missing"
    if kind == "value_error":
        return f"{field}: {context['error']}"
    if kind == "literal_error":
        return f"{field}: {shown(value)} is not allowed; allowed: {str(context['expected']).replace(' or ', ', ')}"
    said = _SAY.get(kind) or item["msg"].removeprefix("Input ").replace("should", "must")
    return f"{field}: {said}, not {shown(value)}"


def _keys_at(model: type[BaseModel], place: Sequence[Place]) -> list[str]:
    for part in place:
        inner = model.model_fields[str(part)].annotation
        options = [inner, *get_args(inner)]
        model = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(model.model_fields)
