"""`archsearch regress`: the commands' names, options and help; see `archsearch.cli.app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.options import (
    DeviceOption,
    DevicesOption,
    FormatOption,
    LoweringOption,
    RunsOption,
    SeedOption,
    StoreOption,
    TuneOption,
    typed_options,
)

regress_app = typer.Typer(
    no_args_is_help=True,
    help="Did anything that we ship get slower, bigger or wrong on our devices, and since when? run, series, accept, "
    "history, report, fronts, runtimes.",
)


@regress_app.callback()
def _root() -> None:
    """Nightly regressions."""


@regress_app.command(
    "run",
    epilog="Examples: `archsearch regress run --devices devices.yaml --suite shipped.yaml`; two versions of "
    "onnxruntime on purpose: `archsearch regress run --compare-runtimes 1.30.0 1.31.1`. Exit codes: 0 fine (a WARN "
    "too), 1 regression (a FAIL; of runtimes SLOWER or INVALID), 2 wrong input, or a report or JUnit file could not be "
    "written (what was measured is kept), 3 no usable device, or another night is being measured, 5 nothing was "
    "measured, 130 stopped by Ctrl-C or SIGTERM. "
    "A front of a study that MOVED changes none of them: a layout that got slower fails by its own series.",
)
def run(
    context: typer.Context,
    devices: DevicesOption = Path("devices.yaml"),
    suite: Annotated[
        str, typer.Option("--suite", metavar="FILE", help="Suite file, or the name of one that ships.")
    ] = "default",
    device: DeviceOption = None,
    lowering: LoweringOption = None,
    tune: TuneOption = True,
    wait: Annotated[
        str, typer.Option("--wait", metavar="TIME", help="How long to wait for another night to end: 90s, 2h.")
    ] = "0s",
    seed: SeedOption = 0,
    compare_runtimes: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--compare-runtimes",
            metavar="A B",
            help="No night: install these two versions of onnxruntime in the devices' work folders, measure the suite "
            "under both in turns, and say whether B is slower than A. Lowerings are the defaults or --lowering, not "
            "tuned; anchors are not measured.",
        ),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write the verdicts as JUnit XML, for CI servers.")
    ] = None,
    github: Annotated[bool, typer.Option("--github", help="Print annotations for GitHub Actions.")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write a page (.html) or Markdown (.md).")
    ] = None,
    notify: Annotated[
        str | None,
        typer.Option("--notify", metavar="COMMAND", help="Run it with a summary as JSON on its standard input."),
    ] = None,
    output_format: FormatOption = "table",
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Measure tonight: everything of a suite on all devices, afresh, and compare it with the nights before."""
    from archsearch.cli.regress import run_command
    from archsearch.cli.regress_telling import Outlets

    if compare_runtimes is not None:
        from archsearch.cli.regress_runtimes import compare_command

        typed = [name for name in typed_options(context) if context.params[name]]
        code = compare_command(
            compare_runtimes, devices=devices, device=device, suite=suite, lowering=lowering, wait=wait, seed=seed,
            typed=typed, output_format=output_format, store=store, runs=runs,
        )  # fmt: skip
        raise typer.Exit(code)
    code = run_command(
        devices=devices, device=device, suite=suite, lowering=lowering, tune=tune, wait=wait, seed=seed,
        outlets=Outlets(junit=junit, github=github, report=report, command=notify), output_format=output_format,
        store=store, runs=runs,
    )  # fmt: skip
    raise typer.Exit(code)


@regress_app.command("series", epilog="Example: `archsearch regress series --format csv`")
def series(
    output_format: FormatOption = "table",
    every: Annotated[bool, typer.Option("--all", help="Those too that another one has followed.")] = False,
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """List the series with the verdict on the last night of each."""
    from archsearch.cli.regress_series import series_command

    series_command(every=every, output_format=output_format, store=store, runs=runs)


@regress_app.command(
    "accept",
    epilog="Examples: `archsearch regress accept 3f2a --reason 'larger window'`; many at once: "
    "`archsearch regress accept '*lfm2.5* ttft_ms' --reason 'driver 5.2' --since 2026-03-01`",
)
def accept(
    which: Annotated[
        str,
        typer.Argument(
            metavar="SERIES",
            help="Beginning of a series' id (at least 3 digits), or a pattern of `DEVICE WHAT QUANTITY`.",
        ),
    ],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who come later.")],
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="NIGHT|now", help="Such as 2026-03-01 or '2026-03-01 04:00'. Default: since it changed."
        ),
    ] = None,
    pin: Annotated[
        float | None, typer.Option("--pin", metavar="VALUE", help="Compare with this value from then on.")
    ] = None,
    output_format: FormatOption = "table",
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Accept the level on which a series is now: later nights are compared with it."""
    from archsearch.cli.regress_series import accept_command

    accept_command(
        which, reason=reason, since=since, pin=pin, output_format=output_format, store=store, runs=runs
    )  # fmt: skip
