"""The pydantic models of space files, made from the blocks that are registered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from search_space.blocks import feed_forwards, mixers
from search_space.formulas import formula_names
from search_space.layout import MAX_LAYERS, Embedding
from search_space.quantities import parse_count, parse_share
from search_space.space import SOLVE, SpecChoices
from search_space.wording import shown

_MAX_OPTIONS = 512
_MAX_WIDTH = 1 << 16
_TYPES: dict[type[Any], tuple[str, str]] = {
    int: ("a whole number", "integer"),
    float: ("a number", "number"),
    bool: ("true or false", "boolean"),
    str: ("text", "string"),
    type(None): ("null", "null"),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Values:
    """What one value of a knob may be."""

    literals: tuple[Any, ...]
    types: tuple[type[Any], ...]
    low: int | None
    high: int | None
    words: tuple[str, ...]

    @property
    def formula(self) -> bool:
        return int in self.types and self.low is None

    def read(self, value: Any) -> Any:
        if any(type(value) is type(literal) and value == literal for literal in (*self.literals, *self.words)):
            return value
        if type(value) is int and int in self.types:
            if self.low is not None and self.high is not None and not self.low <= value <= self.high:
                raise ValueError(f"{value} is not in the range from {self.low} to {self.high}")
            return value
        if type(value) in self.types:
            return value
        if type(value) is int and float in self.types:
            return float(value)
        if self.formula and isinstance(value, str):
            formula_names(value)
            return value
        raise ValueError(f"{shown(value)} is not allowed; allowed: {', '.join(self.expected())}")

    def expected(self) -> list[str]:
        said = [*map(str, self.literals), *(_TYPES[kind][0] for kind in self.types), *self.words]
        return [*said, "a formula such as width / 64"] if self.formula else said

    def schema(self) -> dict[str, Any]:
        kinds: list[dict[str, Any]] = [{"type": _TYPES[kind][1]} for kind in self.types]
        for kind in kinds:
            if kind["type"] == "integer" and self.low is not None:
                kind |= {"minimum": self.low, "maximum": self.high}
        if self.literals or self.words:
            kinds.append({"enum": [*self.literals, *self.words]})
        if self.formula:
            kinds.append({"type": "string", "description": "A formula of width and other fields, such as width / 64."})
        item = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        forms = [item, {"type": "array", "items": item, "minItems": 1}]
        if int in self.types:
            numbers = {name: {"type": "integer"} for name in ("from", "to", "step")}
            forms.append(
                {"type": "object", "properties": numbers, "required": ["from", "to"], "additionalProperties": False}
            )
        return {"anyOf": forms}


def choice(hint: Any, *, low: int | None = None, high: int | None = None, words: tuple[str, ...] = ()) -> Any:
    """The type of a knob: one value, a list of values, or a range ``{from: 768, to: 1280, step: 64}``.

    Args:
        hint: Type of one value, as the spec declares it.
        low: Smallest number allowed; formulas are then not.
        high: Largest number allowed.
        words: Texts allowed in the place of a value.
    """
    literals = get_args(hint) if get_origin(hint) is Literal else ()
    types = () if literals else get_args(hint) or (hint,)
    allowed = _Values(literals=literals, types=types, low=low, high=high, words=words)

    def read(value: Any) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        if isinstance(value, dict):
            value = _range(value)
        options: list[Any] = []
        problems: list[str] = []
        for item in value if isinstance(value, list) else [value]:
            try:
                options.append(allowed.read(item))
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))
        if not 1 <= len(options) <= _MAX_OPTIONS:
            raise ValueError(f"lists {len(options)} values; there must be 1 to {_MAX_OPTIONS}")
        seen = Counter((type(option), option) for option in options)
        twice = [repr(option) for (_, option), count in seen.items() if count > 1]
        if twice:
            raise ValueError(f"lists {', '.join(twice)} twice")
        return tuple(options)

    return Annotated[tuple[Any, ...], BeforeValidator(read), WithJsonSchema(allowed.schema())]


def _range(value: dict[Any, Any]) -> list[int]:
    if set(value) - {"step"} != {"from", "to"} or any(type(number) is not int for number in value.values()):
        raise ValueError("a range is {from: 768, to: 1280, step: 64} with whole numbers")
    step = value.get("step", 1)
    if step < 1 or value["to"] < value["from"] or (value["to"] - value["from"]) // step >= _MAX_OPTIONS:
        raise ValueError(f"a range goes up by a step of at least 1 and has at most {_MAX_OPTIONS} values")
    return list(range(value["from"], value["to"] + 1, step))


def _number_reader(parse: Callable[[str], Any]) -> BeforeValidator:
    def read(value: Any) -> Any:
        return parse(value) if isinstance(value, str) else value

    return BeforeValidator(read)


_NUMBER_OR_TEXT = {"anyOf": [{"type": "number"}, {"type": "string"}]}
Count = Annotated[int, _number_reader(parse_count), Field(ge=1, le=10**13), WithJsonSchema(_NUMBER_OR_TEXT)]
Share = Annotated[float, Field(strict=False), _number_reader(parse_share), WithJsonSchema(_NUMBER_OR_TEXT)]
Ratio = Annotated[float, Field(gt=0)]


class ConstraintsModel(_Strict):
    """What every layout meets."""

    total_params: Count | None = Field(default=None, description="Target for all parameters, such as 354M.")
    tolerance: Annotated[Share, Field(ge=0, lt=1)] = Field(default=0.02, description="Distance allowed, such as 2%.")
    min_global_mixers: Annotated[int, Field(ge=0, le=MAX_LAYERS)] = Field(
        default=1, description="Layers whose mixer sees the whole context."
    )
    max_run_without_full_attention: Annotated[int, Field(ge=0, le=MAX_LAYERS)] | None = Field(
        default=None, description="Longest run of layers without such a mixer."
    )
    max_embedding_share: Annotated[Share, Field(gt=0, le=1)] | None = Field(
        default=None, description="Largest share of embedding and output head in all parameters."
    )
    min_ffn_ratio: Ratio | None = Field(default=None, description="Smallest FFN width over model width.")
    max_ffn_ratio: Ratio | None = Field(default=None, description="Largest FFN width over model width.")


class SpecModel(_Strict):
    """Choices for the fields of one spec."""

    spec_class: ClassVar[type[Any]]
    formulas: ClassVar[frozenset[str]] = frozenset()


class FfnModel(_Strict):
    """The feed-forward network, the same in all layers."""

    hidden: choice(int, words=(SOLVE,)) = Field(  # type: ignore[valid-type]
        default=(SOLVE,), description="`solve` for the width that gives total_params, or widths, or formulas of width."
    )
    multiple: int = Field(default=64, ge=1, le=1 << 20, description="A width that is solved for is a multiple of this.")
    kinds: Any


_Width = choice(int, low=1, high=_MAX_WIDTH)


def read_widths(value: Any) -> tuple[int, ...]:
    """Those widths of a file that can be read."""
    widths: list[int] = []
    for item in value if isinstance(value, list) else [value]:
        with suppress(ValidationError):
            widths += TypeAdapter(_Width).validate_python(item)
    return tuple(widths)


class SpaceModel(_Strict):
    """A search space."""

    format: Literal[1] = 1
    description: str = Field(default="", description="One sentence.")
    width: _Width = Field(description="Model width.")  # type: ignore[valid-type]
    depth: choice(int, low=1, high=MAX_LAYERS) = Field(description="Number of layers.")  # type: ignore[valid-type]
    embedding: Any
    mixers: Any
    pattern: Annotated[
        tuple[str, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else (value,))
    ] = Field(default=("free",), description="Grammar of layers: free, or motifs such as CCG | CCCG.")
    ffn: Any
    constraints: ConstraintsModel = ConstraintsModel()
    norm_eps: float = Field(default=1e-5, gt=0, lt=1, description="Epsilon of the layer norms.")
    post_norm: choice(bool) = Field(default=(False,), description="A second norm after each block.")  # type: ignore[valid-type]
    anchors: Annotated[
        tuple[str, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
    ] = Field(
        default=(), description="Layouts shown beside a search, the first watched for drift. Default: published models."
    )


def spec_model(cls: type[Any], *, without: tuple[str, ...] = ()) -> type[SpecModel]:
    """The model of one spec class: a knob per field, required where the class has no default."""
    hints = get_type_hints(cls)
    texts = "\n".join(base.__doc__ or "" for base in reversed(cls.__mro__))
    said = dict(re.findall(r"^ +(\w+): (.+)$", texts, re.MULTILINE))
    knobs: dict[str, Any] = {}
    formulas = set()
    for field in fields(cls):
        if field.name in without:
            continue
        required = field.default is field.default_factory  # both are dataclasses.MISSING
        default = ... if required else None
        knob = choice(hints[field.name])
        knobs[field.name] = (knob, Field(default, description=said.get(field.name)))
        if int in (get_args(hints[field.name]) or (hints[field.name],)):
            formulas.add(field.name)
    model = create_model(f"{cls.__name__}Choices", __base__=SpecModel, __doc__=f"Choices for {cls.__name__}.", **knobs)
    model.spec_class = cls
    model.formulas = frozenset(formulas)
    return model


def _empty_for_null(value: Any) -> Any:
    return {} if value is None else value


def _kinds_model(name: str, classes: dict[str, type[Any]], without: tuple[str, ...] = ()) -> type[BaseModel]:
    knobs: dict[str, Any] = {
        kind: (Annotated[spec_model(cls, without=without) | None, BeforeValidator(_empty_for_null)], None)
        for kind, cls in sorted(classes.items())
    }
    return create_model(name, __base__=_Strict, **knobs)


def space_model() -> type[SpaceModel]:
    """The model of a whole file, with every block that is registered."""
    swiglu = {"swiglu": None} if "swiglu" in feed_forwards() else {}
    kinds = _kinds_model("FeedForwards", dict(feed_forwards()), without=("hidden",))
    ffn = create_model(
        "FfnChoices",
        __base__=FfnModel,
        kinds=(kinds, Field(default_factory=lambda: kinds.model_validate(swiglu), description="Kinds with fields.")),
    )
    return create_model(
        "SpaceFile",
        __base__=SpaceModel,
        embedding=(spec_model(Embedding), Field(description="Vocabulary size, rank, tying.")),
        mixers=(_kinds_model("Mixers", dict(mixers())), Field(description="Mixers and the choices of their fields.")),
        ffn=(ffn, Field(default_factory=ffn, description="Feed-forward network.")),
    )


def spec_choices(model: SpecModel) -> SpecChoices:
    """Choices as read from a file; fields that the file leaves out keep their default."""
    names = [field.name for field in fields(model.spec_class) if field.name in model.model_fields_set]
    return SpecChoices(
        spec=model.spec_class, options={name: getattr(model, name) for name in names}, formulas=model.formulas
    )
