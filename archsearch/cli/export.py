"""Layouts to files and back: export, import."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.cli.exits import CommandError
from archsearch.cli.layouts import lowering_options, precision_option
from archsearch.cli.output import console

if TYPE_CHECKING:
    from search_space.export import Candidate
    from search_space.layout_file import NamedLayout


def export_command(
    what: str,
    *,
    output: Path,
    precision: str,
    context: int,
    with_weights: Path | None,
    random_weights: bool,
    hugging_face: bool,
    lowering: Sequence[str] | None,
    seed: int,
    force: bool,
) -> None:
    """`archsearch export`: model.onnx, signature.json, layout.json, and recipe.json or weights.bin or both.

    The recipe says how seeded random weights are made, so that trained ones have none.
    """
    from archsearch.layout_ids import find_layout
    from search_space.export import export_layout
    from search_space.huggingface import write_config

    if with_weights is not None and random_weights:
        raise CommandError("--with-weights and --random-weights exclude each other")
    named = find_layout(what)
    config = write_config(named.layout, context=context) if hugging_face else None
    candidate = export_layout(
        named.layout,
        precision=precision_option(precision),
        context=context,
        lowerings=lowering_options(lowering),
        seed=seed,
    )
    if output.exists() and not output.is_dir():
        raise CommandError(f"{output} exists and is no folder")
    if output.is_dir() and any(output.iterdir()) and not (force and (output / "layout.json").exists()):
        raise CommandError(
            f"{output} is not empty",
            hint="another folder, or --force to overwrite an earlier export",
        )
    if with_weights is not None and output.resolve() in (held := with_weights.expanduser().resolve(), held.parent):
        raise CommandError(f"{output} holds the checkpoint itself", hint="another folder")
    ignored: Mapping[str, int] = {}
    try:
        output.mkdir(parents=True, exist_ok=True)
        if with_weights is not None:
            ignored = write_export(candidate, named, output, with_weights)
        else:
            write_graph(candidate, named, output)
            _write(output / "recipe.json", json.dumps(candidate.recipe).encode())
            if random_weights:
                _write_random(candidate.recipe, output / "weights.bin")
            else:
                (output / "weights.bin").unlink(missing_ok=True)
        if config is not None:
            _write(output / "config.json", (json.dumps(config, indent=2) + "\n").encode())
        else:
            (output / "config.json").unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"{output}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            output.rmdir()  # which only an empty folder allows: nothing was written
    out = console()
    out.print(f"{named.name or named.layout.layout_id}: {precision}, context {context}")
    for path in sorted(output.iterdir()):
        out.print(f"  {path}  {path.stat().st_size:,} bytes")
    say_ignored(ignored)
    if not random_weights and with_weights is None:
        out.print(
            "weights.bin is not written; the graph refers to it (--with-weights FILE: trained, --random-weights).",
            style="dim",
        )


def write_export(candidate: Candidate, named: NamedLayout, folder: Path, checkpoint: Path) -> Mapping[str, int]:
    """An export with trained weights, into a folder that exists.

    Returns:
        How many tensors were left out because they are outside the language model, by prefix.

    Raises:
        SearchSpaceError: The checkpoint is not one of this layout; nothing was written then.
        OSError: A file cannot be written.
    """
    from archsearch.trained import write_trained

    ignored = write_trained(candidate, named.layout, checkpoint.expanduser(), folder / "weights.bin")
    (folder / "recipe.json").unlink(missing_ok=True)  # it would say that these weights are random
    write_graph(candidate, named, folder)
    return ignored


def say_ignored(ignored: Mapping[str, int]) -> None:
    """Tell which tensors of a checkpoint lie outside the language model."""
    for prefix, number in ignored.items():
        console(stderr=True).print(f"archsearch: left out, outside the language model: {number} tensors {prefix}*")


def import_command(config: Path, *, output: Path | None, force: bool) -> None:
    """`archsearch import`: a Hugging Face config as a layout file."""
    from search_space.cost import parameters
    from search_space.huggingface import read_config
    from search_space.layout_file import write_layout

    named = read_config(config.expanduser()).named
    if output is None:
        print(json.dumps(named.to_json(), indent=1))
        return
    if output.exists() and not (force and output.is_file()):
        raise CommandError(f"{output} exists", hint="another file, or --force to overwrite it")
    try:
        write_layout(named, output)
    except OSError as error:
        raise CommandError(f"{output}: {error.strerror or error}") from error
    out, layout = console(), named.layout
    out.print(f"{output}: {layout.code}, id {layout.layout_id}, {parameters(layout).total:,} parameters")
    for name, extra in named.extra_params.items():
        out.print(f"outside the language model: {name}, {extra:,} parameters")
    out.print(named.notes, style="dim")


def write_graph(candidate: Candidate, named: NamedLayout, output: Path) -> None:
    """The files that every export has: model.onnx, signature.json, layout.json."""
    from search_space.layout_file import write_layout

    _write(output / "model.onnx", candidate.graph)
    _write(output / "signature.json", json.dumps(candidate.signature, indent=1).encode())
    write_layout(named, output / "layout.json")


def _write_random(recipe: dict[str, Any], path: Path) -> None:
    """Write the data file; nothing is left of one that was not finished."""
    from profiler.agent.protocol import JobFailure
    from profiler.agent.weights import write_weights

    try:
        write_weights(recipe, path)
    except JobFailure as error:
        raise CommandError(error.reason) from error
    except KeyboardInterrupt:
        with suppress(OSError):
            path.with_name(path.name + ".part").unlink(missing_ok=True)
        raise


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(data)
    temporary.replace(path)
