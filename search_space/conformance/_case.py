"""One check of one block: the spec, where it stands, and the sizes it is fed with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from search_space.blocks import Block
from search_space.conformance._runner import Array
from search_space.export import Candidate, export_block
from search_space.graph.precision import PrecisionName


@dataclass(frozen=True, kw_only=True)  # no slots: the candidate is kept
class Case:
    """One check of a block in ONNX Runtime.

    Attributes:
        block: The spec.
        width: Model width D.
        precision: Storage of the matrices.
        lowering: Which of the block's lowerings.
        batch: Sequences B.
        tokens: Tokens T of each.
        prefill: Tokens of the first call where a sequence is fed in several.
        spare: Rows of caches beyond the tokens used.
        seed: Of the inputs.
    """

    block: Block
    width: int
    precision: PrecisionName
    lowering: str
    batch: int = 2
    tokens: int = 19
    prefill: int = 7
    spare: int = 0
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.block}-D{self.width}-{self.precision}-{self.lowering}"

    def candidate(self) -> Candidate:
        """The block exported alone; once for all checks of this case."""
        return self._candidate

    @cached_property
    def _candidate(self) -> Candidate:
        return export_block(
            self.block,
            self.width,
            precision=self.precision,
            context=self.tokens + self.spare,
            lowering=self.lowering,
            seed=self.seed,
        )

    def hidden(self) -> Array:
        """Inputs [B, T, D] of unit variance, as after a norm."""
        shape = (self.batch, self.tokens, self.width)
        return np.random.default_rng(self.seed).standard_normal(shape, dtype=np.float32)
