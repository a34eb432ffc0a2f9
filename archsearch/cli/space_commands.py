"""`archsearch space`: the commands' names, options and help; see `archsearch.cli.app`."""

from __future__ import annotations

from typing import Annotated

import typer

from archsearch.cli.options import FormatOption, SeedOption

space_app = typer.Typer(no_args_is_help=True, help="Search spaces: list, check, schema.")


@space_app.command("check", epilog="Example: `archsearch space check 350m --draws 1000`")
def space_check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Space file, or the name of one that ships.")],
    draws: Annotated[int, typer.Option("--draws", min=1, help="Layouts to draw.")] = 300,
    seed: SeedOption = 0,
    output_format: Annotated[str, typer.Option("--format", "-f", help="table or json.")] = "table",
) -> None:
    """Count or estimate a space, draw samples, and say what would empty it."""
    from archsearch.cli.spaces import check_command

    check_command(file, draws=draws, seed=seed, output_format=output_format)


@space_app.command("list", epilog="Example: `archsearch space list --format json`")
def space_list(output_format: FormatOption = "table") -> None:
    """List the spaces that ship."""
    from archsearch.cli.spaces import list_command

    list_command(output_format=output_format)


@space_app.command("schema")
def space_schema() -> None:
    """Print the JSON schema of space files, for editors."""
    from archsearch.cli.spaces import schema_command

    schema_command()
