"""The lowering `exported`: what it refuses and why, what its graphs hold, and how exports are kept."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from search_space import blocks, conformance
from search_space.blocks import EXPORTED, Mixer, StateSpec
from search_space.blocks.gdn import GDN
from search_space.blocks.gla import GLA
from search_space.blocks.gqa import GQA
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swa import SWA
from search_space.blocks.swiglu import SwiGLU
from search_space.conformance import BlockConformance, Case
from search_space.errors import ExportError, SearchSpaceError
from search_space.export import export_block
from search_space.graph import export_cache, torch_export
from search_space.graph.precision import PRECISIONS
from tests.unit.search_space.own_blocks import GatedConv, GeluNetwork, MovingAverage, Turning, install

WIDTH = 32


class Plain(nn.Module):
    """A linear map, and whatever `forward` is given."""

    def __init__(self, forward: Any, prepare: Any = None) -> None:
        super().__init__()
        self.proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.given = forward
        if prepare is not None:
            prepare(self)

    def forward(self, x: torch.Tensor, state: Any, position: Any) -> Any:
        return self.given(self, x, state, position)


def block(forward: Any, prepare: Any = None, *, state: bool = False) -> Mixer:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Own(Mixer):
        kind: ClassVar[str] = "own"
        title: ClassVar[str] = "Own"
        letter: ClassVar[str] = "O"
        color: ClassVar[str] = "#000000"

        def states(self, width: int, *, context: int) -> tuple[StateSpec, ...]:
            return (StateSpec(name="last", shape=("batch", width)),) if state else ()

        def module(self, width: int) -> nn.Module:
            return Plain(forward, prepare)

    return Own()


def export(spec: Any, precision: Any = "int4") -> Any:
    return export_block(spec, WIDTH, precision=precision, lowering=EXPORTED)


def operators(candidate: Any) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(candidate.graph).graph.node]


# -- blocks that ship --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "spec", [ShortConv(), ShortConv(kernel=1), SwiGLU(hidden=9), GQA(heads=2, kv_heads=1, head_dim=16)], ids=str
)
def test_shipped_blocks_whose_modules_allow_it(spec, precision):
    case = Case(block=spec, width=33, precision=precision, lowering=EXPORTED)
    conformance.check_counts(case)
    conformance.check_runtime(case)
    conformance.check_runtime_steps(case)
    conformance.check_chunks(case)
    conformance.check_state_bytes(spec, 33, context=19, batch=2, lowering=EXPORTED)
    assert EXPORTED not in spec.lowerings


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (GLA(heads=2, key_dim=8, value_dim=8), r"gla .* one number of tokens \(gla\.py:\d+: `for t in range\(T\)`\)"),
        (GDN(key_heads=2, value_heads=2, key_dim=8, value_dim=8), r"gdn .* \(gdn\.py:\d+: `for t in range\(T\)`\)"),
        (SWA(heads=2, kv_heads=1, head_dim=16, window=4), "swa .* state 'key' is updated in place"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_shipped_blocks_whose_modules_do_not(spec, why):
    with pytest.raises(ExportError, match=why) as told:
        export(spec)
    assert "lowering of its own" in str(told.value.hint)


def test_an_unknown_lowering_is_told_with_all_names():
    with pytest.raises(ExportError, match="it has shifted, conv, fused, fused_channels_first, exported"):
        export_block(ShortConv(), WIDTH, precision="fp32", lowering="fast")


# -- what is refused ---------------------------------------------------------------------------------------------------


def by_sum(m, x, s, p):
    return (m.proj(x) if x.sum() > 0 else x), ()


def by_cond(m, x, s, p):
    return torch.cond(x.sum() > 0, m.proj, lambda v: 2 * m.proj(v), (x,)), ()


REFUSED = {
    "int() of the length": (lambda m, x, s, p: (m.proj(x) * int(x.shape[1]), ()), "written for one number of tokens"),
    "a loop over the position": (lambda m, x, s, p: (m.proj(x) * sum(range(p)), ()), "written for one position"),
    "the first call": (lambda m, x, s, p: (m.proj(x) * (1 if p == 0 else 2), ()), "at 1 tokens after 0"),
    "one sequence": (lambda m, x, s, p: (m.proj(x) * (1 if x.shape[0] == 1 else 2), ()), "(batch 1) its graph gives"),
    "even lengths": (lambda m, x, s, p: (m.proj(x) * (1 if x.shape[1] % 2 else 2), ()), "its graph gives something"),
    "long inputs": (lambda m, x, s, p: (m.proj(x) * (1 if x.shape[1] < 512 else 2), ()), "another way at 4099 tokens"),
    "a branch on values": (by_sum, r"decides by values of a tensor (test_exported.py:"),
    "control flow": (by_cond, "its module becomes a If node with a graph or function of its own inside"),
    "an operator": (lambda m, x, s, p: (m.proj(x) + torch.linalg.qr(x.mT @ x)[0][:, :1], ()), "aten.linalg_qr"),
    "an error": (lambda m, x, s, p: m.nothing(x), "AttributeError: 'Plain' object has no attribute 'nothing'"),
    "another shape": (lambda m, x, s, p: (m.proj(x)[..., :3], ()), "into y of [3, 5, 3]"),
    "a state too many": (
        lambda m, x, s, p: (m.proj(x), (x,)),
        "`states` names [] (batch 3, after 5 tokens), its module returns [[",
    ),
    "the matrix scaled": (lambda m, x, s, p: (x @ (2 * m.proj.weight.T), ()), "'proj.weight' of an nn.Linear is also"),
    "the matrix itself": (lambda m, x, s, p: (m.proj(x) @ m.proj.weight, ()), "'proj.weight' of an nn.Linear is also"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_graph_can_say_is_refused(name, capfd):
    forward, why = REFUSED[name]
    with pytest.raises(ExportError, match=re.escape(why)) as told:
        export(block(forward))
    assert "own" in str(told.value)
    assert "\n" not in str(told.value)
    assert capfd.readouterr() == ("", "")


def tie(module):
    module.other = module.proj


def buffer(size, persistent):
    def prepare(module):
        module.register_buffer("table", torch.arange(float(size)), persistent=persistent)

    return prepare


def idle(module):
    module.idle = nn.Parameter(torch.ones(3))


def plain(m, x, s, p):
    return m.proj(x), ()


def with_table(m, x, s, p):
    return m.proj(x) + (x[..., :1] * m.table).mean(dim=-1, keepdim=True), ()


@pytest.mark.parametrize(
    ("prepare", "forward", "why"),
    [
        (tie, plain, "parameter 'other.weight' of its module is another one too"),
        (buffer(WIDTH, True), with_table, "buffer 'table' of its module is in the state dict"),
        (idle, plain, "parameter 'idle' of its module has no effect"),
        (buffer(20_000, False), with_table, "holds a constant of 78 KiB"),
    ],
)
def test_what_a_module_may_not_hold_is_refused(prepare, forward, why):
    with pytest.raises(ExportError, match=why):
        export(block(forward, prepare))


def test_a_state_of_zeros_must_mean_no_state():
    def forward(m, x, state, p):
        last = torch.ones_like(x[:, 0]) if state is None else state[0]
        return m.proj(x) + last[:, None], (x[:, -1],)

    with pytest.raises(ExportError, match="one thing for a state of None and another for a state of zeros"):
        export(block(forward, state=True))


def test_a_state_kept_in_a_buffer_is_refused():
    def forward(m, x, s, p):
        m.table.add_(1.0)
        return m.proj(x) * m.table.sum(), ()

    with pytest.raises(ExportError, match=r"own(:| cannot be exported).*"):
        export(block(forward, buffer(WIDTH, False)))


# -- what graphs hold --------------------------------------------------------------------------------------------------


def test_linear_maps_are_products_at_the_graphs_precision():
    assert operators(export(GeluNetwork(hidden=48))) == ["MatMulNBits", "Gelu", "MatMulNBits"]
    assert operators(export(GeluNetwork(hidden=48), "fp32")) == ["MatMul", "Add", "Gelu", "MatMul", "Add"]
    encodings = {p.name: p.encoding for p in export(MovingAverage()).parameters}
    assert encodings == {"block.value.weight": "int4", "block.decay": "plain", "block.mix": "plain"}


def test_a_linear_map_over_merged_axes_is_a_product_too():
    def forward(m, x, s, p):
        return m.proj(x.reshape(-1, WIDTH)).reshape(x.shape), ()

    assert "MatMulNBits" in operators(export(block(forward)))


def test_padding_to_chunks_is_no_branch():
    def forward(m, x, s, p):
        padded = nn.functional.pad(x, (0, 0, 0, -x.shape[1] % 4))
        chunks = padded.reshape(x.shape[0], -1, 4, WIDTH).cumsum(2)
        return m.proj(chunks.reshape(x.shape[0], -1, WIDTH)[:, : x.shape[1]]), ()

    assert "CumSum" in operators(export(block(forward)))


def test_a_state_may_be_an_input_or_the_output():
    def forward(m, x, state, p):
        last = torch.zeros_like(x[:, 0]) if state is None else state[0]
        return m.proj(x) + last[:, None], (last,)

    export(block(forward, state=True))


@pytest.mark.parametrize("size", [WIDTH, 4000])
def test_small_tables_lie_in_the_graph_and_larger_ones_in_the_data_file(size):
    candidate = export(block(with_table, buffer(size, False)), "fp32")
    kinds = [tensor["fill"]["kind"] for tensor in candidate.recipe["tensors"]]
    assert kinds.count("values") == (size == 4000)
    assert len(candidate.graph) < 4096


def test_vectors_are_drawn_from_the_range_of_the_modules_own_initialisation():
    tensors = {tensor["name"]: tensor["fill"] for tensor in export(MovingAverage()).recipe["tensors"]}
    decay = tensors["block.decay"]
    assert (decay["low"], decay["high"]) == (-2.0, 3.0)
    norm = next(fill for name, fill in tensors_of(GatedConv()).items() if name == "block.norm.weight")
    assert (norm["low"], norm["high"]) == pytest.approx((0.9, 1.1))


def tensors_of(spec):
    return {tensor["name"]: tensor["fill"] for tensor in export(spec).recipe["tensors"]}


# -- defaults of a short block -----------------------------------------------------------------------------------------


def test_counts_come_from_the_module():
    assert GeluNetwork(hidden=10).params(WIDTH) == 2 * 10 * WIDTH + 10 + WIDTH
    assert GeluNetwork(hidden=10).flops(WIDTH, tokens=7, context=70) == 7 * 4 * 10 * WIDTH
    assert list(Turning().problems(WIDTH)) == []


def test_operations_that_cannot_be_counted_are_told():
    def forward(m, x, s, p):
        return m.proj(x) * x.sum().item(), ()

    with pytest.raises(SearchSpaceError, match="own: the operations of its module cannot be counted") as told:
        block(forward).flops(WIDTH, tokens=1, context=1)
    assert "flops" in str(told.value.hint)


# -- the cache ---------------------------------------------------------------------------------------------------------


made_once = cache(torch_export.export_module)


def test_an_export_is_the_same_every_time_and_prints_nothing(capfd):
    arguments = (GatedConv(), WIDTH, GatedConv().states(WIDTH, context=9))
    first, second = (
        ir.to_proto(make(*arguments)).SerializeToString(deterministic=True)
        for make in (made_once, torch_export.export_module)
    )
    assert first == second
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """An empty cache folder, and a count of exports: each is asked for as often as it is counted, and made once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []
    monkeypatch.setattr(torch_export, "export_module", lambda *a: made.append(a) or made_once(*a))
    export_cache.exported_model.cache_clear()
    yield made
    export_cache.exported_model.cache_clear()


def again(spec, width=WIDTH):
    export_cache.exported_model.cache_clear()
    return export_block(spec, width, precision="int4", lowering=EXPORTED)


def test_an_export_is_kept_by_spec_and_width(kept, tmp_path):
    first = again(GatedConv())
    assert again(GatedConv()) == first
    assert len(kept) == 1
    again(GatedConv(kernel=4))
    again(GatedConv(), 48)
    assert len(kept) == 3
    [file, *_] = sorted((tmp_path / "archsearch" / "exported").iterdir())
    assert file.name.startswith("gated_conv-")
    assert file.stat().st_size < 20_000  # no weights


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:40] + b"?" + b[41:]])
def test_a_damaged_export_is_made_again(damage, kept):
    wanted = again(GatedConv())
    [file] = export_cache.cache_folder().iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert again(GatedConv()) == wanted
    assert len(kept) == 2
    assert file.read_bytes() == whole
    assert len(list(file.parent.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_no_error(kept, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    again(GatedConv())
    assert len(kept) == 1


def test_classes_made_by_a_function_are_not_kept(kept):
    for factor in (1.0, 2.0):
        again(block(lambda m, x, s, p, f=factor: (m.proj(x) * f, ())))
    assert len(kept) == 2
    assert not export_cache.cache_folder().exists()


def test_an_export_follows_the_source(kept, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_source").mkdir()
    (tmp_path / "own_source" / "__init__.py").write_text("")
    (tmp_path / "own_source" / "helper.py").write_text("def scale(x):\n    return 2 * x\n")
    (tmp_path / "own_source" / "block.py").write_text(
        "from dataclasses import dataclass\n"
        "from torch import nn\n"
        "from own_source.helper import scale\n"
        "from search_space.blocks import Mixer\n"
        "class Module(nn.Module):\n"
        "    def __init__(self, width):\n"
        "        super().__init__()\n"
        "        self.proj = nn.Linear(width, width)\n"
        "    def forward(self, x, state, position):\n"
        "        return scale(self.proj(x)), ()\n"
        "@dataclass(frozen=True, slots=True, kw_only=True)\n"
        "class Own(Mixer):\n"
        "    kind = 'own_source'\n"
        "    title = letter = color = ''\n"
        "    def module(self, width):\n"
        "        return Module(width)\n"
    )
    Own = importlib.import_module("own_source.block").Own
    again(Own())
    again(Own())
    assert len(kept) == 1
    (tmp_path / "own_source" / "helper.py").write_text("def scale(x):\n    return 3 * x\n")
    again(Own())
    assert len(kept) == 2


# -- the example that people read --------------------------------------------------------------------------------------


def example(folder: Path) -> None:
    """The plug-in of CONTRIBUTING.md as an installed package."""
    text = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("## A block of your own")[1].split("\n## ")[0]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    entry = re.search(r'```toml\n\[project\.entry-points\."archsearch\.blocks"\]\n(.*?)```', section, re.DOTALL)
    assert code
    assert entry
    install(folder, "my_blocks", code[1], entry[1].replace('"', ""))


def test_the_example_passes_the_suite(tmp_path, monkeypatch):
    example(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    spec = importlib.import_module("my_blocks").TokenShift()
    suite = type("Suite", (BlockConformance,), {"specs": (spec,)})()
    for name in ("specs_are_possible",):
        getattr(suite, f"test_{name}")()
    for name in ("torch_prefill_equals_steps", "torch_is_trainable", "state_bytes", "flops"):
        getattr(suite, f"test_{name}")(spec)
    cases = list(suite.cases())
    assert {(case.precision, case.lowering) for case in cases} == {(name, EXPORTED) for name in PRECISIONS}
    for case in cases:
        for name in ("graph_agrees_with_torch", "prefill_equals_steps", "chunks", "counts"):
            getattr(suite, f"test_{name}")(case)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("nowhere:Block", "does not load: ModuleNotFoundError: No module named 'nowhere'"),
        ("my_blocks:Missing", "does not load: AttributeError"),
        ("my_blocks:TokenShiftModule", "is no block"),
    ],
)
def test_a_plug_in_that_does_not_load_is_an_error(value, why, tmp_path, monkeypatch):
    example(tmp_path)
    (tmp_path / "my_blocks-1.0.dist-info" / "entry_points.txt").write_text(f"[archsearch.blocks]\nx = {value}\n")
    monkeypatch.syspath_prepend(tmp_path)
    blocks._all_blocks.cache_clear()  # an error is not kept: the next test finds what is registered then
    with pytest.raises(SearchSpaceError, match=re.escape(f"block plug-in x = '{value}' of package my-blocks {why}")):
        blocks.mixers()
