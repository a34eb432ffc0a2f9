"""Reads JSON that a device wrote: bounded before it is looked at, and mistakes told in words that harm no terminal."""

from __future__ import annotations

import math
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from profiler.errors import ResultError

MAX_VALUES: Final = 4 * 2**20
"""Values that a file may hold: what 32 MiB of honest samples come to."""
LARGEST: Final = 2**53
"""Of counts: what every reader of JSON holds exactly."""
_MAX_KEYS = 4096
_MAX_KEY = 4000
_MAX_ITEMS = 65536
Model = TypeVar("Model", bound=BaseModel)


def shown(text: str) -> str:
    """A device's word in a message: short, and nothing in it that a terminal would obey."""
    return repr(text[:100])[1:-1]


def printable(text: str) -> str:
    """The text without characters that move a cursor, change colours or turn the direction of writing."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def bounded_values(values: dict[str, Any]) -> dict[str, Any]:
    """See `bound`, for each value."""
    for key, value in values.items():
        bound(value, key, depth=0)
    return values


def bound(value: object, where: str, *, depth: int) -> None:
    """Refuse a value that is too deep, too long or too large to be handled, shown or stored.

    Raises:
        ValueError: Which, and why.
    """
    where = shown(where)
    if depth > 6:
        raise ValueError(f"{where} is nested too deeply")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is not finite")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"{where} is larger than 2**53")
    if isinstance(value, str) and len(value) > 4000:
        raise ValueError(f"{where} is longer than 4000 characters")
    if isinstance(value, list | dict):
        if len(value) > 4096:
            raise ValueError(f"{where} has more than 4096 entries")
        for item in value.values() if isinstance(value, dict) else value:
            bound(item, where, depth=depth + 1)


def _narrow(value: object) -> None:
    """Refuse what is wider than anything that is read: each part of it would be a mistake of its own.

    Raises:
        ValueError: With what it is.
    """
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            if len(here) > _MAX_KEYS:
                raise ValueError(f"an object of {len(here)} keys")
            if any(len(key) > _MAX_KEY for key in here):
                raise ValueError(f"a key of more than {_MAX_KEY} characters")
            waiting.extend(item for item in here.values() if isinstance(item, dict | list))
        elif isinstance(here, list):
            if len(here) > _MAX_ITEMS:
                raise ValueError(f"a list of {len(here)} values")
            waiting.extend(item for item in here if isinstance(item, dict | list))


def parse_json(model: type[Model], raw: bytes, limit: int, what: str, *, trusted: bool = False) -> Model:
    """Bytes as a model.

    Args:
        model: Which.
        raw: JSON.
        limit: Bytes that it may have.
        what: Names it in messages.
        trusted: It was read before.

    Raises:
        ResultError: What is wrong with it, the first few mistakes.
    """
    if len(raw) > limit:
        raise ResultError(f"{what}: {len(raw)} bytes, more than the {limit} allowed")
    if raw.count(b",") > MAX_VALUES:  # a value costs far more memory than its two bytes here
        raise ResultError(f"{what} holds more than {MAX_VALUES} values")
    try:
        if not trusted:
            _narrow(from_json(raw))
        return model.model_validate_json(raw)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=False, include_input=False)
        said = [
            f"{'.'.join(shown(str(part)) for part in item['loc']) or 'the file'}: {item['msg'][:300]}"
            for item in mistakes[:3]
        ]
        if len(mistakes) > 3:
            said.append(f"and {len(mistakes) - 3} more")
        raise ResultError(f"{what} is not valid: {'; '.join(said)}") from error
    except ValueError as error:
        raise ResultError(f"{what} is not valid: {error}") from error
    except RecursionError as error:
        raise ResultError(f"{what} is nested too deeply") from error
