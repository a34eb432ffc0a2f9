"""Models of the Hugging Face Hub: their config.json to layouts and back, and their weights by our names.

Nothing here imports transformers: it is what the tests compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_space.errors import ConfigError
from search_space.huggingface._dense import Llama, Qwen3, SmolLM3
from search_space.huggingface._family import Family, TensorNames
from search_space.huggingface._hybrids import Gemma3, Lfm2, Qwen35
from search_space.huggingface._keys import Keys
from search_space.huggingface._multimodal import read_gemma3, read_qwen35
from search_space.layout import Layout
from search_space.layout_file import NamedLayout, read_json
from search_space.wording import shown

__all__ = [
    "CONFIG_NAME",
    "Family",
    "Imported",
    "TensorNames",
    "families",
    "is_config",
    "parse_config",
    "read_config",
    "write_config",
]

CONFIG_NAME = "config.json"

_FAMILIES: tuple[Family, ...] = (Llama(), SmolLM3(), Qwen3(), Gemma3(), Qwen35(), Lfm2())
_SEEING = {"gemma3": (Gemma3.model_type, read_gemma3), "qwen3_5": (Qwen35.model_type, read_qwen35)}


def families() -> dict[str, Family]:
    """Families by `model_type`, in the order in which a layout is offered to them."""
    return {family.model_type: family for family in _FAMILIES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A layout from a config, and the family that it belongs to."""

    named: NamedLayout
    family: Family


def parse_config(data: object, *, name: str | None = None) -> Imported:
    """The layout of a parsed config.json, with the parameter count of the transformers class (5.23).

    Args:
        data: The parsed file.
        name: A name for the layout.

    Raises:
        ConfigError: An unknown `model_type`, or options that no layout can express, each by its name and value.
    """
    if not isinstance(data, dict) or "model_type" not in data:
        raise ConfigError("a Hugging Face config is a JSON object with a model_type")
    kind = data["model_type"]
    known = sorted([*families(), *_SEEING])
    if not isinstance(kind, str) or kind not in known:
        raise ConfigError(f"model_type is {shown(kind)}; known are {', '.join(known)}")
    said = f"From a config.json of model_type {kind}."
    if kind in families():
        family = families()[kind]
        return Imported(named=NamedLayout(layout=family.read(Keys(data)), name=name, notes=said), family=family)
    text_kind, read = _SEEING[kind]
    seen = read(data)
    named = NamedLayout(
        layout=seen.layout, name=name, extra_params=seen.extra_params, notes=f"{said} {seen.not_counted}".strip()
    )
    return Imported(named=named, family=families()[text_kind])


def read_config(path: Path) -> Imported:
    """Read a config.json, or the one in a folder; a folder gives its name to the layout.

    Raises:
        ConfigError: It cannot be read, or is no layout (see `parse_config`).
    """
    name = path.resolve().name if path.is_dir() else None
    file = path / CONFIG_NAME if path.is_dir() else path
    try:
        return parse_config(read_json(file, ConfigError), name=name if name and name.isprintable() else None)
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(str(file)) else f"{file}: {text}", hint=error.hint) from error


def is_config(path: Path) -> bool:
    """Whether a JSON file is a Hugging Face config: an object with a `model_type`."""
    try:
        data = read_json(path, ConfigError)
    except ConfigError:
        return False
    return isinstance(data, dict) and "model_type" in data


def write_config(layout: Layout, *, context: int = 4096) -> dict[str, Any]:
    """A config.json that reads back as this very layout, of the first family that can express it.

    Args:
        layout: The layout.
        context: Tokens for `max_position_embeddings`, of which a layout says nothing.

    Raises:
        ConfigError: No family can express it; the message names what they lack.
    """
    refused: dict[str, str] = {}
    for kind, family in families().items():
        try:
            return family.write(layout, context=context)
        except ConfigError as error:
            refused[kind] = str(error)
    raise ConfigError(_nobody(layout, refused))


def _nobody(layout: Layout, refused: Mapping[str, str]) -> str:
    lacking = [set(family.strangers(layout)) for family in _FAMILIES]
    common = sorted(set.intersection(*lacking))
    head = "no Hugging Face family here can express this layout"
    if common:
        return f"{head}: none has {'; '.join(common)}"
    return "\n".join([head, *(f"{kind}: {reason}" for kind, reason in refused.items())])
