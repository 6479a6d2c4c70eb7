"""What others named is shown escaped, wherever it is shown."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import Command, commands_of
from recording import Proof

from charrnn import cli
from charrnn.errors import CharrnnError, DataError, printable
from charrnn.reports.page import environment
from flows import tracking

TITLE = "\x1b]0;owned\x07"
NASTY = [TITLE, "\r\n", "\x9b31m", "\u202e", "\u2066", "\u2069", "\x00", "\x7f", "\u2028", "\ufeff",
         "\udcff", "\U000e0041"]  # fmt: skip
ACTED_ON = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_what_is_acted_on_is_escaped(text: str) -> None:
    shown = printable(f"a{text}b")
    assert shown.isprintable()
    assert shown.startswith("a\\")
    assert printable(shown) == shown
    assert str(CharrnnError(f"a{text}b")) == shown


@pytest.mark.parametrize("text", ["Nguyễn", "محمد", "می‌خواهم", "👩‍🔬", "名前", "a\u00a0b", "\\x1b"])
def test_what_is_text_stays(text: str) -> None:
    assert printable(text) == text


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
            users_folder: Path) -> Command:  # fmt: skip
    return commands_of(cli.console(), monkeypatch, capsys, lambda app: cli.run(app, sys.argv[1:]))


def shown_by(command: Command, *arguments: str) -> str:
    code, out, error = command(*arguments)
    assert code != 70, error
    assert ACTED_ON.search(out + error) is None
    return out + error


def test_names_of_files_and_columns_reach_no_terminal(command: Command, proof: Proof) -> None:
    file, column = f"a{TITLE}\u202e.csv", f"c{TITLE}"
    Path(file).write_text(f'"{column}",name\n1{TITLE},Katoro{TITLE}\u202e\n')
    model = ("--model", "v0001", "--workers", "1")
    assert "owned" in shown_by(command, "score", file, *model, "--head", "1")
    shown_by(command, "score", file, *model, "--name-column", "x")
    assert "owned" in shown_by(command, "score", f"b{TITLE}.csv", *model)
    assert "owned" in shown_by(command, "score", file, "-o", f"o{TITLE}.csv", *model)
    assert "owned" in shown_by(command, "score", file, f"--opt{TITLE}")
    assert "owned" in shown_by(command, f"sc{TITLE}")
    Path("data/inbox").mkdir(parents=True)
    Path("data/inbox", file).write_text("name\nKatoro\n")
    Path("data/inbox", f"x{TITLE}.csv").write_text("nom\nKatoro\n")
    assert "owned" in shown_by(command, "inbox", "--settle-seconds", "0", "--model", "v0001")
    shown_by(command, "monitor")
    pages = [*Path("outputs").rglob("*.html"), *Path("outputs").rglob("*.md")]
    assert pages
    for page in pages:
        assert ACTED_ON.search(page.read_text()) is None
    proof("P12", "control characters in names of files and columns: none shown", 9)


@pytest.mark.parametrize("suffix", ["html", "md"])
def test_a_report_escapes_values_at_one_door(suffix: Any) -> None:
    page = environment(suffix).from_string("{{ value }}").render(value=f"a{TITLE}\u202e")
    assert ACTED_ON.search(page) is None
    assert "owned" in page


def test_artifacts_logs_and_names_of_flow_runs_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    logger = SimpleNamespace(
        **dict.fromkeys(("warning", "error", "log"), lambda *a: sent.append(a))
    )
    monkeypatch.setattr(tracking, "TRACKED", True)
    for kind in ("markdown", "table", "link"):
        monkeypatch.setattr(f"prefect.artifacts.create_{kind}_artifact", lambda **a: sent.append(a))
    monkeypatch.setattr("prefect.get_run_logger", lambda: logger)
    monkeypatch.setattr("prefect.logging.loggers.flow_run_logger", lambda *a: logger)
    parameters = {"source": f"d/{TITLE}.csv"}
    monkeypatch.setattr("prefect.runtime.flow_run", SimpleNamespace(parameters=parameters))
    tracking.note("key", f"line\n{TITLE}", "description")
    tracking.attach("table", "key", "description", table=[{"file": TITLE}])
    tracking.attach("link", "key", "description", link_text=TITLE)
    tracking.warn(TITLE)
    state = SimpleNamespace(name="Failed", message=TITLE, is_crashed=lambda: False)
    tracking._say_how_to_go_on(None, None, state)
    sent.append(tracking.run_named("score", "source")())
    assert len(sent) == 6
    for text in map(str, sent):
        assert "owned" in text
        assert "\x1b" not in text
    assert sent[0]["markdown"].count("\n") == 1


def test_a_terminal_that_lacks_a_character_gets_it_escaped(tmp_path: Path) -> None:
    program = "from charrnn import cli; cli.show(['Nguyễn \\udcff']); cli.complain('名')"
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, env=environment
    )
    assert done.stdout == b"Nguy\\u1ec5n \\xff\n"
    assert done.stderr == b"error: \\u540d\n"


def test_a_message_of_data_is_one_line() -> None:
    assert "\n" not in str(DataError("a file called x\ny.csv"))
