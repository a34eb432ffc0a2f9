"""`archsearch run`: from a space to a ranked table, and whatever may happen on the way."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import time

import pytest

from archsearch.sampling import SAMPLERS
from archsearch.table import NOT_WARM
from tests.e2e.conftest import TINY, Cli, Done, Watchman, nothing_twice, wait_until

ROW_NAMES = {
    "layout_id", "code", "device", "workload", "precision", "status", "reason",
    "ttft_ms", "ttft_ms_low", "ttft_ms_high",
    "prefill_tokens_per_s", "decode_ms", "decode_ms_low", "decode_ms_high", "decode_ms_p95", "decode_ms_p95_low",
    "decode_ms_p95_high", "decode_tokens_per_s", "peak_rss_mib", "weights_mib", "state_mib", "total_params",
    "embedding_params", "effective_params", "embedding_share", "bytes_sent",
}  # fmt: skip


def test_a_study_ends_in_a_ranked_table(shared: Cli, study: Done):
    lines = study.out.splitlines()
    assert {"layout", "front", "status"} <= set(lines[0].split())
    assert len(lines) == 1 + 3 + 1  # candidates and the anchor
    assert all(" ok " in line for line in lines[1:])
    assert sorted(line.split()[0] for line in lines[1:] if not line.startswith("(")) == ["1", "2", "3"]
    assert "written to runs/first" in study.err
    assert "archsearch show first" in study.err
    assert (shared.folder / "runs/first/study.db").is_file()


def test_a_study_ends_in_a_page_that_needs_nothing_else(shared: Cli, study: Done):
    assert "to look at: runs/first/report.html" in study.err
    page = (shared.folder / "runs/first/report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "The front: " in page
    done = shared(
        "report", "first", "-o", "there/p.html", "--objective", "decode_ms", "--budget", "decode_ms<=0.000001"
    )
    assert done.out == "written: there/p.html, there/p.csv, there/p.md\n"
    assert "outside the budgets" in (shared.folder / "there/p.html").read_text(encoding="utf-8")
    assert (shared.folder / "there/p.csv").read_text(encoding="utf-8").startswith("rank,front,")
    assert (shared.folder / "there/p.md").read_text(encoding="utf-8").startswith("| name | layout |")
    (shared.folder / "there/taken").mkdir()
    assert "nowhere" in shared.refused("report", "nowhere")
    assert "there/taken" in shared.refused("report", "first", "-o", "there/taken")


def test_progress_without_a_terminal_is_plain_lines(study: Done):
    assert "\x1b" not in study.err
    assert "3 candidates done, 0 left" in study.err
    assert "3 candidates are done" in study.err


def test_rows_have_the_promised_names_and_agree_with_each_other(shared: Cli, study: Done):
    rows = shared("show", "first", "--format", "json").json()
    assert len(rows) == 4
    for row in rows:
        assert set(row) >= ROW_NAMES
        assert row["status"] == "ok"
        assert row["reason"] in ("", NOT_WARM)
        for name in ("ttft_ms", "decode_ms", "decode_ms_p95"):
            assert 0 <= row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        assert row["decode_tokens_per_s"] == pytest.approx(1e3 / row["decode_ms"])
        assert row["prefill_tokens_per_s"] == pytest.approx(16e3 / row["ttft_ms"])
        assert row["effective_params"] == row["total_params"] - row["embedding_params"]
        assert row["embedding_share"] == pytest.approx(row["embedding_params"] / row["total_params"])
        assert row["total_params"] == pytest.approx(1.5e6, rel=0.03)
        assert row["weights_mib"] < row["peak_rss_mib"] < 500
        assert 0 < row["bytes_sent"] < 400_000
        assert row["precision"] == "int4"
        assert (row["workload"], row["prompt"], row["decode"], row["batch"]) == ("16/4", 16, 4, 1)


def test_a_finished_study_continues_with_nothing_to_measure(shared: Cli, study: Done):
    before = shared.measurements("first")
    shutil.copytree(shared.folder / "runs/first", shared.folder / "runs/again")
    # The copy keeps the name of the study that is inside.
    done = shared(
        "run",
        *TINY,
        "--study",
        "first",
        "--trials",
        "3",
        "--store",
        "sqlite:///runs/again/study.db",
        "--format",
        "json",
    )
    assert "continuing study first" in done.err
    assert len([row for row in done.json() if not row["anchor"]]) == 3
    from archsearch.store import Store

    with Store.open(shared.folder / "runs/again/study.db") as store:
        after = store.measurements("first")
    assert [m.job_id for m in after if m.role in ("anchor", "candidate") and not m.info.get("fresh")] == [
        m.job_id for m in before if m.role in ("anchor", "candidate") and not m.info.get("fresh")
    ]


def test_more_trials_go_on_where_it_stopped(shared: Cli, study: Done):
    shutil.copytree(shared.folder / "runs/first", shared.folder / "runs/more")
    store = "sqlite:///runs/more/study.db"
    done = shared("run", *TINY, "--study", "first", "--trials", "5", "--store", store, "--format", "json")
    candidates = [row for row in done.json() if not row["anchor"]]
    assert {row["trial"] for row in candidates} == {0, 1, 2, 3, 4}
    assert len({row["layout_id"] for row in candidates}) == 5
    from archsearch.store import Store

    with Store.open(shared.folder / "runs/more/study.db") as opened:
        nothing_twice(opened.measurements("first"))


def test_a_study_is_not_continued_with_other_settings(shared: Cli, study: Done):
    for option, value in (("--seed", "1"), ("--precision", "int8"), ("--sampler", "tpe"), ("--objective", "decode_ms")):
        said = shared.refused("run", *TINY, "--study", "first", option, value)
        assert "was begun with other settings" in said
        assert option in said


def test_settings_that_were_not_typed_come_from_the_study(shared: Cli, study: Done):
    # The defaults (space 350m, workload quick) differ from the study's and must not count.
    shutil.copytree(shared.folder / "runs/first", shared.folder / "runs/typed")
    store = "sqlite:///runs/typed/study.db"
    done = shared("run", "--study", "first", "--trials", "3", "--store", store, "--format", "json")
    assert {row["workload"] for row in done.json()} == {"16/4"}


def test_an_anchor_known_from_another_study_is_watched_before_anything_is_compared_with_it(shared: Cli):
    # Its stored run may be days old: a stretch of candidates must begin with a run of today.
    arguments = ("run", *TINY, "--trials", "1", "--store", "sqlite:///anchors.db", "--study")
    shared(*arguments, "one")
    rows = shared(*arguments, "two", "--seed", "1", "--format", "json").json()
    # Not the watch run, which is later and took no peak memory.
    assert all(row["peak_rss_mib"] and row["rank"] for row in rows)
    from archsearch.records import load_measurements
    from archsearch.store import Store

    with Store.open(shared.folder / "anchors.db") as store:
        roles = [m.role for m in load_measurements(store, "two")]
        own = [m.role for m in store.measurements("two")]
    assert roles[0] == "anchor"
    assert own[0] == "watch"
    assert own[1] == "candidate"


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "nsga2"])
def test_every_sampler_runs(shared: Cli, sampler: str):
    # One store for all: the anchor is measured by the first and known to the others.
    name = f"with-{sampler}"
    store = "sqlite:///samplers.db"
    done = shared("run", *TINY, "--study", name, "--trials", "2", "--sampler", sampler, "--store", store, "-f", "json")
    assert len([row for row in done.json() if not row["anchor"]]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--objective", "decod_ms"), "decode_ms"),
        (("--budget", "ttft<=3"), "ttft_ms"),
        (("--budget", "peak_rss_mib=3"), "NAME<=NUMBER"),
        (("--sampler", "cma"), "nsga2"),
        (("--space", "nowhere"), "350m"),
        (("--workload", "fast"), "quick"),
        (("--precision", "int3"), "int4"),
        (("--anchor", "lfm2-350m"), "lfm2.5-350m"),
        (("--across", "best"), "geomean"),
        (("--device", "phone"), "local"),
        (("--devices", "nowhere.yaml"), "nowhere.yaml"),
        (("--format", "xml"), "json"),
        (("--time-budget", "soon"), "90s"),
        (("--study", "../x"), "letters"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_made(shared: Cli, arguments: tuple[str, ...], said: str):
    names = [] if "--study" in arguments else ["--study", "refused"]
    assert said in shared.refused("run", *TINY, "--trials", "1", *names, *arguments)
    assert not (shared.folder / "runs/refused").exists()


def test_a_device_that_alone_counts_and_is_out_of_reach_is_told_before_anything_is_measured(cli: Cli):
    with (cli.folder / "devices.yaml").open("a", encoding="utf-8") as file:
        file.write("\n  - {name: b, transport: ssh, host: 127.0.0.1, port: 1, user: nobody, threads: 1}\n")
    arguments = ("run", *TINY, "--trials", "1", "--study", "lost")
    for more, hint in (
        (("--across", "b"), "mend it, or"),
        ((), "mend it, or"),
        (("--device", "local"), "enable it in"),
    ):
        said = cli.refused(*arguments, *more, code=3)
        assert said.startswith("archsearch: b alone counts (--across), and ")
        assert f"try: {hint}" in said
        assert "--across worst in another --study" in said
    assert cli.measurements("lost") == []
    done = cli("run", *TINY, "--trials", "1", "--study", "other", "--across", "worst", "--device", "local")
    assert "again: archsearch show other" in done.err


def test_an_unmet_budget_names_the_nearest_misses(shared: Cli, study: Done):
    done = shared("show", "first", "--budget", "decode_ms<=0.000001")
    assert "Nothing meets the budgets. The nearest misses:" in done.err
    assert re.search(r"misses decode_ms<=1e-06 \([\d,]+\.\dx the limit\)", done.err)
    assert len(done.out.splitlines()) == 5


@pytest.mark.parametrize("output_format", ["json", "csv", "md"])
def test_an_unmet_budget_is_said_beside_every_format(shared: Cli, study: Done, output_format: str):
    budget = ("--budget", "decode_ms<=0.000001")
    told = shared("show", "first", *budget).err.split("Nothing meets", 1)[1]
    done = shared("show", "first", *budget, "--format", output_format)
    assert done.err == f"Nothing meets{told}"
    assert "Nothing meets" not in done.out
    if output_format == "json":
        assert all(row["violation"] > 1000 for row in done.json() if not row["anchor"])


def test_a_run_in_which_nothing_met_the_budgets_says_so(shared: Cli, study: Done):
    shutil.copytree(shared.folder / "runs/first", shared.folder / "runs/unmet")
    store = "sqlite:///runs/unmet/study.db"
    with sqlite3.connect(shared.folder / "runs/unmet/study.db") as database:
        database.execute("""UPDATE studies SET config = json_set(config, '$.budgets', json('["decode_ms<=1e-06"]'))""")
    database.close()
    done = shared("run", *TINY, "--study", "first", "--trials", "3", "--store", store, "--format", "json")
    assert "Nothing meets the budgets. The nearest misses:" in done.err
    assert len(done.json()) == 4


def test_a_budget_that_the_weights_alone_exceed_needs_no_run(cli: Cli):
    done = cli("run", *TINY, "--study", "small", "--trials", "2", "--budget", "weights_mib<=0.25", "--format", "json")
    rows = [row for row in done.json() if not row["anchor"]]
    assert [row["status"] for row in rows] == ["infeasible"] * 2
    assert all(
        re.search(r"its weights alone are \d\.\d\d MiB, and the budget is weights_mib<=0.25", r["reason"]) for r in rows
    )
    assert all(row["decode_ms"] is None and row["bytes_sent"] == 0 for row in rows)
    assert all(row["weights_mib"] > 0.25 for row in rows)


# What runs away


def test_a_candidate_that_times_out_is_a_result(cli: Cli):
    cli.devices("timeout_s: 0.02")
    done = cli("run", *TINY, "--study", "slow", "--trials", "2", "--format", "json", code=5)
    rows = done.json()
    assert [row["status"] for row in rows] == ["timeout"] * 3
    assert all("0.02" in row["reason"] for row in rows)
    assert all(row["decode_ms"] is None and row["peak_rss_mib"] is None for row in rows)


def test_a_candidate_above_the_memory_limit_is_a_result(cli: Cli):
    cli.devices("memory_limit_mib: 16")
    rows = cli("run", *TINY, "--study", "big", "--trials", "2", "--format", "json", code=5).json()
    assert [row["status"] for row in rows] == ["out_of_memory"] * 3
    assert all("16 MiB" in row["reason"] for row in rows)


def test_a_job_whose_agent_is_killed_is_run_again(cli: Cli):
    process = cli.start("run", *TINY, "--study", "killed", "--trials", "3", "--format", "json")

    def candidate() -> int | None:  # job ids begin with the label, and candidates' labels with their number
        return next((pid for job, state, pid in cli.jobs() if job[0].isdigit() and state == "timing"), None)

    os.kill(wait_until(candidate), signal.SIGKILL)
    done = cli.finish(process)
    rows = [row for row in done.json() if not row["anchor"]]
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert done.err.count("ended without a result; it is run again") == 1
    nothing_twice(cli.measurements("killed"))
    wait_until(lambda: not cli.processes())
    assert not cli.jobs()  # its folder is cleared away


def test_a_device_whose_agents_die_is_left_out(cli: Cli):
    process = cli.start("run", *TINY, "--study", "dying", "--trials", "9", "--format", "json")
    killed: set[int] = set()

    def kill_candidates() -> bool:
        for job, state, pid in cli.jobs():
            if job[0].isdigit() and state == "timing" and pid not in killed:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
        return process.poll() is not None

    wait_until(kill_candidates, 100)
    done = cli.finish(process, code=None)
    assert len(killed) == 6, "two candidates, each three times"
    assert "local is left out from now on: its agent failed 2 tasks in a row" in done.err
    assert "local lacks 1 candidates" not in done.err
    rows = [row for row in done.json() if not row["anchor"]]
    assert [row["status"] for row in rows] == ["failed"] * 2
    nothing_twice(cli.measurements("dying"))


# Stopping and going on


def test_ctrl_c_tells_what_is_saved_and_leaves_no_process(cli: Cli):
    process = cli.start("run", *TINY, "--study", "stopped", "--trials", "50")
    wait_until(lambda: any(job[0].isdigit() and state == "timing" for job, state, _ in cli.jobs()))
    process.send_signal(signal.SIGINT)
    done = cli.finish(process, code=130, timeout=30)
    assert "stopped by you; everything measured so far is saved" in done.err
    assert "archsearch run --study stopped" in done.err
    assert "CCGCG" in done.out  # the anchor, at least
    wait_until(lambda: not cli.processes(), 10)
    assert cli.jobs() == []
    with cli.store("stopped") as store:
        kept = store.measurements("stopped")
    assert kept
    assert all(record.status != "cancelled" for record in kept)


def test_a_second_ctrl_c_stops_at_once_and_says_so(cli: Cli):
    process = cli.start("run", *TINY, "--study", "stopped", "--trials", "50")
    wait_until(lambda: any(state == "timing" for _, state, _ in cli.jobs()))
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    done = cli.finish(process, code=130, timeout=30)
    said = [line for line in done.err.splitlines() if line.startswith("archsearch: ")]
    assert said == [
        "archsearch: stopping, once more stops at once",
        "archsearch: stopped at once; everything measured so far is saved",
    ]
    wait_until(lambda: not cli.processes())


def test_a_killed_run_goes_on_where_it_was(cli: Cli):
    moments = random.Random(7)
    arguments = ("run", *TINY, "--study", "hit", "--trials", "4", "--format", "json")
    for _ in range(4):
        process = cli.start(*arguments)
        time.sleep(2.0 + 2.5 * moments.random())
        process.kill()
        process.communicate()
    rows = [row for row in cli(*arguments).json() if not row["anchor"]]
    assert {row["trial"] for row in rows} == {0, 1, 2, 3}
    assert len({row["layout_id"] for row in rows}) == 4
    assert {row["status"] for row in rows} == {"ok"}, [(r["trial"], r["status"], r["reason"]) for r in rows]
    nothing_twice(cli.measurements("hit"))
    with cli.store("hit") as store:
        assert {trial.state for trial in store.trials("hit")} == {"done"}
    wait_until(lambda: not cli.processes())
    assert cli.jobs() == []


def break_down_adds_up(cli: Cli, study: str) -> bool:
    """Whether the phases of all runs fill their time, and no more than that."""
    report = cli("show", study, "--timing", "--format", "json").json()
    spent = sum(report["agent"].values()) + sum(report["driver"].values()) + report["rest_s"]
    assert report["wall_s"] <= report["device_s"] * 1.001
    assert report["rest_s"] > 0
    assert spent == pytest.approx(report["device_s"])
    return True


def test_a_job_in_flight_is_found_again(cli: Cli):
    arguments = ("run", *TINY, "--study", "found", "--trials", "1", "--format", "json")
    process = cli.start(*arguments)
    job = wait_until(lambda: next((job for job, state, _ in cli.jobs() if state == "timing"), None))
    process.kill()
    process.communicate()
    cli(*arguments)
    records = cli.measurements("found")
    assert job in {record.job_id for record in records}
    assert break_down_adds_up(cli, "found")
    # What the found job had checked on the device is known: no later job checks it again.
    checked = [check["name"] for record in records for check in json.loads(record.result or b"{}").get("checks", [])]
    assert checked
    assert len(checked) == len(set(checked))


def test_two_runs_of_one_study_share_the_work(cli: Cli):
    arguments = ("run", *TINY, "--study", "both", "--trials", "4", "--format", "json")
    with Watchman(cli) as watchman:
        processes = [cli.start(*arguments) for _ in range(2)]
        for process in processes:
            cli.finish(process)
    assert watchman.together == set()
    nothing_twice(cli.measurements("both"))
    rows = [row for row in cli("show", "both", "--format", "json").json() if not row["anchor"]]
    assert len({row["layout_id"] for row in rows}) == len(rows) >= 4
    assert break_down_adds_up(cli, "both")
    assert "summed over 2 runs" in cli("show", "both", "--timing").out


def test_two_studies_on_one_device_take_turns(cli: Cli):
    with Watchman(cli) as watchman:
        processes = [
            cli.start("run", *TINY, "--study", f"s{seed}", "--trials", "2", "--seed", str(seed)) for seed in (1, 2)
        ]
        for process in processes:
            cli.finish(process)
    assert watchman.together == set()
    for name in ("s1", "s2"):
        statuses = {m.status for m in cli.measurements(name)}
        assert statuses == {"ok"}, name
