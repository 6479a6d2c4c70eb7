"""The command ``charrnn``: every recipe about scoring, end to end, without Prefect."""

import json
import signal
import subprocess
import sys
import threading
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import unquote

import polars as pl
import pytest
from commands import CANARY, Command, commands_of, complaint
from flat import score as score_flow
from pages import checked

import charrnn
from charrnn import cli
from charrnn.errors import ConfigError
from charrnn.model.version import ModelVersion, save_version, set_alias
from charrnn.recipes import requests
from charrnn.recipes.requests import CompareRequest, InboxRequest, ScoreRequest
from charrnn.recipes.runner import Runner
from charrnn.recipes.score import score
from charrnn.runs.manifest import read_comparison, read_run
from charrnn.runs.verify import verify_run
from charrnn.scoring.options import PrivacyOptions
from charrnn.scoring.scorer import Scorer

ROOT = Path(__file__).parents[1]
V1 = ("--model", "v0001", "--workers", "1")
LATEST = Path("outputs/predictions/people/latest")


@pytest.fixture(autouse=True)
def _folder(users_folder: Path, tiny_version: ModelVersion) -> None:
    """A folder with two models, a table and an inbox."""
    save_version(Path("outputs/models"), replace(tiny_version, temperature=0.9))
    set_alias(Path("outputs/models"), "champion", "v0001")
    set_alias(Path("outputs/models"), "candidate", "v0002")
    Path("people.csv").write_text(f"id,name\n1,{CANARY}\n2,\n3,Burghof\n")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_of(cli.console(), monkeypatch, capsys, lambda app: cli.run(app, sys.argv[1:]))


# --- what goes right ----------------------------------------------------------------------------


def test_score_publishes_a_run_and_says_where_it_is(command: Command) -> None:
    code, out, error = command("score", "people.csv", *V1)
    assert (code, error) == (0, "")
    assert "rows        3: 2 scored, 0 abstained, 1 unscored (null_name 1)" in out
    assert f"result      {LATEST.parent / LATEST.readlink()}" in out
    assert CANARY not in out
    assert verify_run(LATEST).rows == 3
    assert not read_run(LATEST).tracked


def test_families_are_columns_of_the_run_and_of_its_csv(command: Command) -> None:
    assert command("score", "people.csv", *V1)[0] == 0
    code, out, error = command("score", "people.csv", *V1, "--families", "-o", "scored.csv")
    assert (code, error) == (0, "")
    assert "nothing to do" not in out, "families are part of the fingerprint"
    rows = pl.read_csv("scored.csv").to_dicts()
    assert [row["family"] == row["language"] for row in rows] == [True] * 3  # invented labels
    assert rows[0]["family_confidence"] == rows[0]["confidence"]
    assert rows[1]["family_confidence"] is None
    assert read_run(LATEST).options.scoring.families


def test_head_prints_rows_of_the_result(command: Command) -> None:
    code, out, _ = command("score", "people.csv", *V1, "--head", "1")
    assert code == 0
    assert CANARY in out
    assert "Burghof" not in out


def test_the_command_and_the_flow_do_the_same_work(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    command("score", "people.csv", *V1)
    before = LATEST.readlink()
    score_flow("people.csv", model="v0001", workers=1)
    assert "nothing to do" in capsys.readouterr().out
    assert LATEST.readlink() == before


def test_verify_proves_a_run_and_finds_what_changed(command: Command) -> None:
    command("score", "people.csv", *V1)
    assert command("verify", LATEST) == (0, f"{LATEST} is whole: 3 rows in 1 parts\n", "")
    (LATEST / "report.html").write_text("x")
    code, _, error = command("verify", LATEST)
    assert "report.html has changed" in complaint(code, 65, error)


def test_monitor_draws_a_page(command: Command) -> None:
    command("score", "people.csv", *V1)
    command("challenge", "people.csv", "--workers", "1")
    command("shares", LATEST)
    command("review", LATEST)
    code, out, error = command("monitor")
    assert code == 0, error
    assert "predictions/people   1 runs, the last run=2" in out
    assert "page                 outputs/index.html" in out
    text, elements = checked(Path("outputs/index.html").read_bytes(), links=True)
    for heading in ("Runs and models", "Comparisons of models", "people", "pretrained-tiny",
                    "Shares by group", "Names to look at"):  # fmt: skip
        assert heading in text
    links = [Path("outputs") / unquote(str(a["href"])) for tag, a in elements if tag == "a"]
    assert len(links) == 4  # a run, a comparison, shares and a review; these models have no report
    assert all(link.is_file() for link in links)


def test_challenge_says_what_would_change(command: Command) -> None:
    code, out, error = command("challenge", "people.csv", "--workers", "1", "--flips")
    assert (code, error) == (0, "")
    assert "compared    3 of 3 rows, 2 with a language from both v0001 and v0002" in out
    assert CANARY not in out
    run = Path("outputs/comparisons/people/latest")
    assert read_comparison(run).compared == 3
    assert "nothing to do" in command("challenge", "people.csv", "--workers", "1", "--flips")[1]


def test_purge_lists_first_and_removes_when_told(command: Command) -> None:
    command("score", "people.csv", *V1)
    run = LATEST.resolve()
    assert command("purge", "--older-than", "0", "--yes")[1].splitlines() == [
        "kept        1 runs, each the newest of its destination (--newest)",
        "removed     0 runs, 0.0 MB",
    ]
    code, out, _ = command("purge", "--older-than", "0", "--newest")
    assert code == 0
    assert "would go    1 runs; --yes removes them" in out
    assert run.is_dir()
    code, out, _ = command("purge", "--older-than", "0", "--yes", "--newest")
    assert code == 0
    assert "removed     1 runs" in out
    assert not run.exists()


def test_inbox_scores_what_is_new(command: Command) -> None:
    Path("data/inbox").mkdir(parents=True)
    Path("data/inbox/a.csv").write_text(f"id;name\n1;{CANARY}\n")
    options = ("inbox", "--settle-seconds", "0", "--delimiter", ";", "--workers", "1")
    code, out, error = command(*options)
    assert (code, error) == (0, "")
    assert "a.csv                     scored: outputs/predictions/a/runs/run=2" in out
    assert CANARY not in out
    code, out, _ = command(*options)
    assert (code, out) == (0, "a.csv                     already scored\n")


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(command: Command) -> None:
    dry = ("score", "people.csv", *V1, "--dry-run")
    code, out, error = command(*dry)
    assert (code, error) == (0, "")
    for line in (
        "files       1, 0.0 MB",
        "rows        3",
        "partitions  1",
        "columns     language, ",
    ):
        assert f"\n{line}" in out
    assert CANARY not in out
    assert sorted(path.name for path in Path("outputs").iterdir()) == ["models"]
    command("score", "people.csv", *V1)
    found = json.loads(command(*dry, "--json", "--quiet")[1])
    assert found["published"] == str(LATEST.parent / LATEST.readlink())
    assert "column 'nmae' not found" in complaint(*_refused(command(*dry, "--name-column", "nmae")))


def _refused(answer: tuple[int, str, str]) -> tuple[int, int, str]:
    return answer[0], 65, answer[2]


def test_json_is_one_document_and_quiet_says_nothing_else(command: Command) -> None:
    Path("data/inbox").mkdir(parents=True)
    keys = {
        ("score", "people.csv", *V1): "folder",
        ("challenge", "people.csv", "--workers", "1"): "manifest",
        ("inbox", "--settle-seconds", "0"): "outcomes",
        ("monitor",): "page",
        ("verify", str(LATEST)): "rows",
        ("shares", str(LATEST), "--by", "id"): "groups",
        ("purge", "--older-than", "0"): "newest",
        ("models",): "versions",
        ("explain", "Katoro", "--model", "v0001"): "explanation",
        ("rollback", "champion"): "",
    }
    for arguments, key in keys.items():
        code, out, error = command(*arguments, "--json", "--quiet")
        if key:
            assert (code, error) == (0, ""), arguments
            assert key in json.loads(out)
        else:
            assert complaint(code, 78, error)
            assert out == "", "a command that fails has no result"
        assert CANARY not in out
    assert command("verify", LATEST, "--json")[2] == f"{LATEST} is whole: 3 rows in 1 parts\n"


def test_structured_lines_are_objects_with_steps_and_exit_codes(command: Command) -> None:
    _, out, error = command("score", "people.csv", *V1, "--log-format", "json")
    lines = [json.loads(line) for line in error.splitlines()]
    steps = ["fetch", "plan", "settle prior", "score partitions", "publish"]
    assert [line["step"] for line in lines if "seconds" in line] == steps
    assert "rows        3: 2 scored" in out
    code, _, error = command("score", "nope.csv", "--log-format", "json", "--quiet")
    line = json.loads(error)
    assert (code, line["level"], line["exit_code"]) == (66, "error", 66)
    for name in cli.COMMANDS:  # what is wrong with a command line is said alike
        for words in (("--log-format", "json", "--no-such"), ("--no-such", "--log-format=json")):
            code, out, error = command(name, "a", "b", *words)
            line = json.loads(error)
            assert (code, out, line["level"], line["exit_code"]) == (2, "", "error", 2)
    error = command("score", "people.csv", "--top-k", "0", "--log-format", "json")[2]
    assert json.loads(error)["option"] == "top_k"


def test_doctor_says_what_is_wrong_and_how_to_put_it_right(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases = {"prefect": "3.8.8", "fastapi": "0.150.0", "sqlalchemy": "2.0.58"}
    monkeypatch.setattr("charrnn.recipes.doctor._release", lambda name: releases.get(name, ""))
    code, out, error = command("doctor", "--model", "v0001")
    assert (code, error) == (0, "")
    assert [line.split()[1] for line in out.splitlines()] == ["ok"] * 9
    assert not list(Path().rglob(".doctor-*"))
    releases["sqlalchemy"] = "2.1.0"
    code, out, error = command("doctor", "--model", "v0099")
    assert "2 of 9 checks found a problem" in complaint(code, 64, error)
    assert "run: pip install 'sqlalchemy<2.1'" in out
    assert "v0099" in out.splitlines()[-1]


def test_version_is_printed(command: Command) -> None:
    assert command("--version") == (0, f"{charrnn.__version__}\n", "")


@pytest.mark.parametrize("option", ["csv", "compute"])
def test_all_that_read_a_table_take_the_same_options(option: str) -> None:
    groups = [get_type_hints(r)[option] for r in (ScoreRequest, InboxRequest, CompareRequest)]
    assert groups == [groups[0]] * 3


def test_challenge_and_inbox_read_tables_as_score_does(command: Command) -> None:
    Path("data/inbox").mkdir(parents=True)
    for path in ("people.csv", "data/inbox/people.csv"):
        Path(path).write_bytes("id|name\n1|'Kat|oro'\n2|Hofé\n".encode("cp1252"))
    reading = ("--delimiter", "|", "--encoding", "cp1252", "--quote", "'", "--workers", "1")
    for arguments in (
        ("score", "people.csv", "-o", "direct", "--model", "champion"),
        ("challenge", "people.csv"),
        ("inbox", "--settle-seconds", "0"),
    ):
        code, _, error = command(*arguments, *reading)
        assert code == 0, error
    for run in ("direct/latest", "outputs/predictions/people/latest"):
        assert pl.read_parquet(f"{run}/rows")["name"].to_list() == ["Kat|oro", "Hofé"]
    assert read_comparison(Path("outputs/comparisons/people/latest")).rows == 2


# --- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("score",),
        ("score", "people.csv", "--no-such-flag"),
        ("score", "people.csv", "--top-k", "many"),
        ("score", "people.csv", "--names", "nonsense"),
        ("score", "people.csv", "other.csv"),
        ("purge",),
        ("verify",),
    ],
    ids=" ".join,
)
def test_wrong_command_line_exits_2(command: Command, arguments: tuple[str, ...]) -> None:
    code, out, error = command(*arguments)
    assert out == ""
    assert complaint(code, 2, error).endswith(" (see --help)")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("score", "people.csv", "--top-k", "0"), "--top-k"),
        (("score", "people.csv", "--min-confidence", "7"), "--min-confidence"),
        (("score", "people.csv", "--coverage-target", "1"), "--coverage-target"),
        (("score", "people.csv", "--workers", "0"), "--workers"),
        (("score", "people.csv", "--batch-size", "0"), "--batch-size"),
        (("score", "people.csv", "--partition-rows", "0"), "--partition-rows"),
        (("score", "people.csv", "--names", "hash"), "environment variable CHARRNN_NAME_KEY"),
        (("score", "people.csv", "-o", "s3://bucket/people.csv"), "--output"),
        (("challenge", "people.csv", "--sample", "-1"), "--sample"),
        (("challenge", "people.csv", "--engine", "ray"), "--engine"),
        (("challenge", "people.csv", "--challenger", "v0001"), "--challenger"),
        (("challenge", "people.csv", "-o", "changes.csv"), "--output"),
        (("challenge", "people.csv", "-o", "s3://bucket/changes"), "--output"),
        (("inbox", "--settle-seconds", "-1"), "--settle-seconds"),
        (("monitor", "--last", "0"), "--last"),
        (("purge", "--older-than", "-1"), "--older-than"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_option_that_makes_no_sense_exits_64_and_is_named(
    command: Command, arguments: tuple[str, ...], option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cli.KEY_VARIABLE, raising=False)
    code, _, error = command(*arguments)
    assert complaint(code, 64, error).endswith(f" ({option})")


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (("people.csv",), "To score it: charrnn score people.csv"),
        (("score", "others.csv", *V1), "did you mean 'Surname'? (--name-column)"),
        (("score", "people.xlsx"), "save the sheet as CSV"),
        (("score", "people.csv", "--model", "v9"), "train one, or choose one; existing: "),
        (("score", "Katoro"), "a table is a file, a folder or a glob"),
        (("verify", "people"), "such as outputs/predictions/people"),
        (("review", "people"), "such as outputs/predictions/people"),
        (("shares", "people", "--by", "id"), "such as outputs/predictions/people"),
        (("review", "--apply", "peple.csv"), "did you mean 'people.csv'?"),
        (("train",), "run ingest first"),
        (("purge",), "--older-than needs a value: Days. (see --help)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_newcomers_mistake_is_answered_by_a_line_that_says_the_fix(
    command: Command, arguments: tuple[str, ...], fix: str
) -> None:
    Path("others.csv").write_text("id;Surname\n1;Katoro\n")
    Path("people.xlsx").write_bytes(b"PK")
    code, _, error = command(*arguments)
    assert code in (2, 65, 66, 78)
    assert fix in complaint(code, code, error)
    assert sorted(path.name for path in Path("outputs").iterdir()) == ["models"]


def test_training_without_its_extra_says_what_to_install(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charrnn.recipes.train.find_spec", lambda name: None)
    code, _, error = command("train")
    assert complaint(code, 64, error) == (
        "error: the n-gram baseline of a training needs optional packages; run: pip install "
        "'charrnn-names[train]', or leave it out (--no-baselines)"
    )


def test_a_fault_is_one_line_without_its_message(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*_: Any) -> None:
        raise KeyError(CANARY)

    monkeypatch.setattr(Scorer, "answers", faulty)
    code, _, error = command("score", "people.csv", *V1)
    assert "unexpected KeyError at " in complaint(code, 70, error)


def test_the_key_of_names_is_read_by_the_command_alone(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cli.KEY_VARIABLE, "0123456789abcdef")
    request = ScoreRequest(source="people.csv", privacy=PrivacyOptions(names="hash"))
    with pytest.raises(ConfigError, match="needs a secret key") as refused:
        score(request, Runner(now=cli.console_runner().now, holder="a test"))
    assert refused.value.option == "name_key"
    assert command("score", "people.csv", *V1, "--names", "hash")[0] == 0
    frame = pl.read_parquet(LATEST / "rows")
    assert all(name is None or len(name) == 32 for name in frame["name"])


def test_the_key_of_names_is_in_no_text_about_a_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cli.KEY_VARIABLE, "0123456789abcdef")
    assert cli.console_runner().name_key == b"0123456789abcdef"
    assert "0123456789abcdef" not in repr(cli.console_runner())


# --- signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "side"), [("score", "v0001"), ("challenge", "v0001"), ("challenge", "v0002")]
)
@pytest.mark.parametrize(
    ("number", "expected", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
    ids=["ctrl-c", "sigterm"],
)
def test_a_stopped_command_ends_at_the_next_pass_of_its_model(
    command: Command, monkeypatch: pytest.MonkeyPatch,
    name: str, side: str, number: int, expected: int, word: str,
) -> None:  # fmt: skip
    names = "".join(f"{a}{b}ro\n" for a in "kmtsrpbd" for b in "aeiouyäö")  # one partition
    Path("people.csv").write_text(f"name\n{names}")
    passes: list[str] = []
    told: list[bool] = []
    was_told = threading.Event()
    main, check = threading.main_thread().ident, Scorer._before_pass

    def stop_at_the_second(scorer: Scorer, texts: int) -> None:
        passes.append(scorer.version.name)
        if passes.count(side) == 2:
            signal.pthread_kill(int(main or 0), number)
            told.append(scorer.stopping.wait(20))
            was_told.set()
        check(scorer, texts)

    monkeypatch.setattr(Scorer, "_before_pass", stop_at_the_second)
    code, out, error = command(
        name, "people.csv", "--model", "champion", "--workers", "1", "--batch-size", "8"
    )
    assert (code, out) == (expected, "")
    assert f"error: {word}; finished work is kept" in error
    assert was_told.wait(20), "the second pass did not come"  # its thread may end last
    assert told == [True], "nobody told the model to stop"
    assert passes.count(side) == 2, "it went on after the pass in which it was stopped"
    assert not list(Path("outputs").glob("*/people/runs/run=2*"))


# --- help ---------------------------------------------------------------------------------------

_HELP = """
import sys
from charrnn.cli import console, run
for name in sys.argv[1:]:
    try:
        run(console(), [*name.split(), "--help"])
    except SystemExit as stop:
        assert not stop.code, name
heavy = {"torch", "polars", "pyarrow", "numpy", "prefect", "pydantic", "jinja2"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_of_every_command_answers_without_heavy_imports() -> None:
    names = [name for name in cli.console() if not name.startswith("-")]
    assert {"score", "challenge", "inbox", "monitor", "verify", "purge"} <= set(names)
    done = subprocess.run(
        [sys.executable, "-c", _HELP, "", *names], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "100"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for name in names:
        assert f"Usage: charrnn {name}" in done.stdout
    assert "examples:\n  charrnn score people.csv" in done.stdout
    assert "exit codes: 0 done, 2 wrong command line" in done.stdout


@pytest.mark.parametrize(
    "record",
    [record for name, record in vars(requests).items() if name.endswith("Request")],
    ids=lambda record: record.__name__,
)
def test_every_option_of_every_record_has_a_help_and_one_name(record: type) -> None:
    options: list[str] = []
    for one in (record, *(kind for kind in get_type_hints(record).values() if is_dataclass(kind))):
        described = cli._help_of(one)  # type: ignore[arg-type]
        for field in fields(one):  # type: ignore[arg-type]
            assert described[field.name], field.name
            options += [] if is_dataclass(get_type_hints(one)[field.name]) else [field.name]
    assert len(options) == len(set(options))
