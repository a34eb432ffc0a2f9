"""The conformance suite can fail: each kind of mistake in a block is found, and its weights are a device's."""

from dataclasses import replace

import numpy as np
import pytest

from search_space import conformance
from search_space.blocks import Lowering, StateSpec
from search_space.blocks.gdn import GDN
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swa import SWA
from search_space.conformance import BlockConformance, Case
from search_space.graph.precision import PRECISIONS


def broken(**changes):
    """ShortConv with something wrong."""
    return type("Broken", (ShortConv,), {"__slots__": (), **changes})(kernel=3)


def wrong_lowering(change):
    def build(g, spec, width, x):
        return change(g, ShortConv.lowerings["shifted"].build(g, spec, width, x))

    return {"shifted": Lowering(build=build, note="wrong")}


def case_of(spec, **sizes):
    return Case(block=spec, width=17, precision="fp32", lowering="shifted", **sizes)


def test_a_wrong_count_is_found():
    with pytest.raises(AssertionError, match="params says"):
        conformance.check_counts(case_of(broken(params=lambda self, width: ShortConv.params(self, width) + 1)))


def test_a_wrong_lowering_is_found():
    off = broken(lowerings=wrong_lowering(lambda g, y: g.op("Mul", y, g.float_scalar(1.001))))
    with pytest.raises(AssertionError, match=r"differ by 0\.001"):
        conformance.check_runtime(case_of(off))


def test_a_lost_state_is_found():
    def forget(self, width):
        module = ShortConv.module(self, width)
        forward = type(module).forward
        type(module).forward = lambda m, x, state, position: forward(m, x, None, position)
        return module

    with pytest.raises(AssertionError, match="calls differ from one call"):
        conformance.check_torch_steps(broken(module=forget), 17, batch=1, tokens=5, prefill=2)


def doubled_states(g, spec, width, x):
    keep = g.state_output
    g.state_output = lambda state, value: keep(state, g.op("Mul", value, g.float_scalar(2.0)))
    return ShortConv.lowerings["shifted"].build(g, spec, width, x)


def test_zeros_that_are_not_none_are_found():
    def begin(self, width):
        module = ShortConv.module(self, width)
        forward = type(module).forward
        type(module).forward = lambda m, x, state, position: forward(m, x if state else x + 1, state, position)
        return module

    with pytest.raises(AssertionError, match="a state of zeros and a state of None differ"):
        conformance.check_zero_state(broken(module=begin), 17, batch=1, tokens=5)


@pytest.mark.parametrize(
    "check", [conformance.check_runtime, conformance.check_runtime_steps, conformance.check_chunks]
)
def test_a_wrong_state_is_found(check):
    off = broken(lowerings={"shifted": Lowering(build=doubled_states, note="wrong")})
    with pytest.raises(AssertionError, match="differ"):
        check(case_of(off))


def test_a_node_outside_its_block_is_found():
    with pytest.raises(AssertionError, match=r"nodes outside \['layers"):
        conformance.check_names(case_of(ShortConv(kernel=3)).candidate(), ["layers.0"])


def test_a_node_outside_its_block_is_found_inside_a_branch():
    def astray(g, y):
        def lost():
            scope, g._scope = g._scope, ["lost"]
            value = g.op("Neg", y)
            g._scope = scope
            return (value,)

        long = g.op("Greater", g.op("Size", y), g.ints(9))
        return g.branch(long, lost, lambda: (y,), outputs=1)[0]

    candidate = case_of(broken(lowerings=wrong_lowering(astray))).candidate()
    with pytest.raises(AssertionError, match=r"nodes outside \['block'\]: \['lost/Neg"):
        conformance.check_names(candidate, ["block"])


def test_a_parameter_that_nothing_reaches_is_found():
    def detached(self, width):
        module = ShortConv.module(self, width)
        module.in_proj.weight.requires_grad_(False)
        return module

    with pytest.raises(AssertionError, match=r"in_proj\.weight has no gradient"):
        BlockConformance().test_torch_is_trainable(broken(module=detached))


def test_wrong_state_bytes_are_found():
    bad = broken(state_bytes=lambda self, width, **kw: 4)
    with pytest.raises(AssertionError, match="state_bytes says 4"):
        conformance.check_state_bytes(bad, 17, context=8, batch=1, lowering="shifted")


def test_a_lowering_that_carries_more_than_it_may_is_found():
    def states(spec, width, context):
        return tuple(StateSpec(name=name, shape=("batch", 2, 99, 16)) for name in ("key", "value"))

    greedy = replace(SWA.lowerings["plain"], states=states)
    bad = type("Greedy", (SWA,), {"__slots__": (), "lowerings": {"plain": greedy}})(
        heads=2, kv_heads=2, head_dim=16, window=5
    )
    with pytest.raises(AssertionError, match="the states of plain have"):
        conformance.check_state_bytes(bad, 17, context=40, batch=1, lowering="plain")


def test_a_window_that_carries_the_wrong_rows_is_found(monkeypatch):
    def first_rows(g, state, rows):
        return g.op("Slice", rows, g.ints(0), g.ints(state.shape[2]), g.ints(2))

    monkeypatch.setattr("search_space.blocks._attention_plain._carried", first_rows)
    swa = SWA(heads=2, kv_heads=2, head_dim=16, window=5)
    case = Case(block=swa, width=33, precision="fp32", lowering="plain")
    with pytest.raises(AssertionError, match=r"past\.block\.key"):
        conformance.check_runtime(case)


def test_flops_that_do_not_add_up_are_found():
    bad = broken(flops=lambda self, width, *, tokens, context: tokens * context)
    with pytest.raises(AssertionError, match="as many single steps"):
        conformance.check_flops(bad, 17, tokens=5)


def test_the_suites_own_values_are_the_devices_where_they_are_not_random():
    from profiler.agent.weights import tensor_values

    for fill, shape in (
        ({"kind": "rope", "part": "cos", "theta": 1e4, "rotary_dim": 32}, [40, 16]),
        ({"kind": "rope", "part": "sin", "theta": 1e6, "rotary_dim": 16}, [9, 8]),
        ({"kind": "constant", "value": 0.25}, [7]),
        ({"kind": "values", "values": [1.5, 2.0]}, [2]),
    ):
        tensor = {"name": "t", "dtype": "float32", "shape": shape, "offset": 0, "fill": fill}
        np.testing.assert_allclose(conformance.recipe_values(tensor), tensor_values(tensor), rtol=0, atol=1e-7)


def test_a_block_agrees_with_torch_on_the_devices_weights():
    from profiler.agent.weights import tensor_values

    for precision in PRECISIONS:
        case = Case(block=GDN(key_heads=2, value_heads=2, key_dim=8, value_dim=8), width=33, precision=precision,
                    lowering="linear_attention")  # fmt: skip
        runner = conformance.GraphRunner(case.candidate(), values=tensor_values, exact=True)
        x = case.hidden()
        wanted, _ = conformance.torch_run(case.block, 33, runner.torch_state(strip="block."), x, [case.tokens])
        (got,), _ = runner.sequence(x, [case.tokens], capacity=case.tokens)
        assert conformance.relative_rms(got, wanted) < conformance.TOLERANCE[precision]
