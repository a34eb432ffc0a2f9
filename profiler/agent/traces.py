"""Reads the trace that onnxruntime writes of a session: its calls, its nodes, and how long each worked itself.

Times of a trace are whole microseconds, cut off: a node that takes less than one counts for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from .protocol import Json

_NODE = "_kernel_time"
_CALL = "model_run"
"""Written once for each call of a session, however many subgraphs are executed within it."""
MAX_BYTES = 64 * 2**20
"""Of a trace that are read: some hundred thousand nodes, which take seconds."""


class Call(NamedTuple):
    """One call of a session: when it began, and how long it took, in microseconds."""

    begin: int
    us: int


class Node(NamedTuple):
    """One execution of a node, what runs in its subgraphs included; times as in `Call`."""

    begin: int
    us: int
    name: str
    number: str
    operator: str
    provider: str


def read_trace(path: Path) -> tuple[list[Call], list[Node]]:
    """The calls and the nodes of a trace, each in order of beginning, what is outside before what is inside.

    What lies behind `MAX_BYTES` is not read; events are written in the order in which they ended.

    Raises:
        KeyError, TypeError, ValueError: It does not have the form that onnxruntime writes.
    """
    calls, nodes = [], []
    for event in _events(path):
        category, name = event.get("cat"), str(event.get("name"))
        if category == "Session" and name == _CALL:
            calls.append(Call(int(event["ts"]), int(event["dur"])))
        elif category == "Node" and name.endswith(_NODE):
            args = event["args"]
            if {"op_name", "provider"} <= args.keys():
                nodes.append(
                    Node(
                        int(event["ts"]), int(event["dur"]), name[: -len(_NODE)], str(args.get("node_index")),
                        str(args["op_name"]), str(args["provider"]),
                    )
                )  # fmt: skip
    return sorted(calls), sorted(nodes, key=lambda node: (node.begin, -node.us))


def _events(path: Path) -> Iterator[Json]:
    """Events one by one: each has a line of its own, and a long trace would fill a small device as one object."""
    read = 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            read += len(line)
            if read > MAX_BYTES:
                return
            text = line.strip().strip(",")
            if text not in ("", "[", "]"):
                yield json.loads(text)


def within(calls: Iterable[Call], nodes: list[Node]) -> Iterator[Node]:
    """The nodes that began during one of the calls, all of them in order of beginning."""
    at = 0
    for call in calls:
        while at < len(nodes) and nodes[at].begin < call.begin:
            at += 1
        while at < len(nodes) and nodes[at].begin < call.begin + max(1, call.us):
            yield nodes[at]
            at += 1


def own_times(nodes: Iterable[Node]) -> Iterator[tuple[Node, Node | None, int]]:
    """Each node, the one around it, and its microseconds less those of nodes inside of it: of branches and loop bodies.

    A session without parallel execution runs one node at a time, so one that begins before another has ended is inside
    of it. Their own times add up to the time in which any node ran.
    """
    open_: list[tuple[Node, Node | None, list[int]]] = []
    for node in nodes:
        while open_ and open_[-1][0].begin + open_[-1][0].us <= node.begin:
            done, outer, (own,) = open_.pop()
            yield done, outer, own
        if open_:
            open_[-1][2][0] -= node.us
        open_.append((node, open_[-1][0] if open_ else None, [node.us]))
    for done, outer, (own,) in reversed(open_):
        yield done, outer, own
