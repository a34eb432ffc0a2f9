"""Formulas in space files: a whole number said in terms of others, such as ``width / head_dim``.

A formula is made of names, whole numbers, ``+ - * /`` and parentheses. Names are `width` and the other fields of the
same block. Division is exact: 832 / 64 = 13, but 832 / 128 has no value, and a layout that needs it is no member of
the space.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_MAX_LENGTH = 100


@lru_cache(maxsize=1024)
def _tree(text: str) -> ast.expr:
    problem = f"{text!r} is no formula; write names, whole numbers, + - * / and parentheses"
    if len(text) > _MAX_LENGTH:
        raise ValueError(problem)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ValueError(problem) from error
    for node in ast.walk(tree):
        fine = isinstance(node, ast.BinOp | ast.UnaryOp | ast.Name | ast.Load | ast.operator | ast.USub) or (
            isinstance(node, ast.Constant) and type(node.value) is int
        )
        if not fine or (isinstance(node, ast.operator) and type(node) not in _OPERATIONS):
            raise ValueError(problem)
    return tree


def formula_names(text: str) -> frozenset[str]:
    """The names that a formula reads.

    Raises:
        ValueError: It is no formula.
    """
    return frozenset(node.id for node in ast.walk(_tree(text)) if isinstance(node, ast.Name))


def evaluate(text: str, names: Mapping[str, int]) -> int:
    """The formula's value.

    Raises:
        ValueError: It is no formula, reads an unknown name, or its value is no whole number.
    """
    try:
        value = _value(_tree(text), names)
    except KeyError as error:
        raise ValueError(f"{text}: {error.args[0]!r} is unknown") from error
    except ZeroDivisionError as error:
        raise ValueError(f"{text} divides by zero") from error
    if value.denominator != 1:
        given = ", ".join(f"{name} {names[name]}" for name in sorted(formula_names(text)))
        raise ValueError(f"{text} is {float(value):g}, no whole number ({given})")
    return int(value)


def _value(node: ast.expr, names: Mapping[str, int]) -> Fraction:
    if isinstance(node, ast.BinOp):
        return _OPERATIONS[type(node.op)](_value(node.left, names), _value(node.right, names))
    if isinstance(node, ast.UnaryOp):
        return -_value(node.operand, names)
    if isinstance(node, ast.Name):
        return Fraction(names[node.id])
    assert isinstance(node, ast.Constant)
    assert isinstance(node.value, int)
    return Fraction(node.value)


def resolve_formulas(values: Mapping[str, Any], formulas: frozenset[str], names: Mapping[str, int]) -> dict[str, Any]:
    """Replace texts in the fields named by `formulas` with their values; formulas may refer to one another.

    Raises:
        ValueError: A formula has no value, or formulas refer to each other in a circle.
    """
    resolved = {name: value for name, value in values.items() if not (name in formulas and isinstance(value, str))}
    waiting = {name: value for name, value in values.items() if name not in resolved}
    while waiting:
        known = {**names, **{name: v for name, v in resolved.items() if type(v) is int}}
        ready = [name for name, text in waiting.items() if formula_names(text) <= known.keys()]
        if not ready:
            name, text = next(iter(waiting.items()))
            missing = sorted(formula_names(text) - known.keys())
            circle = all(other in waiting for other in missing)
            why = "refers to itself in a circle" if circle else f"reads {missing[0]!r}, which is no number here"
            raise ValueError(f"{name} = {text} {why}")
        for name in ready:
            text = waiting.pop(name)
            try:
                resolved[name] = evaluate(text, known)
            except ValueError as error:
                raise ValueError(f"{name} = {error}") from error
    return {name: resolved[name] for name in values}
