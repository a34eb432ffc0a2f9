"""The keys of one config.json: each is read, or known to say nothing of the layout, or refused by its name.

transformers ignores keys that it does not know, and a model then silently is another one than its config says. Here
a key that nobody has read is a mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from search_space.wording import shown


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_GENERATION = _words("""
    assistant_confidence_threshold assistant_early_exit assistant_lookbehind bad_words_ids begin_suppress_tokens
    cache_config cache_implementation compile_config constraints diversity_penalty do_sample dola_layers
    early_stopping encoder_no_repeat_ngram_size encoder_repetition_penalty epsilon_cutoff eta_cutoff
    exponential_decay_length_penalty force_words_ids forced_bos_token_id forced_eos_token_id guidance_scale
    length_penalty low_memory max_length max_matching_ngram_size max_new_tokens max_time min_length min_new_tokens min_p
    no_repeat_ngram_size num_assistant_tokens num_assistant_tokens_schedule num_beam_groups num_beams
    num_return_sequences output_scores output_logits penalty_alpha prompt_lookup_num_tokens remove_invalid_values
    renormalize_logits repetition_penalty return_dict_in_generate sequence_bias stop_strings suppress_tokens
    target_lookbehind temperature token_healing top_h top_k top_p typical_p watermarking_config
""")

_SAVED_BESIDE = _words("""
    _attn_implementation _attn_implementation_autoset _commit_hash _name_or_path architectures attn_implementation
    bos_token_id chunk_size_feed_forward decoder_start_token_id dtype eos_token_id finetuning_task id2label
    initializer_range label2id max_position_embeddings model_type name_or_path num_labels output_attentions
    output_hidden_states pad_token_id prefix problem_type return_dict sep_token_id task_specific_params
    tokenizer_class torch_dtype torchscript transformers_version unsloth_fixed unsloth_version use_bfloat16 use_cache
    attention_dropout
""")

IRRELEVANT = _GENERATION | _SAVED_BESIDE
"""Keys that say nothing of the layout: token ids, types, sampling, initialisation, dropout, how it was saved."""

_MUST_BE_OFF = (
    "add_cross_attention", "is_encoder_decoder", "is_decoder", "cross_attention_hidden_size", "tie_encoder_decoder",
    "pruned_heads", "quantization_config", "per_layer_config",
)  # fmt: skip


class Keys:
    """Reads one config object and collects what is wrong with it.

    Args:
        data: The object.
        where: Prefix of names in messages, such as ``text_config.``.
        problems: Where mistakes go; a list of its own when left out.
    """

    def __init__(self, data: Mapping[str, Any], *, where: str = "", problems: list[str] | None = None) -> None:
        self.data = data
        self.where = where
        self.problems: list[str] = [] if problems is None else problems
        self._read: set[str] = set()

    def wrong(self, name: str, sentence: str) -> None:
        """Note a mistake of one key."""
        self.problems.append(f"{self.where}{name} is {shown(self.data.get(name))}; {sentence}")

    def raw(self, name: str, default: Any = None) -> Any:
        """The value as it stands there."""
        self._read.add(name)
        return self.data.get(name, default)

    def whole(self, name: str, default: int, *, or_null: bool = False) -> int:
        """A positive whole number; null is the default where transformers takes it for that."""
        value = self.raw(name, default)
        if value is None and or_null:
            return default
        if type(value) is not int or value < 1:
            self.wrong(name, "it must be a positive whole number")
            return max(1, default)
        return value

    def number(self, name: str, default: float) -> float:
        """A finite positive number."""
        value = self.raw(name, default)
        if type(value) not in (int, float) or not isfinite(value) or value <= 0:
            self.wrong(name, "it must be a positive number")
            return default
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.raw(name, default)
        if not isinstance(value, bool):
            self.wrong(name, "it must be true or false")
            return default
        return value

    def only(self, supported: Sequence[Any], *names: str) -> None:
        """Keys that may be left out, and otherwise must have one of the supported values."""
        for name in names:
            self._read.add(name)
            if name in self.data and not any(_equal(self.data[name], value) for value in supported):
                self.wrong(name, f"supported: {', '.join(map(_json, supported))}")

    def same(self, expected: Any, because: str, *names: str) -> None:
        """Keys that transformers does not read and that repeat another one: they must agree with it."""
        for name in names:
            self._read.add(name)
            if name in self.data and self.data[name] is not None and not _equal(self.data[name], expected):
                self.wrong(name, f"{because} is {shown(expected)}, which transformers builds; they must agree")

    def kinds(self, name: str, depth: int, supported: Sequence[str], default: Sequence[str]) -> list[str]:
        """One supported word for each layer."""
        value = self.raw(name)
        if value is None:
            return list(default)
        if not isinstance(value, list) or len(value) != depth:
            self.wrong(name, f"it must be a list with one entry for each of {depth} layers")
            return list(default)
        for word in dict.fromkeys(map(str, value)):
            if word not in supported:
                self.problems.append(f"{self.where}{name} has {shown(word)}; supported: {', '.join(supported)}")
        return [word if word in supported else supported[0] for word in map(str, value)]

    def ignore(self, *names: str) -> None:
        """Keys of this family that say nothing of the layout."""
        self._read.update(names)

    def finish(self) -> None:
        """Note what nobody has read."""
        self.only((None, False, {}), *_MUST_BE_OFF)
        known = self._read | IRRELEVANT
        unknown = [name for name in self.data if name not in known and not name.endswith("_token_id")]
        if unknown:
            listed = ", ".join(f"{self.where}{name} ({shown(self.data[name])})" for name in unknown)
            self.problems.append(f"not understood, so the layout could be another one: {listed}")


def _equal(value: Any, supported: Any) -> bool:
    if isinstance(value, bool) or isinstance(supported, bool):
        return value is supported
    return bool(value == supported)


def _json(value: Any) -> str:
    return {None: "null", True: "true", False: "false"}.get(value, repr(value)) if _hashable(value) else repr(value)


def _hashable(value: Any) -> bool:
    return value is None or isinstance(value, bool | str | int | float)


def joined(problems: Iterable[str]) -> str:
    """Mistakes as one message, each once."""
    return "; ".join(dict.fromkeys(problems))
