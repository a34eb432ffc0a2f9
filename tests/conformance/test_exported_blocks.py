"""Blocks that bring no lowering pass the suite as torch.onnx.export writes them; so do shipped ones that allow it."""

from search_space.conformance import BlockConformance
from tests.state_space import StateSpace
from tests.unit.search_space.own_blocks import GatedConv, GeluNetwork, MovingAverage, PlainAttention, Turning


class TestGatedConv(BlockConformance):
    specs = (GatedConv(), GatedConv(kernel=4))


class TestGeluNetwork(BlockConformance):
    specs = (GeluNetwork(hidden=65),)


class TestTurning(BlockConformance):
    specs = (Turning(),)


class TestMovingAverage(BlockConformance):
    specs = (MovingAverage(),)


class TestStateSpace(BlockConformance):
    specs = (StateSpace(heads=4, state_dim=8),)
    widths = (64,)


class TestPlainAttention(BlockConformance):
    specs = (PlainAttention(),)
