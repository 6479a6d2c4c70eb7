"""Every option of every command, with values that no run can have: refused in words, by name."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from cases.trial import inside, run_command
from commands import Command, commands_of
from cyclopts import App
from recording import Proof

import flows.challenge
import flows.inbox
import flows.ingest
import flows.monitor
import flows.pipeline
import flows.score
import flows.train
from charrnn import cli
from charrnn.errors import ConfigError

ROOT = Path(__file__).parents[1]
APPS = {"charrnn": cli.console()} | {
    name: getattr(flows, name).app
    for name in ("challenge", "inbox", "ingest", "monitor", "pipeline", "score", "train")
}
# The options of all commands are parsed alike: the longer list is for one of them.
SENSELESS = ("-1", "nan", "inf", "text", "", "1e309", "-inf", "9" * 30, "0x", "1_0_")


def commands_in(app: App) -> list[tuple[str, ...]]:
    return [(name,) for name in app if not name.startswith("-")] + (
        [()] if app.default_command else []
    )


def kinds_of(annotation: Any) -> set[Any]:
    inner = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return {inner, *get_args(inner)}


@pytest.fixture(autouse=True)
def _folder(working_folder: Path) -> None:
    Path("in.csv").write_text("id,name\n1,Katoro\n")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_of(APPS["charrnn"], monkeypatch, capsys, lambda app: cli.run(app, sys.argv[1:]))


@pytest.mark.parametrize("program", APPS)
def test_numbers_that_make_no_sense_are_refused(
    program: str, command: Command, proof: Proof
) -> None:
    app, tried = APPS[program], 0
    for name in commands_in(app):
        if "--install-completion" in name:
            continue
        called = app.parse_commands(list(name))[1][-1].default_command
        parameters = called.__signature__.parameters if hasattr(called, "__signature__") else {}
        needed = [
            token
            for key, p in parameters.items()
            if p.default is p.empty
            for token in (f"--{key.replace('_', '-')}", "1")
        ]
        for key, parameter in parameters.items():
            if not {int, float} & kinds_of(parameter.annotation):
                continue
            option = f"--{key.replace('_', '-')}"
            given = [t for pair in zip(needed[::2], needed[1::2], strict=True)
                     if pair[0] != option for t in pair]  # fmt: skip
            for value in SENSELESS if program == "score" else SENSELESS[:5]:
                before = sorted(Path.cwd().rglob("*"))
                code, out, error = command(*name, *given, f"{option}={value}", app=app)
                assert code in (2, 64), (name, option, value, code, error)
                assert out == ""
                assert option in error
                assert sorted(Path.cwd().rglob("*")) == before
                tried += 1
    proof("P9", "numbers out of range in every option of every command", tried)


def test_an_error_names_no_option_that_the_command_lacks(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise ConfigError("a value is wrong", option="min_confidence")

    monkeypatch.setattr("charrnn.recipes.monitor.read_histories", refuse)
    assert command("monitor") == (64, "", "error: a value is wrong\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "in.csv", "--top-k", "1", "--top-k", "2"),
        ("score", "in.csv", "-o", "a", "--output", "b"),
        ("score", "in.csv", "--models", "a", "--models", "b"),
        ("score", "in.csv", "--no-such"),
        ("score", "in.csv", "--force=perhaps"),
        ("purge", "--older-than"),
    ],
    ids=" ".join,
)
def test_options_given_twice_or_unknown_exit_2(
    command: Command, arguments: tuple[str, ...]
) -> None:
    code, out, error = command(*arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: .+ \(see --help\)\n", error)


@pytest.mark.parametrize("option", ["model", "name-column", "device", "encoding", "quote",
                                    "max-rejected", "names", "engine", "on-drift"])  # fmt: skip
def test_an_empty_text_is_refused_where_there_must_be_one(command: Command, option: str) -> None:
    code, out, error = command("score", "in.csv", f"--{option}=")
    assert code in (2, 64, 65, 78), error
    assert out == ""


@pytest.mark.parametrize("file", sorted(p.name for p in (ROOT / "flows").glob("*.py")))
def test_every_file_in_flows_answers_help_and_refuses_the_rest(
    file: str, tmp_path: Path, command: Command
) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "flows" / file), *arguments], cwd=tmp_path, text=True,
            capture_output=True, timeout=60,
            env={"PREFECT_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    refused = run("--no-such-option")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "error: " in refused.stderr
    if file.removesuffix(".py") in APPS:
        code, out, error = command("--help", app=APPS[file.removesuffix(".py")])
    else:
        helped = run("--help")
        code, out, error = helped.returncode, helped.stdout, helped.stderr
    assert (code, error) == (0, "")
    assert out.startswith(("Usage: ", f"flows/{file} is no command"))
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize(
    "option", ["prefix", "name_column", "given_column", "device", "encoding", "delimiter"]
)
def test_text_that_is_not_unicode_is_refused(option: str, tmp_path: Path) -> None:
    """A command line hands over bytes that are not UTF-8 as halves of surrogate pairs."""
    (tmp_path / "home").mkdir()
    (tmp_path / "in.csv").write_text("name\nKatoro\n")
    with inside(tmp_path):
        flag = f"--{option.replace('_', '-')}=\udcff"
        code, out, error = run_command("score", "in.csv", "--model", "pretrained-tiny", flag)
    assert (code, out) == (64, "")
    assert f"{option} must be text, got bytes that are not UTF-8" in error
    assert not (tmp_path / "outputs").exists()
