"""Commands about search spaces."""

from __future__ import annotations

from operator import itemgetter

from archsearch.cli.output import code_text, console, count, one_of, print_json, print_list, print_table


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


def list_command(*, output_format: str = "table") -> None:
    """`archsearch space list`; `total_params` is None where a space sets no target."""
    from search_space.space_file import load_space, space_names

    spaces = [load_space(name) for name in space_names()]
    rows = [
        {
            "name": space.name,
            "mixers": list(space.mixers),
            "total_params": space.constraints.total_params,
            "description": space.description,
        }
        for space in spaces
    ]
    columns = {"space": itemgetter("name"), "what it is": itemgetter("description")}
    print_list(rows, columns, output_format)


def schema_command() -> None:
    """`archsearch space schema`."""
    from search_space.space_file import space_schema

    print_json(space_schema())
