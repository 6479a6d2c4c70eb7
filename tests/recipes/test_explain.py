"""The command explain: what is printed and drawn, and that the name goes nowhere else."""

import logging
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from commands import CANARY, Command, commands_of, complaint

from charrnn import cli
from charrnn.errors import ConfigError
from charrnn.recipes.explain import Explained, explain, figure_of
from charrnn.recipes.requests import ExplainRequest
from charrnn.scoring.explain import Explanation, LeftOut, Term

FOUND = Explanation(
    symbols="^»김$",
    ranked=(("Korean", 0.75), ("<b>&$x$", 0.125)),
    log_odds=1.79,
    ngrams=tuple(Term(f"^{i}김", (-1) ** i * (2 - i / 10)) for i in range(14)),
    recurrence=-0.5,
    bias=0.25,
    lists=0.0,
    characters=(LeftOut("김", 0.75, "Korean", 0.5), LeftOut("$", -0.25, "<b>&$x$", 0.5)),
)


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], working_folder: Path
) -> Command:
    return commands_of(cli.console(), monkeypatch, capsys, lambda app: cli.run(app, sys.argv[1:]))


def test_explain_prints_terms_and_characters(command: Command, models: Path) -> None:
    code, out, error = command("explain", "Katoro", "--model", "v0001", "--models", models)
    lines = out.splitlines()
    assert (code, error) == (0, "")
    assert lines[0] == "name        ^katoro$"
    assert [line.split()[0] for line in lines if line.startswith("  ")][-6:] == list("katoro")
    terms = [line.split()[-1] for line in lines if line.startswith("  ")][:-6]
    assert f"{sum(map(float, terms)):+.1f}" == f"{float(lines[2].split()[1]):+.1f}"


def test_small_n_grams_are_one_line_and_the_lines_add_up() -> None:
    lines = Explained(FOUND, Path("why.svg")).lines()
    assert lines[2] == "log-odds    +1.79 for Korean against <b>&$x$, the sum of"
    assert sum("김" in line for line in lines) == 1 + 10 + 1
    assert "  4 other n-grams       +0.20" in lines
    assert lines[-2] == "  $                     -0.25  <b>&$x$ 0.500"
    assert lines[-1] == "figure      why.svg"


def test_the_figure_is_one_svg_that_follows_the_theme_and_fetches_nothing() -> None:
    content = figure_of(FOUND)
    root = ET.fromstring(content)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "<b>" in root.attrib["aria-label"]
    text = content.decode()
    assert "prefers-color-scheme: dark" in text
    assert text.count("http") == 1, "the namespace"
    assert "url(" not in text
    assert "<script" not in text
    assert content == figure_of(FOUND)


def test_the_name_is_shown_to_who_typed_it_and_nowhere_else(
    command: Command, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    options = ("--model", "v0001", "--models", models)
    code, out, error = command("explain", CANARY, *options, "--figure", "why.svg")
    assert (code, error) == (0, "")
    assert CANARY.lower() in out
    unread = f"{CANARY}{'я' * 20}"
    code, out, error = command("explain", unread, *options)
    assert "no answer (unknown_script)" in complaint(code, 65, error)
    assert CANARY not in out
    messages = "".join(record.getMessage() for record in caplog.records)
    assert CANARY.lower() not in messages.lower()
    assert [path.name for path in Path().iterdir()] == ["why.svg"]


def test_a_given_name_needs_a_model_that_knows_them(command: Command, models: Path) -> None:
    arguments = ("explain", CANARY, "--part", "given", "--model", "v0001", "--models", models)
    code, _, error = command(*arguments)
    assert "knows surnames only" in complaint(code, 64, error)
    assert "(--part)" in error


def test_a_figure_that_is_no_svg_is_refused_before_the_model_is_loaded() -> None:
    with pytest.raises(ConfigError, match=r"ends in \.svg") as refused:
        explain(ExplainRequest(name=CANARY, model="nowhere", figure=Path(f"{CANARY}.png")))
    assert refused.value.option == "figure"
    assert CANARY not in str(refused.value)


def test_what_the_training_names_change_is_shown_where_they_do() -> None:
    lines = Explained(replace(FOUND, lists=0.75), None).lines()
    assert "  training names        +0.75" in lines
    assert not any("training names" in line for line in Explained(FOUND, None).lines())
