"""Models for the ONNX Runtime GenAI model builder: configs, random weights as transformers saves them, built folders.

Each model is one of our anchors, written as a config.json by `search_space.huggingface`; transformers saves it with
random weights, and the layout that we measure is read back from the config.json that it saved.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from search_space.anchors import anchor
from search_space.cost import parameters
from search_space.graph.precision import PrecisionName
from search_space.huggingface import read_config, write_config
from search_space.layout import Layout

PRECISION: PrecisionName = "int4"
RECORD = "peer.json"
"""Beside a built model: how it came about."""
Config = dict[str, Any]


def _same(config: Config) -> Config:
    return config


def _seeing(text: Config) -> Config:
    """Qwen3.5 as it is published: the text model inside one that sees; positions are of time, height and width.

    The tower has one layer here: neither side builds it.
    """
    rope = text["rope_parameters"]
    half = round(text["head_dim"] * rope["partial_rotary_factor"]) // 2
    rope |= {"mrope_section": [(half + 2) // 3, (half + 1) // 3, half // 3], "mrope_interleaved": True}
    return {
        "model_type": "qwen3_5", "architectures": ["Qwen3_5ForConditionalGeneration"], "text_config": text,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "vision_config": {"depth": 1, "hidden_size": 768, "num_heads": 12, "out_hidden_size": text["hidden_size"]},
    }  # fmt: skip


def _rope_beside(config: Config) -> Config:
    """Gemma 3's rotary bases once more, outside the sections by kind of layer, where the builder looks for them."""
    rope = config["rope_parameters"]
    full, sliding = rope["full_attention"], rope["sliding_attention"]
    return {**config, "rope_parameters": {**rope, **full, "rope_local_base_freq": sliding["rope_theta"]}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """One way to offer a model to the builder.

    Attributes:
        name: For messages.
        wrap: From the text model's config to the one that transformers saves.
        retouch: From the config that transformers saved to the one that the builder reads.
    """

    name: str
    wrap: Callable[[Config], Config] = _same
    retouch: Callable[[Config], Config] = _same


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerModel:
    """A model that both sides can be asked for.

    Attributes:
        layout: The text model.
        context: Positions of the published model (`max_position_embeddings`): so long are the builder's rotary tables.
        spellings: Offered to the builder one after the other until it takes one.
    """

    layout: Layout
    context: int
    spellings: tuple[Spelling, ...]


MODELS: Mapping[str, PeerModel] = {
    "lfm2-350m": PeerModel(
        layout=anchor("lfm2.5-350m").layout, context=128_000, spellings=(Spelling(name="Lfm2ForCausalLM"),)
    ),
    "gemma-3-270m": PeerModel(
        layout=anchor("gemma-3-270m").layout,
        context=32_768,
        spellings=(
            Spelling(name="Gemma3ForCausalLM as transformers saves it"),
            Spelling(name="Gemma3ForCausalLM with its rotary bases repeated", retouch=_rope_beside),
        ),
    ),
    "qwen3.5-0.8b": PeerModel(
        layout=anchor("qwen3.5-0.8b").layout,
        context=262_144,
        spellings=(
            Spelling(name="Qwen3_5ForConditionalGeneration", wrap=_seeing),
            Spelling(name="Qwen3_5ForCausalLM (text only)"),
        ),
    ),
}


class Refused(Exception):  # noqa: N818 - what the builder said, not an error of ours
    """The builder takes none of a model's spellings, or transformers did not save it; the message has their words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A model that the builder has written.

    Attributes:
        model: The ONNX file.
        layout: The layout of the config.json that it was built from.
        seconds: Of the builder's process.
        kept: Whether an earlier run built it.
        spelling: How it was offered.
        refused: What the builder said to other spellings, by their names.
    """

    model: Path
    layout: Layout
    seconds: float
    kept: bool
    spelling: str
    refused: Mapping[str, str]


def default_cache() -> Path:
    """Where built models are kept: the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archsearch" / "peers"


def build(name: str, cache: Path, say: Callable[[str], None]) -> Built:
    """The built model of this name, from the cache where it lies there.

    Raises:
        Refused: The builder takes none of its spellings.
    """
    model = MODELS[name]
    folder = cache / f"{name}-{_key(model)}"
    kept = (folder / RECORD).is_file()
    if not kept:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=f".{name}-") as scratch:
            _build(name, model, Path(scratch), say)
            with suppress(OSError):  # another run was faster
                (Path(scratch) / "built").rename(folder)
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    layout = read_config(folder / "config.json").named.layout
    return Built(model=folder / "model.onnx", layout=layout, kept=kept, **record)


def _key(model: PeerModel) -> str:
    """Hash of everything that a built folder depends on."""
    text = {
        "configs": [spelling.wrap(_text_config(model)) for spelling in model.spellings],
        "retouched": [spelling.retouch.__name__ for spelling in model.spellings],
        "versions": [version("onnxruntime-genai"), version("transformers")],
        "precision": PRECISION,
    }
    return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()[:16]


def _text_config(model: PeerModel) -> Config:
    tokens = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 2}  # the tokenizer's below
    return write_config(model.layout, context=model.context) | tokens


def _build(name: str, model: PeerModel, scratch: Path, say: Callable[[str], None]) -> None:
    target = scratch / "built"
    refused: dict[str, str] = {}
    for spelling, source in _sources(name, model, scratch, say):
        saved = json.loads((source / "config.json").read_text(encoding="utf-8"))
        offered = scratch / "offered"
        shutil.copytree(source, offered, copy_function=os.link)
        (offered / "config.json").unlink()
        (offered / "config.json").write_text(json.dumps(spelling.retouch(saved)), encoding="utf-8")
        say(f"{name}: the builder writes {spelling.name}")
        seconds, said = _run_builder(offered, target, scratch / "work")
        shutil.rmtree(offered)
        if not said:
            layout = read_config(source / "config.json").named.layout
            assert layout == model.layout, f"{name}: the saved config is another model"
            record = {"seconds": seconds, "spelling": spelling.name, "refused": refused}
            (target / "config.json").write_text(json.dumps(saved, indent=1), encoding="utf-8")
            (target / RECORD).write_text(json.dumps(record), encoding="utf-8")
            return
        refused[spelling.name] = said
        say(f"{name}: the builder refuses {spelling.name}: {said}")
        shutil.rmtree(target, ignore_errors=True)
    raise Refused("; ".join(f"{kind}: {said}" for kind, said in refused.items()))


def _sources(name: str, model: PeerModel, scratch: Path, say: Callable[[str], None]) -> Iterator[tuple[Spelling, Path]]:
    """Each spelling with the folder of its saved model; what two of them share is saved once."""
    source, last = scratch / "source", None
    for spelling in model.spellings:
        if spelling.wrap is not last:
            shutil.rmtree(source, ignore_errors=True)
            say(f"{name}: transformers saves random weights")
            config = spelling.wrap(_text_config(model))
            total = parameters(model.layout).total
            # In a process of its own: what the model leaves in memory is neither side's.
            subprocess.run(
                [sys.executable, __file__, json.dumps(config), source, str(total)], check=True, env=_offline()
            )
            last = spelling.wrap
        yield spelling, source


def _offline() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}


def _run_builder(source: Path, target: Path, work: Path) -> tuple[float, str]:
    """Run the builder: seconds of its process, and the last line that it said when it failed."""
    began = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", source, "-o", target, "-c", work,
            "-p", PRECISION, "-e", "cpu",
        ],
        capture_output=True, text=True, check=False, env=_offline(),
    )  # fmt: skip
    seconds = time.perf_counter() - began
    if not done.returncode:
        return seconds, ""
    return seconds, _last_line(done).replace(str(source), "MODEL")


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return (lines[-1] if lines else f"exit code {done.returncode}")[-400:]


def save_random_model(config: Config, folder: Path, total: int) -> None:
    """Save a transformers model with random bfloat16 weights, and a small tokenizer, as the builder's input."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models

    transformers.utils.logging.disable_progress_bar()
    made = transformers.AutoConfig.for_model(**config)
    model = getattr(transformers, config["architectures"][0])._from_config(made, dtype=torch.bfloat16)
    text = sum(p.numel() for key, p in model.named_parameters() if ".visual." not in key)
    assert text == total, f"transformers' model has {text} parameters, not {total}"
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(100)}, unk_token="t0"))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="t0", eos_token="t1", pad_token="t2"
    )
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    save_random_model(json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
