"""The contract of a block: what a mixer or a feed-forward network must answer, and how it is found.

Shape letters used in every block: B batch, T tokens of this call, S tokens in the cache, D model width,
H heads, K key (head) dimension, V value dimension, C channels.

A block is one module in `search_space/blocks/`. It defines a frozen dataclass (the *spec*), a torch module
(the numerical truth, written for reading), and one or more *lowerings*: named ways to say the same mathematics in
ONNX. The model width is not part of the spec; it belongs to the layout and is passed where it matters.

The shortest block is a spec and a torch module. What it leaves out is then taken from the module: its graph from
`torch.onnx.export` (the lowering `exported`), its parameters and operations by counting them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from onnx_ir import Value
    from torch import nn

    from search_space.graph.builder import GraphBuilder

Dim = int | str
"""A dimension of a state: a number, or one of the symbols ``"batch"`` and ``"capacity"``."""

STATE_BYTES = {"float32": 4, "float16": 2}

EXPORTED = "exported"
"""Name of the lowering that every block with a torch module can have."""


ADDED_LATER: Mapping[str, bool] = {"added_later": True}
"""Metadata of spec fields that came after layouts had ids; see `search_space.layout`."""


def added_later(declared: Field[Any]) -> bool:
    """Whether a spec's field came after layouts had ids: it is written down only where it is not its default."""
    return "added_later" in declared.metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpec:
    """One tensor that a block carries from call to call.

    Attributes:
        name: Name inside the block, for example ``key`` or ``conv``.
        shape: Dimensions; ``"batch"`` and ``"capacity"`` (rows of a growing cache) are symbols.
        growing: True for a cache with one row per token of context.
        in_place: True when the runtime updates one buffer instead of writing a new one. A growing cache that is not
            in place is a concatenation: S rows go in and S + T come out, and only the bytes that are needed are bound.
    """

    name: str
    shape: tuple[Dim, ...]
    growing: bool = False
    in_place: bool = False

    def elements(self, *, batch: int, context: int) -> int:
        """Number of elements for `batch` sequences of `context` tokens."""
        sizes = {"batch": batch, "capacity": context}
        return prod(sizes[dim] if isinstance(dim, str) else dim for dim in self.shape)


States = Callable[["Block", int, int], tuple[StateSpec, ...]]
"""``states(spec, width, context)``: what a block carries that is held for at most `context` tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowering:
    """One way to write a block as ONNX nodes.

    Attributes:
        build: ``build(graph, spec, width, x) -> y`` with x and y of shape [B, T, D].
        note: One sentence: which operator carries the work, and where it does well.
        states: What this lowering carries from call to call, where that is not the block's own `Block.states`; never
            more bytes than those. Each of its states holds rows of the torch module's: all, or the last ones.
        scratch: ``scratch(spec, tokens, context)``: elements, for one sequence, of its largest tensor that grows with
            tokens times context; None where there is none. Lowerings are not compared where that would fill a device.
    """

    build: Callable[[GraphBuilder, Block, int, Value], Value]
    note: str
    states: States | None = None
    scratch: Callable[[Block, int, int], int] | None = None


def _as_exported(g: GraphBuilder, block: Block, width: int, x: Value) -> Value:
    from search_space.graph.exported import build

    return build(g, block, width, x)


def _as_returned(block: Block, width: int, context: int) -> tuple[StateSpec, ...]:
    """The states as a torch module gives them back: a growing one is a new tensor with the new rows behind."""
    states = block.states(width, context=context)
    return tuple(replace(state, in_place=False) if state.growing else state for state in states)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block(ABC):
    """What mixers and feed-forward networks have in common.

    Class attributes:
        kind: Name in layout and space files.
        title: Name in tables and figures.
        lowerings: By name; the first is used unless a choice says otherwise. A block that defines none is exported
            by torch.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    lowerings: ClassVar[Mapping[str, Lowering]] = {
        EXPORTED: Lowering(
            build=_as_exported, note="torch.onnx.export of the torch module; tuned by nobody", states=_as_returned
        )
    }

    @classmethod
    def all_lowerings(cls) -> Mapping[str, Lowering]:
        """The block's own lowerings, and `exported` behind them; nothing for a block that is never built."""
        return {**cls.lowerings, EXPORTED: Block.lowerings[EXPORTED]} if cls.lowerings else {}

    def problems(self, width: int) -> Iterator[str]:  # noqa: ARG002
        """Yield one sentence for each reason why this spec cannot stand in a model of this width."""
        return iter(())

    def params(self, width: int) -> int:
        """Number of trainable parameters, without the norm before the block; by default, counted in the module."""
        from search_space.blocks._counted import counted_params

        return counted_params(self, width)

    def flops(self, width: int, *, tokens: int, context: int) -> int:
        """Floating-point operations (a multiply-add counts as two) for one sequence.

        By default those that torch counts in the module: matrix products, convolutions and attention. The conformance
        suite tells when they do not add up, and a formula is needed.

        Args:
            width: Model width D.
            tokens: New tokens of this call.
            context: Tokens visible at the end of the call, the new ones included.
        """
        from search_space.blocks._counted import counted_flops

        return counted_flops(self, width, tokens=tokens, context=context)

    @abstractmethod
    def module(self, width: int) -> nn.Module:
        """A fresh torch module: ``forward(x_BTD, state, position) -> (y_BTD, new_state)``.

        `state` is a tuple of tensors in the order of `states`, or None at the start of a sequence; `position` is the
        number of tokens already seen. A state of fixed size that holds zeros means what None means, and so does a
        growing one without rows: so a device begins every sequence. A feed-forward network has ``forward(x_BTD) ->
        y_BTD``.
        """

    def states(self, width: int, *, context: int) -> tuple[StateSpec, ...]:  # noqa: ARG002
        """The tensors carried from call to call when at most `context` tokens are to be held."""
        return ()

    def lowered_states(self, lowering: str, width: int, *, context: int) -> tuple[StateSpec, ...]:
        """The tensors that the graph of one lowering carries: its own, or those of `states`."""
        own = self.all_lowerings()[lowering].states
        return self.states(width, context=context) if own is None else own(self, width, context)

    def state_bytes(self, width: int, *, context: int, batch: int = 1, dtype: str = "float32") -> int:
        """Bytes of carried state at `context` tokens: the sum over `states` of elements times bytes per element.

        A property of the mathematics as the first lowering carries it; others may hold less (`lowered_states`).

        Args:
            width: Model width D.
            context: Tokens for which caches are sized.
            batch: Sequences B.
            dtype: ``float32`` or ``float16``.
        """
        specs = self.states(width, context=context)
        return sum(spec.elements(batch=batch, context=context) for spec in specs) * STATE_BYTES[dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixer(Block):
    """A block that moves information between tokens.

    Class attributes:
        letter: One letter for layout codes.
        color: Hex colour for pictures.
        is_global: True when every token can attend to the whole context.
    """

    letter: ClassVar[str]
    color: ClassVar[str]
    is_global: ClassVar[bool] = False

    @property
    def visible(self) -> int | None:
        """Tokens that one looks back on, itself included; None for all of them, in whatever form they are kept."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward(Block):
    """A block that works on each token alone; its hidden width is what iso-parameter sampling solves for."""

    hidden: int

    @classmethod
    @abstractmethod
    def params_per_hidden(cls, width: int) -> int:
        """Parameters that one more hidden unit adds at this width."""


MAX_SIZE = 1 << 24
"""Largest size of anything: far above every published model, and low enough that tensors stay addressable."""


def positive(*, at_most: int = MAX_SIZE, **fields: int) -> Iterator[str]:
    """Yield a sentence for every named value below 1 or above `at_most`."""
    for name, value in fields.items():
        if value < 1:
            yield f"{name} is {value}; it must be at least 1"
        elif value > at_most:
            yield f"{name} is {value}; it must be at most {at_most}"


def small_fraction(**fields: float) -> Iterator[str]:
    """Yield a sentence for every named value (an epsilon) that does not lie between 0 and 1."""
    for name, value in fields.items():
        if not 0 < value < 1:
            yield f"{name} is {value}; it must lie between 0 and 1"
