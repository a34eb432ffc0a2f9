"""Sampling: one layout of a space, by asking a chooser for one knob after another.

Knobs have stable names, and a name always comes with the same options, so that a study of any optimiser can hold
them: `width`, `depth`, `pattern`, `layer_03_mixer` (and `layer_03_of_GW` where a layer has fewer options),
`gqa.kv_heads` (fields of the mixers that occur), `embedding.rank`, `ffn_kind`, `ffn_hidden`, `post_norm`.
A knob with one option is not asked.

Under a pattern with open layers, a layer is offered only the mixers with which `min_global_mixers` and
`max_run_without_full_attention` can still be met. So these two constraints reject nothing there, and every sequence of
layers that meets them is reached in exactly one way.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from search_space.blocks import FeedForward, Mixer
from search_space.cost import parameters
from search_space.errors import LayoutError
from search_space.iso_parameter import Skeleton
from search_space.layout import Layout
from search_space.quantities import short_count
from search_space.sequences import LayerRules
from search_space.space import Option, Space, SpecChoices

T = TypeVar("T", bound=Option)


class Chooser(Protocol):
    """Answers for one knob at a time; `trial.suggest_categorical` of Optuna fits as it is."""

    def choose(self, name: str, options: Sequence[T]) -> T:
        """Return one of `options` (JSON scalars); the same name always comes with the same options."""


class RandomChooser:
    """Chooses uniformly from a seeded generator."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def choose(self, name: str, options: Sequence[T]) -> T:  # noqa: ARG002
        """One of the options, all equally likely."""
        return options[self._rng.randrange(len(options))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Choices that make no member of the space.

    Attributes:
        constraint: What they break: a key of `constraints`, or `pattern`, `fields`, `embedding`, `ffn`.
        message: How, in words.
        distance: For `total_params`: relative distance from the target.
    """

    constraint: str
    message: str
    distance: float = 0.0


class _Rejected(Exception):  # noqa: N818
    def __init__(self, constraint: str, message: str, *, distance: float = 0.0) -> None:
        super().__init__(message)
        self.rejection = Rejection(constraint=constraint, message=message, distance=distance)


def sample(space: Space, chooser: Chooser) -> Layout | Rejection:
    """Make the layout that the chooser's answers describe, or say which constraint they break.

    Knobs are asked in the order width, depth, pattern, layers, fields of mixers, embedding, FFN, post_norm, FFN width;
    what is broken early ends the questions.
    """
    try:
        return _Sampling(space, chooser).layout()
    except _Rejected as rejected:
        return rejected.rejection


class _Sampling:
    """The knobs of one layout, in order."""

    def __init__(self, space: Space, chooser: Chooser) -> None:
        self.space = space
        self.chooser = chooser

    def ask(self, name: str, options: Sequence[T]) -> T:
        return options[0] if len(options) == 1 else self.chooser.choose(name, options)

    def layout(self) -> Layout:
        space = self.space
        width = self.ask("width", space.widths)
        depth = self.ask("depth", space.depths)
        code = self.code(depth)
        kinds = sorted({space.kind_by_letter[letter] for letter in code})
        by_kind: dict[str, Mixer] = {kind: self.spec(kind, space.mixers[kind], width, "fields") for kind in kinds}
        skeleton = Skeleton(
            width=width,
            embedding=self.spec("embedding", space.embedding, width, "embedding"),
            mixers=tuple(by_kind[space.kind_by_letter[letter]] for letter in code),
            feed_forward=self.feed_forward(width),
            norm_eps=space.norm_eps,
            post_norm=self.ask("post_norm", space.post_norm),
        )
        return finish(space, skeleton, lambda: self.hidden(width))

    def code(self, depth: int) -> str:
        space = self.space
        pattern = space.pattern_by_text[self.ask("pattern", tuple(space.pattern_by_text))]
        slots = pattern.slots(depth)
        if slots is None:
            ends = len(pattern.prefix) + len(pattern.suffix)
            raise _Rejected("pattern", f"pattern {pattern.text} has {ends} fixed layers, more than depth {depth}")
        rules = LayerRules(space, slots)
        broken = rules.broken()
        if broken is not None:
            raise _Rejected(broken, f"pattern {pattern.text} at depth {depth} cannot meet {broken}")
        code = ""
        for index, slot in enumerate(slots):
            allowed = rules.allowed(code)
            name = "mixer" if allowed == space.letters else f"of_{allowed}"
            assert set(allowed) <= set(slot)
            code += self.ask(f"layer_{index:02d}_{name}", tuple(allowed))
        return code

    def spec(self, prefix: str, choices: SpecChoices, width: int, constraint: str) -> Any:
        values = {field: self.ask(f"{prefix}.{field}", options) for field, options in choices.options.items()}
        try:
            return choices.make(values, width)
        except ValueError as error:
            raise _Rejected(constraint, f"{prefix}: {error}") from error

    def feed_forward(self, width: int) -> Callable[[int], FeedForward]:
        kinds = self.space.ffn.kinds
        kind = self.ask("ffn_kind", tuple(kinds))
        choices = kinds[kind]
        values = {field: self.ask(f"{kind}.{field}", options) for field, options in choices.options.items()}

        def make(hidden: int) -> FeedForward:
            try:
                made: FeedForward = choices.make(values, width, hidden=hidden)
            except ValueError as error:
                raise _Rejected("ffn", f"{kind}: {error}") from error
            return made

        return make

    def hidden(self, width: int) -> int:
        ffn = self.space.ffn
        assert ffn.hidden is not None
        try:
            return ffn.hidden_width(self.ask("ffn_hidden", ffn.hidden), width)
        except ValueError as error:
            raise _Rejected("ffn", f"ffn.hidden: {error}") from error


def finish(space: Space, skeleton: Skeleton, ask_hidden: Callable[[], int]) -> Layout:
    """Choose or solve for the FFN width, and hold the layout against the constraints on numbers.

    Raises:
        _Rejected: A constraint is not met.
    """
    constraints = space.constraints
    target = constraints.total_params
    try:
        if space.ffn.hidden is None:
            assert target is not None
            layout = skeleton.layout(hidden := skeleton.solve(target, space.ffn.multiple))
        else:
            layout = skeleton.layout(hidden := ask_hidden())
    except LayoutError as error:
        raise _Rejected("fields", str(error)) from error
    counts = parameters(layout)
    if constraints.param_range is not None:
        low, high = constraints.param_range
        if not low <= counts.total <= high:
            assert target is not None
            raise _Rejected(
                "total_params",
                f"{layout.code} has {short_count(counts.total)} parameters with FFN width {hidden}, "
                f"outside {short_count(target)} ±{100 * constraints.tolerance:.3g}%",
                distance=abs(counts.total - target) / target,
            )
    limit = constraints.max_embedding_share
    if limit is not None and counts.embedding_share > limit:
        raise _Rejected("max_embedding_share", f"embedding share {counts.embedding_share:.3f} is above {limit:g}")
    problem = constraints.ratio_problem(hidden, skeleton.width)
    if problem is not None:
        raise _Rejected(*problem)
    return layout
