"""Layouts as people type them: ``LAYOUT|ANCHOR|FILE`` on a command line, and the way back.

- an anchor: ``lfm2.5-350m``;
- a file, or the folder of an export: ``layout.json``, ``out/``;
- the config.json of a Hugging Face model, or its folder;
- a code, with options after a colon: ``CCGCCG``, ``(CCG)x4``, ``CCGCCG:width=512,vocab=32768,ffn=1536,gqa.heads=8``.

Options of a code, and what they are when left out:

    width=1024       model width D
    vocab=65536      vocabulary size; also vocab_size
    rank=none        width of factorised tables
    tied=true        the output head reads the input table
    ffn=4*width      hidden width of every layer: a number or a formula of width; rounded to `multiple` when left out
    params=354M      in the place of ffn: solve for the hidden width, a multiple of `multiple`, within 2%
    multiple=64
    activation, scaled, norm_eps, post_norm: as in a layout file
    any field of a mixer: ``kernel=4`` for every mixer of the code that has it, ``gqa.heads=8`` or ``G.heads=8`` for one

Mixer fields that are left out: head_dim 64, heads = width / head_dim, kv_heads half of these when that is whole (else
as many), window 512; GLA heads 4, key_dim = width / 2 / heads, value_dim = width / heads; GDN key_heads = value_heads =
width / 64, key_dim = value_dim = 128; for the rest the default of the block. Numbers may be formulas
(``heads=width/32``), and counts may end in k, M or B (powers of ten).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from search_space.anchors import anchor, anchor_names
from search_space.blocks import Mixer, feed_forwards, mixers, mixers_by_letter
from search_space.cost import parameters
from search_space.errors import LayoutError, NotationError
from search_space.formulas import evaluate, resolve_formulas
from search_space.huggingface import CONFIG_NAME, is_config, read_config
from search_space.iso_parameter import Skeleton, hidden_of
from search_space.layout import MAX_LAYERS, Embedding, Layout
from search_space.layout_file import NamedLayout, read_layout
from search_space.patterns import parse_code
from search_space.quantities import parse_count, short_count
from search_space.wording import did_you_mean, guess, shown

_COUNT = re.compile(r"[\d_.]+[A-Za-z]?")
_TOLERANCE = 0.02
_DEFAULT_WIDTH, _DEFAULT_VOCABULARY, _DEFAULT_MULTIPLE, _DEFAULT_FFN_RATIO = 1024, 65536, 64, 4
_ATTENTION: dict[str, int | str] = {"head_dim": 64, "heads": "width / head_dim"}
_DEFAULTS: Mapping[str, Mapping[str, int | str]] = {
    "gqa": _ATTENTION,
    "swa": {**_ATTENTION, "window": 512},
    "gla": {"heads": 4, "key_dim": "width / 2 / heads", "value_dim": "width / heads"},
    "gdn": {"key_heads": "width / 64", "value_heads": "width / 64", "key_dim": 128, "value_dim": 128},
}
"""Mixer fields of a code that are left out. A kind that is missing here needs its required fields said."""

_GENERAL = ("width", "vocab", "vocab_size", "rank", "tied", "scaled", "ffn", "params", "multiple", "activation",
            "norm_eps", "post_norm")  # fmt: skip


def resolve(text: str) -> NamedLayout:
    """The layout that a text names: an anchor, a file, or a code.

    Raises:
        NotationError: It names none, or a code's options are wrong.
        LayoutError: A file that describes no possible layout.
        ConfigError: A Hugging Face config that no layout can express.
    """
    word = text.strip()
    if word.lower() in anchor_names():
        return anchor(word.lower())
    head = word.partition(":")[0]
    if word.lower().endswith(".json") or "/" in head or (":" not in word and _exists(word)):
        return _file(word)
    if _looks_like_code(head):
        return NamedLayout(layout=_Code(word).layout())
    code = [head.upper()] if head and set(head.upper()) <= set(mixers_by_letter()) else []
    meant = guess(word, anchor_names(), cutoff=0.5) or guess(head, code)
    raise NotationError(
        f"{shown(text)} names no anchor, file or layout code{meant}",
        hint=f"anchors: {', '.join(anchor_names())}; a code has one letter per layer, such as CCGCCG:width=512",
    )


def _file(word: str) -> NamedLayout:
    path = Path(word).expanduser() if _exists(word) else Path(word)
    if _exists(word) and path.is_dir():
        if not (path / "layout.json").is_file():
            if (path / CONFIG_NAME).is_file():
                return read_config(path).named
            raise NotationError(f"folder {word} holds no layout.json and no {CONFIG_NAME}")
        path /= "layout.json"
    if not _exists(word):
        raise NotationError(f"there is no file {word}")
    return read_config(path).named if is_config(path) else read_layout(path)


def _exists(word: str) -> bool:
    try:
        return bool(word) and Path(word).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, ~nobody: no file is called so
        return False


def _looks_like_code(word: str) -> bool:
    # Capitals with repeats: then a wrong letter is told as such.
    return re.fullmatch(r"[A-Z(\[][-A-Z()\[\]|*.x0-9 ]*", word) is not None


class _Code:
    """One code with its options."""

    def __init__(self, text: str) -> None:
        code, _, options = text.partition(":")
        try:
            self.code = parse_code(code, mixers_by_letter())
        except ValueError as error:
            raise NotationError(f"layout code {error}") from error
        if len(self.code) > MAX_LAYERS:
            raise NotationError(f"layout code {code!r} has {len(self.code)} layers; at most {MAX_LAYERS}")
        self.kinds = {mixers_by_letter()[letter].kind: letter for letter in dict.fromkeys(self.code)}
        self.text = text
        self.general: dict[str, str] = {}
        self.fields: dict[str, dict[str, str]] = {kind: {} for kind in self.kinds}
        specific: list[tuple[str, str, str]] = []
        for part in options.split(",") if options.strip() else ():
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if not equals or not value:
                raise NotationError(f"{part.strip()!r} is no option; write name=value, such as width=512")
            owner, dot, field = name.partition(".")
            if dot:
                specific.append((self.kind(owner), field, value))
            elif name in _GENERAL:
                self.once(self.general, name, value)
            else:
                owners = [kind for kind in self.kinds if name in _field_names(mixers()[kind])]
                if not owners:
                    self.unknown(name)
                for kind in owners:
                    self.once(self.fields[kind], name, value)
        for kind, field, value in specific:
            if field not in _field_names(mixers()[kind]):
                self.unknown(f"{kind}.{field}", [f"{kind}.{name}" for name in _field_names(mixers()[kind])])
            self.fields[kind][field] = value

    def once(self, into: dict[str, str], name: str, value: str) -> None:
        if name in into:
            raise NotationError(f"option {name} is given twice")
        into[name] = value

    def kind(self, owner: str) -> str:
        found = {**{letter: kind for kind, letter in self.kinds.items()}, **{kind: kind for kind in self.kinds}}
        if owner not in found:
            raise NotationError(f"{owner!r} is no mixer of {self.code}; its mixers are {', '.join(self.kinds)}")
        return found[owner]

    def unknown(self, name: str, allowed: Sequence[str] = ()) -> NoReturn:
        names = list(allowed) or sorted({*_GENERAL, *(n for kind in self.kinds for n in _field_names(mixers()[kind]))})
        raise NotationError(f"{self.code} has no option {name!r}{did_you_mean(name, names)}")

    def layout(self) -> Layout:
        general = self.general
        width = self.whole("width", general.get("width", str(_DEFAULT_WIDTH)), {})
        if width < 1:
            raise NotationError(f"{self.text}: width is {width}; it must be at least 1")
        if {"vocab", "vocab_size"} <= general.keys():
            raise NotationError("vocab and vocab_size are one option; give one")
        tables: dict[str, str] = {name: general[name] for name in ("rank", "tied", "scaled") if name in general}
        tables["vocab_size"] = general.get("vocab", general.get("vocab_size", str(_DEFAULT_VOCABULARY)))
        try:
            by_kind = {kind: self.mixer(kind, width) for kind in self.kinds}
            activation = {"activation": general["activation"]} if "activation" in general else {}
            ffn_class = feed_forwards()["swiglu"]
            network = _typed(ffn_class, activation)
            skeleton = Skeleton(
                width=width,
                embedding=Embedding(**resolve_formulas(_typed(Embedding, tables), _whole(Embedding), {"width": width})),
                mixers=tuple(by_kind[mixers_by_letter()[letter].kind] for letter in self.code),
                feed_forward=lambda hidden: ffn_class(hidden=hidden, **network),
                **_typed(Layout, {name: general[name] for name in ("norm_eps", "post_norm") if name in general}),
            )
            return self.finish(skeleton)
        except (ValueError, LayoutError) as error:
            raise NotationError(f"{self.text}: {error}") from error

    def mixer(self, kind: str, width: int) -> Mixer:
        cls = mixers()[kind]
        values = {**_DEFAULTS.get(kind, {}), **_typed(cls, self.fields[kind])}
        required = [f.name for f in fields(cls) if f.default is MISSING and f.name not in values]
        if required == ["kv_heads"]:
            heads = resolve_formulas(values, _whole(cls), {"width": width})["heads"]
            values["kv_heads"] = heads // 2 if heads % 2 == 0 else heads
        elif required:
            raise NotationError(f"{self.code} needs {kind}.{required[0]}=...; it has no default")
        made: Mixer = cls(**resolve_formulas(values, _whole(cls), {"width": width}))
        return made

    def finish(self, skeleton: Skeleton) -> Layout:
        general, names = self.general, {"width": skeleton.width}
        multiple = self.whole("multiple", general.get("multiple", str(_DEFAULT_MULTIPLE)), {})
        if multiple < 1:
            raise NotationError(f"multiple is {multiple}; it must be at least 1")
        if "params" not in general:
            default = -(-_DEFAULT_FFN_RATIO * skeleton.width // multiple) * multiple
            return skeleton.layout(self.whole("ffn", general["ffn"], names) if "ffn" in general else default)
        if "ffn" in general:
            raise NotationError("ffn and params exclude each other: params solves for the FFN width")
        target = parse_count(general["params"])
        skeleton.layout(1)  # an impossible layout is told before an impossible count
        layout = skeleton.layout(skeleton.solve(target, multiple))
        total = parameters(layout).total
        if abs(total - target) > _TOLERANCE * target:
            raise NotationError(
                f"{self.text}: params={general['params']} cannot be met within {_TOLERANCE:.0%}: the nearest is "
                f"{short_count(total)} with FFN width {hidden_of(layout)}",
                hint="another width, depth or vocabulary, or a smaller multiple",
            )
        return layout

    def whole(self, name: str, text: str, names: Mapping[str, int]) -> int:
        try:
            return parse_count(text) if _COUNT.fullmatch(text) else evaluate(text, names)
        except ValueError as error:
            raise NotationError(f"{self.text}: {name}={error}") from error


def spell(layout: Layout) -> str | None:
    """A code with options that `resolve` turns into this layout.

    None when codes cannot say it: layers of one kind that differ, or feed-forward networks that do.
    """
    by_kind = {layer.mixer.kind: layer.mixer for layer in layout.layers}
    ffns = {layer.ffn for layer in layout.layers}
    if any(layer.mixer != by_kind[layer.mixer.kind] for layer in layout.layers) or len(ffns) != 1:
        return None
    (ffn,) = ffns
    if ffn is None or ffn.kind != "swiglu":
        return None
    embedding = layout.embedding
    options: list[tuple[str, Any]] = [("width", layout.width), ("vocab", embedding.vocab_size)]
    options += [(name, getattr(embedding, name)) for name in _changed(embedding) if name != "vocab_size"]
    options += [("ffn", ffn.hidden), *((name, getattr(ffn, name)) for name in _changed(ffn) if name != "hidden")]
    options += [(name, getattr(layout, name)) for name in _changed(layout) if name in ("norm_eps", "post_norm")]
    options += [(f"{kind}.{name}", getattr(mixer, name)) for kind, mixer in by_kind.items() for name in _changed(mixer)]
    return f"{layout.code}:" + ",".join(f"{name}={_text(value)}" for name, value in options)


def _changed(spec: Any) -> list[str]:
    """Fields that have no default, or another value than it."""
    return [f.name for f in fields(spec) if f.default is MISSING or getattr(spec, f.name) != f.default]


def _text(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _field_names(cls: type[Any]) -> list[str]:
    return [f.name for f in fields(cls)]


def _types(cls: type[Any], name: str) -> tuple[Any, ...]:
    hint = get_type_hints(cls)[name]
    return get_args(hint) if isinstance(hint, UnionType) or get_origin(hint) is Literal else (hint,)


def _whole(cls: type[Any]) -> frozenset[str]:
    """Fields that hold whole numbers, in which a text is a formula."""
    return frozenset(f.name for f in fields(cls) if int in _types(cls, f.name))


def _typed(cls: type[Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Texts as values of a class's fields; formulas stay texts.

    Raises:
        ValueError: A text is no value of its field.
    """
    return {name: _value(name, text, _types(cls, name)) for name, text in texts.items()}


def _value(name: str, text: str, types: tuple[Any, ...]) -> Any:
    if type(None) in types and text.lower() in ("none", "null"):
        return None
    if bool in types:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{name}={text} must be true or false")
        return text.lower() == "true"
    if int in types:
        return parse_count(text) if _COUNT.fullmatch(text) else text  # else a formula
    if float in types:
        try:
            return float(text)
        except ValueError as error:
            raise ValueError(f"{name}={text} must be a number") from error
    if text not in types:
        raise ValueError(f"{name}={text} is not one of {', '.join(map(str, types))}")
    return text
