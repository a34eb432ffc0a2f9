"""The registry of blocks, and what every block promises about itself."""

import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import ClassVar

import pytest

from search_space import blocks
from search_space.blocks import Mixer, feed_forwards, mixers, mixers_by_letter, register
from search_space.blocks.gqa import GQA
from search_space.blocks.none import NoMixer
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swa import SWA
from search_space.blocks.swiglu import SwiGLU
from search_space.errors import SearchSpaceError
from search_space.layout import Embedding, Layer, Layout


@pytest.fixture
def registry():
    """Restores the registry after a test that adds to it."""
    before = list(blocks._extra)
    yield
    blocks._extra[:] = before
    blocks._all_blocks.cache_clear()


def test_the_letters_of_a_code():
    assert {letter: mixer.kind for letter, mixer in mixers_by_letter().items()} == {
        "C": "short_conv", "W": "swa", "G": "gqa", "L": "gla", "D": "gdn", "N": "none",
    }  # fmt: skip
    assert set(feed_forwards()) == {"swiglu"}


@pytest.mark.parametrize("kind", sorted(mixers()))
def test_a_mixer_describes_itself(kind):
    mixer = mixers()[kind]
    assert mixer.kind == kind
    assert re.fullmatch("[A-Z]", mixer.letter)
    assert re.fullmatch("#[0-9a-f]{6}", mixer.color)
    assert mixer.title
    assert mixer.__doc__
    for name, lowering in mixer.lowerings.items():
        assert re.fullmatch("[a-z_0-9]+", name)
        assert lowering.note
    for field in fields(mixer):
        if field.name not in Mixer.__dataclass_fields__:
            assert f"{field.name}:" in "".join(base.__doc__ or "" for base in mixer.__mro__), (
                f"{field.name} is undocumented"
            )


def test_colors_differ():
    assert len({mixer.color for mixer in mixers().values()}) == len(mixers())


def test_only_full_attention_is_global():
    assert [kind for kind, mixer in mixers().items() if mixer.is_global] == ["gqa"]


def test_specs_are_frozen_and_hashable():
    spec = ShortConv(kernel=3)
    with pytest.raises(FrozenInstanceError):
        spec.kernel = 4
    assert {spec, ShortConv(kernel=3)} == {ShortConv()}
    assert GQA(heads=2, kv_heads=1, head_dim=16) != SWA(heads=2, kv_heads=1, head_dim=16, window=4)


def test_params_per_hidden_is_the_slope():
    for ffn in feed_forwards().values():
        for width in (1, 33, 1024):
            difference = ffn(hidden=101).params(width) - ffn(hidden=100).params(width)
            assert difference == ffn.params_per_hidden(width)


def test_no_mixer_costs_nothing():
    spec = NoMixer()
    assert spec.params(64) == spec.flops(64, tokens=9, context=9) == spec.state_bytes(64, context=9) == 0
    assert spec.states(64, context=9) == ()


@pytest.mark.parametrize(("context", "rows", "grows"), [(1, 1, True), (9, 9, True), (10, 9, False), (9999, 9, False)])
def test_a_window_cache_stops_growing_after_window_and_slack(context, rows, grows):
    spec = SWA(heads=2, kv_heads=1, head_dim=16, window=8)
    assert spec.cache_rows() == 9
    key, value = spec.states(64, context=context)
    assert (key.growing, value.growing) == (grows, grows)
    assert key.in_place
    assert key.elements(batch=3, context=context) == 3 * rows * 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity(Mixer):
    """A mixer of one's own: passes its input on."""

    kind: ClassVar[str] = "identity"
    title: ClassVar[str] = "Identity"
    letter: ClassVar[str] = "I"
    color: ClassVar[str] = "#000000"
    lowerings: ClassVar = NoMixer.lowerings

    def problems(self, width):
        return iter(())

    def params(self, width):
        return 0

    def flops(self, width, *, tokens, context):
        return 0

    def module(self, width):
        raise NotImplementedError


@pytest.mark.usefixtures("registry")
def test_a_block_of_ones_own_can_be_registered():
    assert register(Identity) is Identity
    assert mixers()["identity"] is Identity
    own = Layout(width=8, embedding=Embedding(vocab_size=9), layers=(Layer(mixer=Identity(), ffn=SwiGLU(hidden=4)),))
    assert own.code == "I"


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("changes", "message"), [({"kind": "gqa"}, "call themselves 'gqa'"), ({"letter": "G"}, "share letter G")]
)
def test_a_taken_name_or_letter_is_refused_and_forgotten(changes, message):
    clash = type("Clash", (Identity,), {"__slots__": (), **changes})
    with pytest.raises(SearchSpaceError, match=message):
        register(clash)
    assert mixers()["gqa"] is GQA
    assert mixers_by_letter()["G"] is GQA


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"letter": "m"}, "its letter is 'm'; it must be one capital letter"),
        ({"letter": "II"}, "its letter is 'II'; it must be one capital letter"),
        ({"color": "blue"}, "its color is 'blue'; it must be of the form #1f77b4"),
        ({"kind": "my-block"}, "its kind is 'my-block'; it must be a word such as short_conv"),
        ({"title": ""}, "its title is ''; it must be text"),
    ],
)
def test_a_block_that_cannot_be_named_is_refused(changes, message):
    with pytest.raises(SearchSpaceError, match=rf"block .*\.Unnamed: {message}"):
        register(type("Unnamed", (Identity,), {"__slots__": (), **changes}))
    assert "identity" not in mixers()


def test_a_module_that_does_not_load_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("import a_module_that_is_nowhere\n")
    monkeypatch.setattr(blocks, "__path__", [*blocks.__path__, str(tmp_path)])
    blocks._all_blocks.cache_clear()
    try:
        with pytest.raises(ModuleNotFoundError, match="a_module_that_is_nowhere"):
            mixers()
    finally:
        monkeypatch.undo()
        blocks._all_blocks.cache_clear()


def test_heavy_libraries_stay_unloaded():
    script = (
        "import sys, search_space.layout_file, search_space.anchors, search_space.cost;"
        "search_space.anchors.anchor('lfm2.5-350m');"
        "print([m for m in ('torch', 'onnx', 'onnx_ir', 'onnxruntime', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
