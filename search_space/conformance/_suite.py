"""The test class that plug-ins subclass: every check over every combination of spec, width, precision and lowering."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from search_space.blocks import Block, FeedForward
from search_space.conformance._case import Case
from search_space.conformance._counts import check_counts, check_flops, check_names, check_state_bytes
from search_space.conformance._numbers import (
    check_chunks,
    check_runtime,
    check_runtime_steps,
    check_same_weights,
    check_torch_steps,
    check_zero_state,
)
from search_space.graph.precision import PRECISIONS
from search_space.graph.recipe import tensor_seed


class BlockConformance:
    """Subclass, name it Test..., and list specs of your block; pytest runs every check over every combination.

    Attributes:
        specs: Specs to try; cover every branch of the lowerings.
        widths: Model widths; odd ones find padding mistakes (quantisation blocks hold 32 inputs).
        batch: Sequences per call.
        tokens: Tokens per sequence; longer than any window among the specs, so that caches wrap.
        prefill: Tokens of the first call.
    """

    specs: ClassVar[Sequence[Block]] = ()
    widths: ClassVar[Sequence[int]] = (33, 64)
    batch: ClassVar[int] = 2
    tokens: ClassVar[int] = 19
    prefill: ClassVar[int] = 7

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Give `case` and `spec` their values (called by pytest)."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", list(self.cases()), ids=str)
        if "spec" in metafunc.fixturenames:
            metafunc.parametrize("spec", self.specs, ids=str)

    def cases(self) -> Iterator[Case]:
        """Every spec, width, precision and lowering."""
        for spec in self.specs:
            for width in self.widths:
                for precision in PRECISIONS:
                    for lowering in spec.lowerings:
                        yield Case(
                            block=spec, width=width, precision=precision, lowering=lowering, batch=self.batch,
                            tokens=self.tokens, prefill=self.prefill, seed=tensor_seed(0, f"{spec}{width}") % 1000,
                        )  # fmt: skip

    def test_specs_are_possible(self) -> None:
        """There are specs, and `problems` finds nothing to say about them."""
        assert self.specs, "list some specs"
        for spec in self.specs:
            for width in self.widths:
                assert not list(spec.problems(width)), f"{spec} at width {width}: {list(spec.problems(width))}"

    def test_torch_prefill_equals_steps(self, spec: Block) -> None:
        """The torch module carries its state rightly."""
        for width in self.widths:
            check_torch_steps(spec, width, batch=self.batch, tokens=self.tokens, prefill=self.prefill)

    def test_a_state_of_zeros_is_none(self, spec: Block) -> None:
        """See `check_zero_state`."""
        for width in self.widths:
            check_zero_state(spec, width, batch=self.batch, tokens=self.tokens)

    def test_torch_is_trainable(self, spec: Block) -> None:
        """Every parameter receives a finite gradient."""
        import torch

        module = spec.module(self.widths[0])
        x_BTD = torch.randn(self.batch, self.tokens, self.widths[0], generator=torch.Generator().manual_seed(0))
        y_BTD = module(x_BTD) if isinstance(spec, FeedForward) else module(x_BTD, None, 0)[0]
        y_BTD.square().sum().backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, f"{name} has no gradient"
            assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"

    def test_graph_agrees_with_torch(self, case: Case) -> None:
        """See `check_runtime`."""
        check_runtime(case)

    def test_lowerings_have_the_same_weights(self, spec: Block) -> None:
        """See `check_same_weights`."""
        for width in self.widths:
            for precision in PRECISIONS:
                check_same_weights(spec, width, precision)

    def test_prefill_equals_steps(self, case: Case) -> None:
        """See `check_runtime_steps`; once with caches as long as the sequence, once longer."""
        check_runtime_steps(case)
        check_runtime_steps(replace(case, spare=5))

    def test_chunks(self, case: Case) -> None:
        """See `check_chunks`."""
        check_chunks(case)

    def test_counts(self, case: Case) -> None:
        """See `check_counts`."""
        check_counts(case)

    def test_node_names_carry_the_path(self, case: Case) -> None:
        """See `check_names`."""
        check_names(case.candidate(), ["block"])

    def test_state_bytes(self, spec: Block) -> None:
        """See `check_state_bytes`."""
        for lowering in spec.lowerings:
            for context in (1, self.tokens, 8 * self.tokens):
                check_state_bytes(spec, self.widths[0], context=context, batch=self.batch, lowering=lowering)

    def test_flops(self, spec: Block) -> None:
        """See `check_flops`."""
        for width in self.widths:
            check_flops(spec, width, tokens=self.tokens)
