"""A space, the frozen value of a space file: choices per knob, a grammar of layers, and what every layout must meet."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from search_space.formulas import evaluate, resolve_formulas
from search_space.patterns import Pattern

Option = None | bool | int | float | str
"""What a knob can be set to: a JSON scalar. A text in the place of a number is a formula."""

SOLVE = "solve"
"""In the place of FFN widths: solve for the width that gives the target parameter count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecChoices:
    """Choices for the fields of one spec (a block, or the embedding).

    Attributes:
        spec: Class to make.
        options: Options by field, in the order of the class; fields left out keep their default.
        formulas: Fields in which a text is a formula.
    """

    spec: type[Any]
    options: Mapping[str, tuple[Option, ...]]
    formulas: frozenset[str]

    @property
    def combinations(self) -> int:
        """How many ways there are to choose."""
        return prod(len(options) for options in self.options.values())

    def all_values(self) -> Iterator[dict[str, Option]]:
        """Every way to choose."""
        for values in itertools.product(*self.options.values()):
            yield dict(zip(self.options, values, strict=True))

    def make(self, values: Mapping[str, Option], width: int, **fixed: Any) -> Any:
        """The spec for chosen values.

        Raises:
            ValueError: A formula has no value, or the spec cannot stand in a model of this width.
        """
        spec = self.spec(**resolve_formulas(values, self.formulas, {"width": width}), **fixed)
        problem = next(iter(spec.problems(width)), None)
        if problem is not None:
            raise ValueError(problem)
        return spec

    def possible(self, width: int, *, limit: int) -> Iterator[Any]:
        """Every spec that can stand in a model of this width, once; of the first `limit` ways to choose."""
        seen = set()
        for values in itertools.islice(self.all_values(), limit):
            try:
                spec = self.make(values, width)
            except ValueError:
                continue
            if spec not in seen:
                seen.add(spec)
                yield spec


@dataclass(frozen=True, slots=True, kw_only=True)
class FfnChoices:
    """Choices for the feed-forward network, the same in all layers.

    Attributes:
        kinds: Field choices by kind, `hidden` left out.
        hidden: Widths (numbers, or formulas of `width`); None when the width is solved for.
        multiple: A width that is solved for is a multiple of this.
    """

    kinds: Mapping[str, SpecChoices]
    hidden: tuple[int | str, ...] | None
    multiple: int

    def hidden_width(self, option: int | str, width: int) -> int:
        """An option of `hidden` as a number.

        Raises:
            ValueError: The formula has no value at this width.
        """
        return option if isinstance(option, int) else evaluate(option, {"width": width})


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What every layout of a space meets; None sets no limit.

    Attributes:
        total_params: Target for all parameters of the language model.
        tolerance: Largest relative distance from it.
        min_global_mixers: Layers whose mixer sees the whole context.
        max_run_without_full_attention: Longest run of layers without such a mixer.
        max_embedding_share: Largest share of embedding and output head in all parameters.
        min_ffn_ratio: Smallest FFN width over model width.
        max_ffn_ratio: Largest FFN width over model width.
    """

    total_params: int | None = None
    tolerance: float = 0.02
    min_global_mixers: int = 1
    max_run_without_full_attention: int | None = None
    max_embedding_share: float | None = None
    min_ffn_ratio: float | None = None
    max_ffn_ratio: float | None = None

    @property
    def param_range(self) -> tuple[int, int] | None:
        """Smallest and largest total within the tolerance."""
        if self.total_params is None:
            return None
        slack = int(self.total_params * self.tolerance)
        return self.total_params - slack, self.total_params + slack

    def ratio_problem(self, hidden: float, width: int) -> tuple[str, str] | None:
        """The constraint on hidden/width that is not met, and in words why."""
        ratio = hidden / width
        if self.min_ffn_ratio is not None and ratio < self.min_ffn_ratio:
            return "min_ffn_ratio", f"FFN width {hidden:g} is {ratio:.3g} x width {width}, below {self.min_ffn_ratio:g}"
        if self.max_ffn_ratio is not None and ratio > self.max_ffn_ratio:
            return "max_ffn_ratio", f"FFN width {hidden:g} is {ratio:.3g} x width {width}, above {self.max_ffn_ratio:g}"
        return None


@dataclass(frozen=True, kw_only=True)
class Space:
    """A search space. Made by `search_space.space_file.load_space`.

    Attributes:
        name: File name without its ending.
        description: One sentence.
        widths: Options for the model width.
        depths: Options for the number of layers.
        embedding: Choices for vocabulary size, rank, tying.
        mixers: Field choices by mixer kind; one choice per kind and layout.
        patterns: Alternatives of the layer grammar.
        ffn: Choices for the feed-forward network.
        constraints: What every layout meets.
        norm_eps: Epsilon of the layer norms.
        post_norm: Options for a second norm after each block.
        anchors: Layouts that a search of this space is shown beside, as people type them; empty for the usual ones.
    """

    name: str
    description: str
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    embedding: SpecChoices
    mixers: Mapping[str, SpecChoices]
    patterns: tuple[Pattern, ...]
    ffn: FfnChoices
    constraints: Constraints
    norm_eps: float = 1e-5
    post_norm: tuple[bool, ...] = (False,)
    anchors: tuple[str, ...] = ()

    @cached_property
    def kind_by_letter(self) -> dict[str, str]:
        """Mixer kinds of this space by code letter."""
        return {choices.spec.letter: kind for kind, choices in self.mixers.items()}

    @cached_property
    def letters(self) -> str:
        """Letters of all mixers of this space, sorted."""
        return "".join(sorted(self.kind_by_letter))

    @cached_property
    def global_letters(self) -> frozenset[str]:
        """Letters of mixers that see the whole context."""
        return frozenset(letter for letter, kind in self.kind_by_letter.items() if self.mixers[kind].spec.is_global)

    @cached_property
    def pattern_by_text(self) -> dict[str, Pattern]:
        """Alternatives by their canonical spelling."""
        return {pattern.text: pattern for pattern in self.patterns}
