"""Commands about search spaces."""

from __future__ import annotations

from archsearch.cli.output import one_of, print_json, print_table


def list_command() -> None:
    """`archsearch space list`."""
    from search_space.space_file import load_space, space_names

    rows = [(name, load_space(name).description) for name in space_names()]
    print_table(("space", "what it is"), rows)


def schema_command() -> None:
    """`archsearch space schema`."""
    from search_space.space_file import space_schema

    print_json(space_schema())
