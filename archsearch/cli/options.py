"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def typed_options(context: typer.Context) -> list[str]:
    """Names of the options that were typed, not defaulted."""
    return [name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]


DevicesOption = Annotated[
    Path, typer.Option("--devices", "-d", metavar="FILE", help="The device file.", show_default=True)
]
DeviceOption = Annotated[
    list[str] | None,
    typer.Option("--device", metavar="NAME", help="Only this device; repeatable. Default: all enabled."),
]
WorkloadOption = Annotated[
    str, typer.Option("--workload", "-w", metavar="NAME", help="`archsearch workloads` lists them; or sizes: 512/64.")
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--with-weights",
        metavar="FILE",
        help="Trained weights: a .safetensors file, or a folder with one or its shards.",
    ),
]
PrecisionOption = Annotated[str, typer.Option("--precision", "-p", help="fp32, int8 or int4.")]
LoweringOption = Annotated[
    list[str] | None, typer.Option("--lowering", metavar="BLOCK=NAME", help="Pin a block's lowering; repeatable.")
]
TuneOption = Annotated[
    bool, typer.Option("--tune/--no-tune", help="Compare the lowerings of blocks that are new to a device first.")
]
FormatOption = Annotated[str, typer.Option("--format", "-f", help="table, json, csv or md.")]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="SQLAlchemy database URL. Default: SQLite in the study's folder."),
]
RunsOption = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where studies live.")]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of everything random: sampling, prompts, order.")
]
