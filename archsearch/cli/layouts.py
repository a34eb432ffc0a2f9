"""Commands about layouts that need no device: describe, anchors, workloads, objectives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from archsearch.cli.exits import CommandError
from archsearch.cli.output import Row, code_text, console, count, mib, one_of, print_json, print_list, print_table
from search_space.graph.precision import PRECISIONS, PrecisionName


def precision_option(value: str) -> PrecisionName:
    """Check --precision."""
    return next(name for name in PRECISIONS if name == one_of(value, PRECISIONS, "--precision"))


def lowering_options(values: Sequence[str] | None) -> dict[str, str]:
    """``BLOCK=NAME`` options as a mapping.

    Raises:
        CommandError: Not of that form, an unknown block, or a lowering that the block does not have.
    """
    from search_space.blocks import feed_forwards, mixers

    blocks: Mapping[str, Any] = {**mixers(), **feed_forwards()}
    chosen = {}
    for value in values or ():
        kind, equals, name = value.partition("=")
        if not equals:
            raise CommandError(f"--lowering {value!r} is not of the form BLOCK=NAME, such as short_conv=conv")
        one_of(kind, [k for k, b in blocks.items() if b.lowerings], f"--lowering {value!r}: the block")
        chosen[kind] = one_of(name, list(blocks[kind].all_lowerings()), f"--lowering {value!r}: the lowering")
    return chosen


def describe_command(what: str, *, output_format: str) -> None:
    """`archsearch describe`."""
    from archsearch.describe import describe
    from archsearch.layout_ids import find_layout

    one_of(output_format, ("table", "json"), "--format")
    facts = describe(find_layout(what))
    if output_format == "json":
        print_json(facts)
        return
    out = console()
    title = facts["name"] or facts["layout_id"]
    out.print(f"{title}  {facts['depth']} layers, width {facts['width']}, id {facts['layout_id']}", style="bold")
    out.print(code_text(facts["code"]))
    if facts["notes"]:
        out.print(facts["notes"], style="dim")
    total = facts["total_params"]
    rows = [(part, f"{n:,}", f"{n / total:.2%}") for part, n in facts["params"].items()]
    effective = facts["effective_params"]
    rows.append(("total", f"{total:,}", "100.00%"))
    rows.append(("effective (without embedding and head)", f"{effective:,}", f"{effective / total:.2%}"))
    for name, extra in facts["extra_params"].items():
        rows.append((f"outside the language model: {name}", f"{extra:,}", ""))
    if facts["extra_params"]:
        share = facts["embedding_share_of_all_tensors"]
        rows.append(("all tensors (embedding share of these)", f"{facts['all_tensors_params']:,}", f"{share:.2%}"))
    print_table(("parameters", "count", "share"), rows, right=(1, 2))
    out.print(f"embedding share {facts['embedding_share']:.2%} of the language model's {count(total)} parameters")
    weights = facts["weight_bytes"]
    print_table(("weights", *weights), [("stored", *(mib(size) for size in weights.values()))], right=(1, 2, 3))
    contexts = list(facts["state_bytes"])
    print_table(
        ("at context", *contexts),
        [
            ("carried state (fp32, batch 1)", *(mib(facts["state_bytes"][c]) for c in contexts)),
            ("FLOPs per decoded token", *(f"{facts['flops_per_token'][c] / 1e9:.3f} G" for c in contexts)),
            ("FLOPs of a prefill this long", *(f"{facts['prefill_flops'][c] / 1e12:.3f} T" for c in contexts)),
        ],
        right=range(1, len(contexts) + 1),
    )
    print_table(("layers", "mixer", "feed-forward"), [_layer_row(kind) for kind in facts["layers"]])


def _layer_row(kind: Mapping[str, Any]) -> tuple[str, str, str]:
    return _ranges(kind["at"]), _spec_text(kind["mixer"]), "none" if kind["ffn"] is None else _spec_text(kind["ffn"])


def _ranges(indices: Sequence[int]) -> str:
    """0, 1, 2, 5 -> ``0-2, 5``."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _spec_text(spec: Mapping[str, Any]) -> str:
    fields = " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in spec.items()
        if name != "kind" and value is not None and value is not False
    )
    return f"{spec['kind']} {fields}".strip()


def anchors_command(*, output_format: str = "table") -> None:
    """`archsearch anchors`; the keys are those of `describe`."""
    from search_space.anchors import anchor, anchor_names
    from search_space.cost import parameters

    rows = []
    for name in anchor_names():
        layout = anchor(name).layout
        counts = parameters(layout)
        rows.append({
            "name": name,
            "layout_id": layout.layout_id,
            "code": layout.code,
            "width": layout.width,
            "depth": len(layout.layers),
            "vocab_size": layout.embedding.vocab_size,
            "total_params": counts.total,
            "embedding_params": counts.vocabulary,
            "effective_params": counts.effective,
            "embedding_share": counts.embedding_share,
        })  # fmt: skip
    columns: dict[str, Callable[[Row], Any]] = {
        "anchor": itemgetter("name"),
        "code": lambda row: code_text(row["code"]),
        "parameters": lambda row: f"{row['total_params']:,}",
        "embedding share": lambda row: f"{row['embedding_share']:.2%}",
    }
    print_list(rows, columns, output_format, right=(2, 3))


def workloads_command(*, output_format: str = "table") -> None:
    """`archsearch workloads`."""
    from profiler.workloads import Point, workloads

    rows = [
        {
            "name": workload.name,
            "points": [point.to_json() for point in workload.points],
            "max_context": workload.max_context,
            "description": workload.description,
        }
        for workload in workloads()
    ]
    columns: dict[str, Callable[[Row], Any]] = {
        "workload": itemgetter("name"),
        "prompt/decode": lambda row: ", ".join(Point(**point).text for point in row["points"]),
        "for": itemgetter("description"),
    }
    print_list(rows, columns, output_format)
    if output_format == "table":
        console().print(
            "Custom: 512/64, or prompt=512,decode=64; @512 or chunk=512 prefills in pieces; several with ';' between.",
            style="dim",
        )


def objectives_command(*, output_format: str = "table") -> None:
    """`archsearch objectives`."""
    from archsearch.objectives import objectives

    rows = [
        {"name": o.name, "unit": o.unit, "direction": o.direction, "measured": o.measured, "description": o.doc}
        for o in objectives().values()
    ]
    columns: dict[str, Callable[[Row], Any]] = {
        "objective": itemgetter("name"),
        "unit": itemgetter("unit"),
        "better": lambda row: "lower" if row["direction"] == "min" else "higher",
        "what it is": itemgetter("description"),
    }
    print_list(rows, columns, output_format)
