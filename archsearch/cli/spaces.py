"""Commands about search spaces."""

from __future__ import annotations

from archsearch.cli.output import code_text, console, count, one_of, print_json, print_table


def check_command(file: str, *, draws: int, seed: int, output_format: str) -> None:
    """`archsearch space check`: size, acceptance and samples of a space; an empty one raises SpaceError."""
    from search_space.check import check_space
    from search_space.space_file import load_space

    one_of(output_format, ("table", "json"), "--format")
    report = check_space(load_space(file), draws, seed)
    if output_format == "json":
        print_json(report.to_json())
        return
    out = console()
    out.print(f"{report.name}: {report.description}")
    layouts = f"{report.layouts:,} layouts" if report.exhaustive else f"about {report.layouts:.3g} layouts (estimated)"
    out.print(
        f"{layouts} from {report.combinations:.3g} combinations of choices; {report.sequences_allowed:,} of "
        f"{report.sequences:,} layer sequences are allowed"
    )
    drawn = "of all" if report.exhaustive else f"of {report.draws} draws"
    out.print(f"{report.accepted / max(1, report.draws):.1%} {drawn} meet the constraints")
    if report.rejected:
        rejected = sorted(report.rejected.items(), key=lambda item: -item[1])
        print_table(("refused by", "share"), [(n, f"{k / report.draws:.1%}") for n, k in rejected], right=(1,))
    rows = [
        (code_text(s.code), s.width, count(s.total_params), s.ffn_hidden or "none", f"{s.embedding_share:.1%}")
        for s in report.samples
    ]
    print_table(("sample", "width", "parameters", "FFN width", "embedding share"), rows, right=(1, 2, 3, 4))


def list_command() -> None:
    """`archsearch space list`."""
    from search_space.space_file import load_space, space_names

    rows = [(name, load_space(name).description) for name in space_names()]
    print_table(("space", "what it is"), rows)


def schema_command() -> None:
    """`archsearch space schema`."""
    from search_space.space_file import space_schema

    print_json(space_schema())
