"""A layout: the frozen value that names one language model, from embedding to output head.

Its canonical form is JSON with sorted keys; its id is the hash of that form, so two spellings of one layout are one
candidate. Its code has one letter per layer (LFM2-350M: ``CCGCCGCCGCGCGCGC``).

Ids outlive versions: measurements are stored under them. The canonical form writes every field out, except those that
a spec declares as `ADDED_LATER`: while such a field has its default, which must mean what the spec meant before the
field existed, it is left out, and layouts from before keep their ids.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, TypeVar

from search_space.blocks import Block, FeedForward, Mixer, added_later, positive
from search_space.errors import LayoutError

B = TypeVar("B", bound=Block)

LAYOUT_FORMAT = 1
MAX_LAYERS = 512
MAX_PARAMETERS = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Input table and output head.

    Attributes:
        vocab_size: Tokens V.
        rank: Width r of the tables when they are factorised (V x r, then r x D; Lan et al. 2019, arXiv:1909.11942),
            or None for tables as wide as the model.
        tied: The output head reads the input table. Factorised tables keep their two projections (r to D, D to r)
            apart.
        scaled: Multiply embeddings by sqrt(D) (Gemma).
    """

    vocab_size: int
    rank: int | None = None
    tied: bool = True
    scaled: bool = False

    def problems(self, width: int) -> Iterator[str]:
        """Yield a sentence for each impossible field."""
        yield from positive(vocab_size=self.vocab_size)
        if self.rank is not None:
            yield from positive(rank=self.rank)
            if self.rank >= width:
                yield f"rank {self.rank} is not below the width {width}; leave it out for tables of full width"

    def input_params(self, width: int) -> int:
        """V D, or V r + r D when factorised."""
        return self.vocab_size * width if self.rank is None else self.rank * (self.vocab_size + width)

    def head_params(self, width: int) -> int:
        """0 when tied (D r when factorised); else as many as the input side."""
        if not self.tied:
            return self.input_params(width)
        return 0 if self.rank is None else self.rank * width


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer: a mixer, then a feed-forward network (None leaves it out)."""

    mixer: Mixer
    ffn: FeedForward | None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A language model.

    Attributes:
        width: Model width D.
        embedding: Tables and head.
        layers: From the first to the last.
        norm_eps: Epsilon of the RMSNorm before each block and at the end.
        post_norm: A second RMSNorm after each block, before its residual sum (Gemma 3).

    Raises:
        LayoutError: On creation, with every impossible field named.
    """

    width: int
    embedding: Embedding
    layers: tuple[Layer, ...]
    norm_eps: float = 1e-5
    post_norm: bool = False

    def __post_init__(self) -> None:
        problems = list(self._problems()) or list(self._too_large())
        if problems:
            raise LayoutError("; ".join(problems))

    def _problems(self) -> Iterator[str]:
        yield from positive(width=self.width)
        if self.width < 1:
            return
        if not 0 < self.norm_eps < 1:
            yield f"norm_eps is {self.norm_eps}; it must lie between 0 and 1"
        yield from self.embedding.problems(self.width)
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            yield f"there are {len(self.layers)} layers; there must be 1 to {MAX_LAYERS}"
        wrong = {id(block): _problems_of(block, self.width) for block, _ in (*self.counted_mixers, *self.counted_ffns)}
        if not any(wrong.values()) and all(layer.ffn is not None for layer in self.layers):
            return
        seen: dict[str, list[int]] = {}
        for index, layer in enumerate(self.layers):
            if layer.mixer.kind == "none" and layer.ffn is None:
                seen.setdefault("neither mixer nor feed-forward network; leave the layer out", []).append(index)
            for block in (layer.mixer, layer.ffn):
                for problem in wrong[id(block)] if block is not None else ():
                    seen.setdefault(problem, []).append(index)
        for problem, where in seen.items():
            yield f"layer{'s' if len(where) > 1 else ''} {', '.join(map(str, where))}: {problem}"

    def _too_large(self) -> Iterator[str]:
        total = sum(count * block.params(self.width) for block, count in (*self.counted_mixers, *self.counted_ffns))
        total += self.embedding.input_params(self.width) + self.embedding.head_params(self.width)
        if total > MAX_PARAMETERS:
            yield f"there are {total:.2g} parameters; there may be 2^40"

    @cached_property
    def counted_mixers(self) -> tuple[tuple[Mixer, int], ...]:
        """Each mixer object once, with the number of layers that share it."""
        return _counted([layer.mixer for layer in self.layers])

    @cached_property
    def counted_ffns(self) -> tuple[tuple[FeedForward, int], ...]:
        """Each feed-forward network once, with the number of layers that share it."""
        return _counted([layer.ffn for layer in self.layers if layer.ffn is not None])

    @property
    def code(self) -> str:
        """One letter per layer."""
        return "".join(layer.mixer.letter for layer in self.layers)

    @cached_property
    def layout_id(self) -> str:
        """Twelve hexadecimal digits: the SHA-256 of the canonical form, shortened."""
        return canonical_id(json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")))

    def to_json(self) -> dict[str, Any]:
        """The canonical form: layers one by one, fields written out as the module's docstring says."""
        return {
            "format": LAYOUT_FORMAT,
            "width": self.width,
            "embedding": _spec_fields(self.embedding),
            "layers": [
                {
                    "mixer": block_fields(layer.mixer),
                    "ffn": None if layer.ffn is None else block_fields(layer.ffn),
                }
                for layer in self.layers
            ],
            "norm_eps": float(self.norm_eps),
            "post_norm": self.post_norm,
        }


def canonical_id(text: str) -> str:
    """The id of the layout whose canonical form, written with sorted keys and no spaces, this is."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def distinct_blocks(layout: Layout) -> Iterator[tuple[Block, int]]:
    """Every block spec of a layout once, with the width."""
    seen: set[Block] = set()
    for layer in layout.layers:
        for block in (layer.mixer, layer.ffn):
            if block is not None and block.kind != "none" and block not in seen:
                seen.add(block)
                yield block, layout.width


@lru_cache(maxsize=1 << 14)
def _problems_of(block: Block, width: int) -> tuple[str, ...]:
    return tuple(f"{block.kind}: {problem}" for problem in block.problems(width))


def _counted(blocks: Sequence[B]) -> tuple[tuple[B, int], ...]:
    ids = list(map(id, blocks))
    objects = dict(zip(ids, blocks, strict=True))
    return tuple((objects[key], count) for key, count in Counter(ids).items())


def block_name(block: Block, width: int) -> str:
    """A spec at a model width in canonical JSON: width, kind and every field."""
    return json.dumps({"width": width, **block_fields(block)}, sort_keys=True)


def block_id(block: Block, width: int) -> str:
    """Kind and eight hexadecimal digits that tell a spec at a model width from every other: ``gqa-3f0a9c21``."""
    return f"{block.kind}-{hashlib.sha256(block_name(block, width).encode()).hexdigest()[:8]}"


def block_fields(block: Block) -> dict[str, Any]:
    """A spec in canonical form: its kind and every field."""
    return {"kind": block.kind, **_spec_fields(block)}


def by_kind(lowerings: Mapping[str, str]) -> dict[str, str]:
    """Lowerings by `block_id` summed up by block kind; specs of one kind that differ are joined: ``banded+plain``."""
    found: dict[str, set[str]] = {}
    for key, name in lowerings.items():
        found.setdefault(key.rpartition("-")[0] or key, set()).add(name)
    return {kind: "+".join(sorted(names)) for kind, names in found.items()}


def _spec_fields(spec: Any) -> dict[str, Any]:
    return {
        field.name: _canonical(getattr(spec, field.name), str(field.type))
        for field in fields(spec)
        if not added_later(field) or getattr(spec, field.name) != field.default
    }


def _canonical(value: Any, declared: str) -> Any:
    """Numbers of a float field are floats: 1000000 and 1e6 are one spelling."""
    return float(value) if type(value) is int and "float" in declared else value
