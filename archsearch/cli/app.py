"""The commands' names, options and help. The work is imported when it runs, so that --help is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli import exits
from archsearch.cli.options import (
    DeviceOption,
    DevicesOption,
    FormatOption,
    LoweringOption,
    PrecisionOption,
    RunsOption,
    SeedOption,
    StoreOption,
    TuneOption,
    WeightsOption,
    WorkloadOption,
    typed_options,
)
from archsearch.cli.regress_commands import regress_app
from archsearch.cli.regress_looking_commands import add_to as add_looking_to
from archsearch.cli.space_commands import space_app

app = typer.Typer(
    name="archsearch",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Finds the hybrid language-model layout that is best on your device, by measuring it there.",
    epilog="Exit codes: 0 fine, 1 regression, 2 usage or configuration, 3 no usable device, 4 internal error, "
    "5 nothing was measured, 130 stopped by Ctrl-C.",
)
devices_app = typer.Typer(no_args_is_help=True, help="Devices: list, trust, setup, check, clean, schema.")
app.add_typer(space_app, name="space")
app.add_typer(devices_app, name="devices")
add_looking_to(regress_app)
app.add_typer(regress_app, name="regress")


@app.command(epilog="Example: `archsearch run --devices devices.yaml --budget 'peak_rss_mib<=600' --time-budget 30m`")
def run(
    context: typer.Context,
    devices: DevicesOption = Path("devices.yaml"),
    study: Annotated[
        str | None, typer.Option("--study", "-s", metavar="NAME", help="Name; an existing study is continued.")
    ] = None,
    space: Annotated[
        str, typer.Option("--space", metavar="FILE", help="Space file, or the name of one that ships.")
    ] = "350m",
    device: DeviceOption = None,
    workload: WorkloadOption = "quick",
    precision: PrecisionOption = "int4",
    sampler: Annotated[str, typer.Option("--sampler", help="nsga2, tpe, random, nsga3, gp or qmc.")] = "nsga2",
    trials: Annotated[
        int | None,
        typer.Option("--trials", "-n", min=1, metavar="N", help="Candidates to measure; with no time budget."),
    ] = None,
    time_budget: Annotated[
        str | None,
        typer.Option("--time-budget", "-t", metavar="TIME", help="Such as 90s, 5m, 2h. Default: 5m without --trials."),
    ] = None,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", "-o", metavar="NAME", help="What to optimise; repeatable.")
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option("--budget", "-b", metavar="'NAME<=X'", help="A limit that a layout must meet; repeatable."),
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", metavar="LAYOUT", help="References, measured first; the first watches for drift."),
    ] = None,
    seed: SeedOption = 0,
    across: Annotated[
        str, typer.Option("--across", help="Several devices: worst, geomean or a device's NAME.")
    ] = "worst",
    tune: TuneOption = True,
    lowering: LoweringOption = None,
    output_format: FormatOption = "table",
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Search: sample layouts, measure each on the devices, rank them."""
    from archsearch.cli.run import run_command

    code = run_command(
        devices=devices,
        device=device,
        study=study,
        trials=trials,
        time_budget=time_budget,
        output_format=output_format,
        store=store,
        runs=runs,
        explicit=typed_options(context),
        options={
            "space": space,
            "workload": workload,
            "precision": precision,
            "sampler": sampler,
            "objective": objective,
            "budget": budget,
            "anchor": anchor,
            "seed": seed,
            "across": across,
            "tune": tune,
            "lowering": lowering,
        },
    )
    raise typer.Exit(code)


@app.command(
    epilog="Examples: `archsearch measure lfm2.5-350m --workload edge --format json`; a trained model: "
    "`archsearch measure ~/SmolLM3-3B --with-weights ~/SmolLM3-3B`"
)
def measure(
    what: Annotated[
        str,
        typer.Argument(metavar="LAYOUT|ANCHOR|FILE", help="Code, anchor, layout.json, model.onnx, id of a study's."),
    ],
    devices: DevicesOption = Path("devices.yaml"),
    device: DeviceOption = None,
    workload: WorkloadOption = "quick",
    precision: PrecisionOption = "int4",
    batch: Annotated[str | None, typer.Option("--batch", metavar="N,N", help="Batch sizes, for throughput.")] = None,
    lowering: LoweringOption = None,
    tune: TuneOption = True,
    with_weights: WeightsOption = None,
    time_budget: Annotated[
        str,
        typer.Option("--time-budget", "-t", metavar="TIME", help="Of load, warm-up, timed work; ends when narrow."),
    ] = "60s",
    profile: Annotated[
        bool, typer.Option("--profile", help="Print where the time goes, by block and operator.")
    ] = False,
    output_format: FormatOption = "table",
    seed: SeedOption = 0,
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Measure one layout or ONNX file on the devices, afresh."""
    from archsearch.cli.measure import measure_command

    code = measure_command(
        what, devices=devices, device=device, workload=workload, precision=precision, batch=batch, lowering=lowering,
        tune=tune, with_weights=with_weights, time_budget=time_budget, profile=profile, output_format=output_format,
        seed=seed, store=store, runs=runs,
    )  # fmt: skip
    raise typer.Exit(code)


@app.command(epilog="Example: `archsearch tune lfm2.5-350m --workload edge`")
def tune(
    layouts: Annotated[
        list[str] | None, typer.Argument(metavar="[LAYOUT|ANCHOR|FILE]...", help="Whose blocks. Default: the anchors'.")
    ] = None,
    devices: DevicesOption = Path("devices.yaml"),
    device: DeviceOption = None,
    workload: WorkloadOption = "quick",
    precision: PrecisionOption = "int4",
    output_format: FormatOption = "table",
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Compare all lowerings of layouts' blocks on the devices, and keep the choice for later runs."""
    from archsearch.cli.kernels import tune_command

    code = tune_command(
        layouts or (), devices=devices, device=device, workload=workload, precision=precision,
        output_format=output_format, store=store, runs=runs,
    )  # fmt: skip
    raise typer.Exit(code)


@app.command(epilog="Example: `archsearch blocks --context 512,4096 --figure blocks.html`")
def blocks(
    devices: DevicesOption = Path("devices.yaml"),
    device: DeviceOption = None,
    context: Annotated[
        str, typer.Option("--context", "-c", metavar="N,N", help="Tokens of prefill, and behind each decode step.")
    ] = "512,1024,4096,16384",
    iso: Annotated[
        str, typer.Option("--iso", help="params: equal parameters, by the number of heads; width: as published.")
    ] = "params",
    width: Annotated[int, typer.Option("--width", metavar="D", help="Model width, a multiple of 256.")] = 1024,
    precision: PrecisionOption = "int4",
    figure: Annotated[Path | None, typer.Option("--figure", metavar="FILE.html", help="Write a figure.")] = None,
    output_format: FormatOption = "table",
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Compare ShortConv, SWA, GQA, GLA and Gated DeltaNet as whole blocks, against context."""
    from archsearch.cli.kernels import blocks_command

    code = blocks_command(
        devices=devices, device=device, context=context, iso=iso, width=width, precision=precision, figure=figure,
        output_format=output_format, store=store, runs=runs,
    )  # fmt: skip
    raise typer.Exit(code)


@app.command(epilog="Example: `archsearch show --front --format md`")
def show(
    study: Annotated[str | None, typer.Argument(metavar="STUDY", help="Default: the latest.")] = None,
    front: Annotated[bool, typer.Option("--front", help="Only the front and what noise could put on it.")] = False,
    timing: Annotated[bool, typer.Option("--timing", help="Where the study's time went.")] = False,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", "-o", metavar="NAME", help="Rank by these.")
    ] = None,
    budget: Annotated[list[str] | None, typer.Option("--budget", "-b", metavar="'NAME<=X'", help="Limits.")] = None,
    across: Annotated[str | None, typer.Option("--across", help="worst, geomean or a device's NAME.")] = None,
    output_format: FormatOption = "table",
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Rank what a study has measured."""
    from archsearch.cli.show import show_command

    show_command(
        study, front=front, timing=timing, objective=objective, budget=budget, across=across,
        output_format=output_format, store=store, runs=runs,
    )  # fmt: skip


@app.command(epilog="Example: `archsearch report my-study -o my-study.html`")
def report(
    study: Annotated[str | None, typer.Argument(metavar="STUDY", help="Default: the latest.")] = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.html", help="Default: report.html of the study.")
    ] = None,
    objective: Annotated[list[str] | None, typer.Option("--objective", metavar="NAME", help="Rank by these.")] = None,
    budget: Annotated[list[str] | None, typer.Option("--budget", "-b", metavar="'NAME<=X'", help="Limits.")] = None,
    across: Annotated[str | None, typer.Option("--across", help="worst, geomean or a device's NAME.")] = None,
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Write a study as one page that needs nothing else, its table as CSV and Markdown beside it."""
    from archsearch.cli.report import report_command

    report_command(study, out=out, objective=objective, budget=budget, across=across, store=store, runs=runs)


@app.command(epilog="Examples: `archsearch dashboard`; `archsearch dashboard my-study --port 9000 --no-browser`")
def dashboard(
    study: Annotated[str | None, typer.Argument(metavar="STUDY", help="Shown first. Default: the latest.")] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="0 for a free one. Default: the first free one from 8050 on."),
    ] = None,
    browser: Annotated[
        bool | None, typer.Option("--browser/--no-browser", help="Open a browser. Default: in a terminal.")
    ] = None,
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Look at studies in a browser, on this machine alone; live while they run."""
    from archsearch.cli.dashboard import dashboard_command

    dashboard_command(study, port=port, browser=browser, store=store, runs=runs)


@app.command(epilog="Example: `archsearch describe CCGCCG:width=768,params=100M --format json`")
def describe(
    what: Annotated[
        str,
        typer.Argument(metavar="LAYOUT|ANCHOR|FILE", help="Code, anchor, layout.json, or the id of one in a study."),
    ],
    output_format: Annotated[str, typer.Option("--format", "-f", help="table or json.")] = "table",
) -> None:
    """Count a layout's parameters, bytes and operations."""
    from archsearch.cli.layouts import describe_command

    describe_command(what, output_format=output_format)


@app.command(
    epilog="Examples: `archsearch export lfm2.5-350m -o out --hf`; a trained model: "
    "`archsearch export ~/SmolLM3-3B -o out --with-weights ~/SmolLM3-3B`"
)
def export(
    what: Annotated[
        str,
        typer.Argument(metavar="LAYOUT|ANCHOR|FILE", help="Code, anchor, layout.json, config.json, id of a study's."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write.")],
    precision: PrecisionOption = "int4",
    context: Annotated[
        int, typer.Option("--context", min=1, max=1 << 20, help="Most tokens that caches can hold.")
    ] = 4096,
    with_weights: WeightsOption = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Write weights.bin with seeded random values.")
    ] = False,
    hugging_face: Annotated[
        bool, typer.Option("--hf", help="Write config.json too, for transformers; refused where no family fits.")
    ] = False,
    lowering: LoweringOption = None,
    seed: SeedOption = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an earlier export.")] = False,
) -> None:
    """Write a layout as ONNX, with layout.json and, on request, weights and a Hugging Face config."""
    from archsearch.cli.export import export_command

    export_command(
        what, output=output, precision=precision, context=context, with_weights=with_weights,
        random_weights=random_weights, hugging_face=hugging_face, lowering=lowering, seed=seed, force=force,
    )  # fmt: skip


@app.command("import", epilog="Example: `archsearch import ~/Qwen3-0.6B/config.json -o layout.json`")
def import_(
    config: Annotated[Path, typer.Argument(metavar="CONFIG_JSON", help="A config.json, or the folder that holds it.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Layout file to write. Default: stdout.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a layout file.")] = False,
) -> None:
    """Turn the config of a Hugging Face model into a layout (Llama, Qwen3, Qwen3.5, Gemma 3, LFM2, SmolLM3)."""
    from archsearch.cli.export import import_command

    import_command(config, output=output, force=force)


@app.command(epilog="Example: `archsearch anchors --format json`")
def anchors(output_format: FormatOption = "table") -> None:
    """List the published models that ship as layouts."""
    from archsearch.cli.layouts import anchors_command

    anchors_command(output_format=output_format)


@app.command(epilog="Example: `archsearch workloads --format csv`")
def workloads(output_format: FormatOption = "table") -> None:
    """List the named workloads."""
    from archsearch.cli.layouts import workloads_command

    workloads_command(output_format=output_format)


@app.command(epilog="Example: `archsearch objectives --format md`")
def objectives(output_format: FormatOption = "table") -> None:
    """List what can be optimised, limited and shown."""
    from archsearch.cli.layouts import objectives_command

    objectives_command(output_format=output_format)


@devices_app.command("list", epilog="Example: `archsearch devices list --devices lab.yaml --format csv`")
def devices_list(
    devices: DevicesOption = Path("devices.yaml"),
    output_format: FormatOption = "table",
) -> None:
    """List the devices of a device file."""
    from archsearch.cli.devices import list_command

    list_command(devices, output_format=output_format)


@devices_app.command("trust", epilog="Example: `archsearch devices trust ryzen --fingerprint SHA256:...`")
def devices_trust(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An ssh device of the device file.")],
    devices: DevicesOption = Path("devices.yaml"),
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", metavar="SHA256:...", help="Keep the key only if it is this one.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Show the host key of an SSH device, and keep it once you have compared it."""
    from archsearch.cli.devices import trust_command

    trust_command(name, devices=devices, fingerprint=fingerprint, yes=yes)


@devices_app.command("setup", epilog="Examples: `archsearch devices setup mini-pc`; anew: `... mini-pc --again`")
def devices_setup(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A device of the device file, enabled or not.")],
    devices: DevicesOption = Path("devices.yaml"),
    again: Annotated[bool, typer.Option("--again", help="Make anew what is there.")] = False,
    python: Annotated[
        str | None,
        typer.Option("--python", metavar="PATH", help="A Python there to begin with (ssh). Default: one that fits."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", metavar="FILE", help="An android-python-*.tar.gz made elsewhere (adb). Default: made."
        ),
    ] = None,
) -> None:
    """Put the agent, Python packages and onnxruntime on a device, and measure a tiny model there."""
    from archsearch.cli.setup import setup_command

    raise typer.Exit(setup_command(name, devices=devices, again=again, python=python, bundle=bundle))


@devices_app.command("check", epilog="Examples: `archsearch devices check`; `archsearch devices check mini-pc -f json`")
def devices_check(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this device. Default: all that are enabled.")
    ] = None,
    devices: DevicesOption = Path("devices.yaml"),
    output_format: FormatOption = "table",
) -> None:
    """Say what devices are, and whether they are ready to measure; exit code 3 when any is not."""
    from archsearch.cli.checks import check_command

    raise typer.Exit(check_command(name, devices=devices, output_format=output_format))


@devices_app.command(
    "clean", epilog="Examples: `archsearch devices clean mini-pc`; `... clean mini-pc --weights --yes`"
)
def devices_clean(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A device of the device file, enabled or not.")],
    devices: DevicesOption = Path("devices.yaml"),
    weights: Annotated[bool, typer.Option("--weights", help="Only cached weights.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Even while somebody is at work: ends jobs.")] = False,
) -> None:
    """Remove from a device what this program put there, and its work folder once that is empty."""
    from archsearch.cli.devices import clean_command

    clean_command(name, devices=devices, weights=weights, yes=yes, force=force)


@devices_app.command("schema")
def devices_schema() -> None:
    """Print the JSON schema of device files, for editors."""
    from archsearch.cli.devices import schema_command

    schema_command()


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"archsearch {installed('archsearch')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(exits.USAGE)
