"""Writes nodes and gives them names: in the main graph, and in the subgraphs of `If`, `Scan` and `Loop`.

A subgraph sees every value made before it. Graph inputs, weights and constants always belong to the main graph, also
when a subgraph asks for them first, so that one place holds all of them and a weight is never stored per branch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir

Values = Sequence[ir.Value]


class NodeWriter:
    """Nodes under construction, named after the scope they are made in and numbered through the whole model."""

    def __init__(self) -> None:
        self._nodes: list[ir.Node] = []
        self._made = 0
        self._scope: list[str] = []
        self._nesting = 0

    # -- names ---------------------------------------------------------------------------------------------------

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefix every name made inside with `name`."""
        self._scope.append(name)
        yield
        self._scope.pop()

    def path(self, name: str = "") -> str:
        """The full dotted name of `name` in the current scope."""
        return ".".join([*self._scope, name] if name else self._scope)

    @property
    def in_subgraph(self) -> bool:
        """True while the callables of `branch`, `scan` and `loop` write their nodes."""
        return self._nesting > 0

    # -- nodes ---------------------------------------------------------------------------------------------------

    def op(self, op_type: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        """Append a node with one output and return it."""
        return self.ops(op_type, *inputs, outputs=1, domain=domain, **attributes)[0]

    def ops(self, op_type: str, *inputs: ir.Value | None, outputs: int, domain: str = "", **attributes: Any) -> Values:
        """Append a node with several outputs and return them."""
        name = f"{self.path()}/{op_type}_{self._made}"
        self._made += 1
        attrs = ir.convenience.convert_attributes({k: v for k, v in attributes.items() if v is not None})
        node = ir.Node(domain, op_type, inputs, attrs, num_outputs=outputs, name=name)
        for index, value in enumerate(node.outputs):
            value.name = f"{name}:{index}"
        self._nodes.append(node)
        return node.outputs

    # -- subgraphs -----------------------------------------------------------------------------------------------

    def branch(
        self, condition: ir.Value, then: Callable[[], Values], otherwise: Callable[[], Values], outputs: int
    ) -> Values:
        """Run one of two groups of nodes (`If`); only the chosen one costs time.

        Trainable weights must be made before, and captured: a callable that makes one makes it twice.

        Args:
            condition: Boolean, one element.
            then: Appends nodes for a true condition; returns `outputs` values.
            otherwise: The same for a false one, in the same order and of the same types and ranks.
            outputs: How many values each returns.
        """
        attributes: dict[str, Any] = {}
        for name, build in (("then_branch", then), ("else_branch", otherwise)):
            with self._subgraph() as nodes:
                results = self._made_inside(build())
            assert len(results) == outputs, f"{name} returns {len(results)} values, {outputs} were announced"
            attributes[name] = ir.Graph(inputs=[], outputs=results, nodes=nodes, name=f"{self.path()}/{name}")
        return self.ops("If", condition, outputs=outputs, **attributes)

    def scan(
        self, body: Callable[[Values, Values], tuple[Values, Values]], states: Values, sequences: Values, outputs: int
    ) -> tuple[Values, Values]:
        """Walk along the first axis of some tensors and carry states from step to step (`Scan`).

        Args:
            body: Called once, to append the nodes of a step: gets the states and one slice of each sequence (its
                first axis gone), returns the new states and the step's results.
            states: Values before the first step.
            sequences: Tensors of one length, walked along together.
            outputs: Results of a step.

        Returns:
            The states after the last step, and each result stacked along a new first axis.
        """
        number = self._made
        carried = [ir.Value(name=f"{self.path()}/scan_{number}.state_{i}") for i in range(len(states))]
        items = [ir.Value(name=f"{self.path()}/scan_{number}.item_{i}") for i in range(len(sequences))]
        with self._subgraph() as nodes:
            new_states, results = body(carried, items)
            assert len(new_states) == len(states), f"the body returns {len(new_states)} states of {len(states)}"
            assert len(results) == outputs, f"the body returns {len(results)} results, {outputs} were announced"
            returned = self._made_inside([*new_states, *results])
        graph = ir.Graph(inputs=[*carried, *items], outputs=returned, nodes=nodes, name=f"{self.path()}/body")
        after = self.ops("Scan", *states, *sequences, outputs=len(returned), body=graph, num_scan_inputs=len(sequences))
        return after[: len(states)], after[len(states) :]

    def loop(self, count: ir.Value, body: Callable[[ir.Value], ir.Value]) -> ir.Value:
        """Repeat (`Loop`): ``body(index)`` for each index below `count`, results stacked along a new first axis.

        Args:
            count: int64 scalar.
            body: Called once, to append the nodes of one round; its argument is an int64 scalar, its result has one
                shape in every round.
        """
        number = self._made
        index = ir.Value(
            name=f"{self.path()}/loop_{number}.index", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(())
        )
        running = ir.Value(
            name=f"{self.path()}/loop_{number}.running", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape(())
        )
        with self._subgraph() as nodes:
            returned = self._made_inside([self.op("Identity", running), body(index)])
        graph = ir.Graph(inputs=[index, running], outputs=returned, nodes=nodes, name=f"{self.path()}/body")
        return self.op("Loop", count, None, body=graph)

    @contextmanager
    def _subgraph(self) -> Iterator[list[ir.Node]]:
        """Collect the nodes that are made inside apart from the others."""
        outer, self._nodes = self._nodes, []
        self._nesting += 1
        yield self._nodes
        self._nodes = outer
        self._nesting -= 1

    def _made_inside(self, values: Values) -> list[ir.Value]:
        """The values, each made by a node of the open subgraph and returned once, as ONNX wants it."""
        made = {id(value) for node in self._nodes for value in node.outputs}
        returned: list[ir.Value] = []
        for value in values:
            fresh = id(value) in made
            made.discard(id(value))
            returned.append(value if fresh else self.op("Identity", value))
        return returned
