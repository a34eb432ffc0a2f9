"""Why a space is empty: the first constraint that nothing meets, with the extremes that can be reached.

Constraints are taken one after another in the order pattern, fields, embedding, min_global_mixers,
max_run_without_full_attention, total_params, max_embedding_share, min_ffn_ratio, max_ffn_ratio; the first that removes
all that the earlier ones left is named. Parameter counts are bounded for each width, depth and embedding by the
cheapest and the dearest sequence of layers, so the answer does not depend on luck in drawing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

from search_space.blocks import FeedForward
from search_space.layout import Embedding
from search_space.quantities import short_count
from search_space.sequences import LayerRules, slots_at
from search_space.space import Space

_MAX_SPECS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Emptiness:
    """What empties a space.

    Attributes:
        constraint: As in `search_space.sampling.Rejection`.
        message: What cannot be met, with the nearest that can be reached.
        hint: What to change.
    """

    constraint: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """All layouts of one width, depth and embedding, by bounds.

    Attributes:
        lightest: With the layers that have the fewest parameters.
        heaviest: With those that have the most.
        low: Parameters of the lightest, feed-forward networks left out.
        high: Parameters of the heaviest, likewise.
        per_hidden: Parameters of one hidden unit in every layer, of the smallest kind of network.
        per_hidden_most: The same of the largest.
    """

    width: int
    depth: int
    embedding: Embedding
    lightest: str
    heaviest: str
    low: int
    high: int
    per_hidden: int
    per_hidden_most: int

    @property
    def vocabulary(self) -> int:
        return self.embedding.input_params(self.width) + self.embedding.head_params(self.width)

    @property
    def text(self) -> str:
        rank = "" if self.embedding.rank is None else f", rank {self.embedding.rank}"
        tied = "" if self.embedding.tied else ", untied"
        return f"width {self.width}, depth {self.depth}, vocabulary {self.embedding.vocab_size}{rank}{tied}"


def why_empty(space: Space) -> Emptiness | None:
    """The constraint that no layout meets, or None when the bounds do not show the space to be empty."""
    return _Search(space).answer()


class _Search:
    def __init__(self, space: Space) -> None:
        self.space = space
        self.constraints = space.constraints

    def answer(self) -> Emptiness | None:
        for step in (self.patterns, self.fields, self.embeddings, self.sequences, self.totals, self.share, self.ratios):
            found = step()
            if found is not None:
                return found
        return None

    def patterns(self) -> Emptiness | None:
        if any(slots_at(self.space, depth) for depth in self.space.depths):
            return None
        shortest = min(len(pattern.prefix) + len(pattern.suffix) for pattern in self.space.patterns)
        return Emptiness(
            constraint="pattern",
            message=f"no pattern fits depth {max(self.space.depths)} or less: the shortest has {shortest} fixed layers",
            hint=f"allow a depth of {shortest}, or shorten the ends of a pattern",
        )

    @property
    def norms(self) -> tuple[int, int]:
        """Norms per block: fewest and most."""
        return 1 + all(self.space.post_norm), 1 + any(self.space.post_norm)

    @cached_property
    def costs(self) -> dict[int, tuple[dict[str, int], dict[str, int]]]:
        """By width: parameters with the norm before the mixer, by letter, of its smallest and its largest spec."""
        found = {}
        few, many = self.norms
        for width in self.space.widths:
            least, most = {}, {}
            for letter, kind in self.space.kind_by_letter.items():
                choices = self.space.mixers[kind]
                sizes = [spec.params(width) for spec in choices.possible(width, limit=_MAX_SPECS)]
                if sizes:
                    norm = 0 if choices.spec.kind == "none" else width
                    least[letter], most[letter] = min(sizes) + few * norm, max(sizes) + many * norm
            found[width] = (least, most)
        return found

    def fields(self) -> Emptiness | None:
        free = replace(self.constraints, min_global_mixers=0, max_run_without_full_attention=None)
        if self._codes(replace(self.space, constraints=free)):
            return None
        least = [cost for cost, _ in self.costs.values()]
        missing = [kind for letter, kind in self.space.kind_by_letter.items() if all(letter not in c for c in least)]
        which = f": {', '.join(missing)} fits no width" if missing else ""
        return Emptiness(
            constraint="fields",
            message=f"at no width can all mixers of a pattern be built{which}",
            hint="change the widths or the choices of these mixers so that heads divide",
        )

    def _codes(self, space: Space) -> bool:
        return any(
            LayerRules(space, slots).best(least) is not None
            for least, _ in self.costs.values()
            for depth in space.depths
            for slots in slots_at(space, depth)
        )

    @cached_property
    def tables(self) -> dict[int, list[Embedding]]:
        return {width: list(self.space.embedding.possible(width, limit=_MAX_SPECS)) for width in self.space.widths}

    def embeddings(self) -> Emptiness | None:
        if any(self.tables.values()):
            return None
        return Emptiness(
            constraint="embedding",
            message=f"no embedding fits width {max(self.space.widths)} or less: every rank is as wide as the model",
            hint="add rank null, or lower the ranks",
        )

    def sequences(self) -> Emptiness | None:
        if self._codes(self.space):
            return None
        space, wanted = self.space, self.constraints
        alone = replace(wanted, max_run_without_full_attention=None)
        if not self._codes(replace(space, constraints=alone)):
            most = max(
                sum(bool(set(slot) & space.global_letters) for slot in slots)
                for depth in space.depths
                for slots in slots_at(space, depth)
            )
            known = ", ".join(kind for letter, kind in space.kind_by_letter.items() if letter in space.global_letters)
            reason = f"global mixers here: {known}" if known else "no mixer of the space sees the whole context"
            return Emptiness(
                constraint="min_global_mixers",
                message=f"min_global_mixers {wanted.min_global_mixers}: a layout can have at most {most}; {reason}",
                hint="lower min_global_mixers, or add gqa to the mixers and patterns",
            )
        runs = range(max(space.depths) + 1)
        least = next(
            run
            for run in runs
            if self._codes(replace(space, constraints=replace(wanted, max_run_without_full_attention=run)))
        )
        return Emptiness(
            constraint="max_run_without_full_attention",
            message=f"max_run_without_full_attention {wanted.max_run_without_full_attention}: "
            f"every layout has a run of at least {least} layers without full attention",
            hint=f"raise it to {least}, or allow a pattern with more full attention",
        )

    @cached_property
    def cells(self) -> list[_Cell]:
        return list(self._cells())

    def _cells(self) -> Iterator[_Cell]:
        space = self.space
        ffns: list[type[FeedForward]] = [choices.spec for choices in space.ffn.kinds.values()]
        few, many = self.norms
        for width, (least, most) in self.costs.items():
            negative = {letter: -cost for letter, cost in most.items()}
            per_hidden = [ffn.params_per_hidden(width) for ffn in ffns]
            for depth in space.depths:
                rules = [LayerRules(space, slots) for slots in slots_at(space, depth)]
                low = min((best for rule in rules if (best := rule.best(least)) is not None), default=None)
                high = min((best for rule in rules if (best := rule.best(negative)) is not None), default=None)
                if low is None or high is None:
                    continue
                for table in self.tables[width]:
                    rest = table.input_params(width) + table.head_params(width) + width
                    yield _Cell(
                        width=width, depth=depth, embedding=table, lightest=low[1], heaviest=high[1],
                        low=rest + low[0] + few * depth * width, high=rest - high[0] + many * depth * width,
                        per_hidden=min(per_hidden) * depth, per_hidden_most=max(per_hidden) * depth,
                    )  # fmt: skip

    def hidden_widths(self, width: int) -> tuple[int, int | None]:
        """Smallest and largest FFN width before constraints; None when nothing limits it."""
        ffn = self.space.ffn
        if ffn.hidden is None:
            return ffn.multiple, None
        options = []
        for option in ffn.hidden:
            with suppress(ValueError):
                options.append(ffn.hidden_width(option, width))
        return (min(options), max(options)) if options else (1, 0)

    def totals(self) -> Emptiness | None:
        if all(high is not None and not 1 <= low <= high for low, high in map(self.hidden_widths, self.space.widths)):
            return Emptiness(
                constraint="ffn",
                message=f"no width makes one of ffn.hidden {list(self.space.ffn.hidden or ())} a whole number",
                hint="change ffn.hidden or the widths",
            )
        wanted = self.constraints.param_range
        if wanted is None:
            return None
        bounds = []
        for cell in self.cells:
            low, high = self.hidden_widths(cell.width)
            if high is None or high >= low:
                top = None if high is None else cell.high + cell.per_hidden_most * high
                bounds.append((cell.low + cell.per_hidden * low, top, cell))
        smallest = min(bounds, key=lambda bound: bound[0])
        if smallest[0] > wanted[1]:
            reach = f"the smallest reachable is {short_count(smallest[0])}"
            return self._total(reach, smallest[2], smallest[2].lightest, "raise")
        tops = [(top, cell) for _, top, cell in bounds if top is not None]
        if len(tops) == len(bounds):
            top, cell = max(tops, key=lambda bound: bound[0])
            if top < wanted[0]:
                return self._total(f"the largest reachable is {short_count(top)}", cell, cell.heaviest, "lower")
        return None

    def _total(self, reach: str, cell: _Cell, code: str, change: str) -> Emptiness:
        other = "widths, depths or vocabularies"
        more = f"or allow smaller {other}" if change == "raise" else f"or allow larger {other}"
        return Emptiness(
            constraint="total_params",
            message=f"no layout meets total_params {self._target()}: {reach} ({code}, {cell.text})",
            hint=f"{change} total_params, {more}",
        )

    def _target(self) -> str:
        return f"{short_count(self.constraints.total_params or 0)} ±{100 * self.constraints.tolerance:.3g}%"

    def _in_reach(self) -> list[_Cell]:
        """Cells in which some layout can have the wanted total."""
        wanted = self.constraints.param_range
        if wanted is None:
            return self.cells
        return [c for c in self.cells if c.low + c.per_hidden * self.hidden_widths(c.width)[0] <= wanted[1]]

    def share(self) -> Emptiness | None:
        limit, wanted = self.constraints.max_embedding_share, self.constraints.param_range
        if limit is None:
            return None
        shares = []
        for cell in self._in_reach():
            hidden = self.hidden_widths(cell.width)[1]
            most = wanted[1] if wanted is not None else cell.high + cell.per_hidden_most * (hidden or 0)
            shares.append((cell.vocabulary / most, cell))
        least, cell = min(shares, key=lambda share: share[0])
        if least <= limit:
            return None
        return Emptiness(
            constraint="max_embedding_share",
            message=f"max_embedding_share {limit:g}: the smallest reachable is {least:.3f} ({cell.text})",
            hint="raise it, or allow a smaller vocabulary or rank, or tied tables",
        )

    def ratios(self) -> Emptiness | None:
        wanted, limits = self.constraints.param_range, self.constraints
        share = limits.max_embedding_share
        cells = [c for c in self._in_reach() if wanted is None or share is None or c.vocabulary <= share * wanted[1]]
        reach = []
        for cell in cells:
            low, high = self.hidden_widths(cell.width)
            if wanted is not None:
                low = max(low, -((cell.high - wanted[0]) // cell.per_hidden_most))
                fits = (wanted[1] - cell.low) // cell.per_hidden
                high = fits if high is None else min(high, fits)
            if high is not None and high >= low:
                reach.append((low / cell.width, high / cell.width, cell))
        if not reach:
            return None
        widest, narrowest = max(reach, key=lambda r: r[1]), min(reach, key=lambda r: r[0])
        at = f" at total_params {self._target()}" if wanted is not None else ""
        if limits.min_ffn_ratio is not None and widest[1] < limits.min_ffn_ratio:
            return Emptiness(
                constraint="min_ffn_ratio",
                message=f"min_ffn_ratio {limits.min_ffn_ratio:g}: the largest FFN ratio reachable{at} is "
                f"{widest[1]:.3g} ({widest[2].text})",
                hint="lower it, raise total_params, or allow a smaller depth, width or vocabulary",
            )
        if limits.max_ffn_ratio is not None and narrowest[0] > limits.max_ffn_ratio:
            return Emptiness(
                constraint="max_ffn_ratio",
                message=f"max_ffn_ratio {limits.max_ffn_ratio:g}: the smallest FFN ratio reachable{at} is "
                f"{narrowest[0]:.3g} ({narrowest[2].text})",
                hint="raise it, lower total_params, or allow a larger depth or width",
            )
        return None
