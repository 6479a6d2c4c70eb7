"""What the README says exists: options, files, modules."""

import ast
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_option_in_the_readme_is_an_option_of_a_flow() -> None:
    sources = [
        p.read_text() for folder in ("flows", "tests") for p in (ROOT / folder).rglob("*.py")
    ]
    known = set(re.findall(r'"(--[a-z][a-z-]+)"', "".join(sources)))
    for path in (ROOT / "flows").glob("*.py"):  # cyclopts makes an option of every parameter
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.arguments):
                parameters = (*node.args, *node.kwonlyargs)
                known |= {"--" + parameter.arg.replace("_", "-") for parameter in parameters}
    foreign = {"--check", "--host", "--port", "--type", "--no-prompt", "--all", "--pool"}
    foreign |= {"--param", "--watch", "--from-file", "--limit"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - foreign
    assert named
    assert sorted(named - known) == []


def documented_commands() -> list[tuple[str, str]]:
    """Return the flow and the arguments of every command that the documentation shows."""
    pages = [README, *(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))]
    text = "\n".join(pages).replace("\\\n", " ")
    return sorted(set(re.findall(r"python flows/(\w+)\.py *([^`\n#|;)&]*)", text)))


@pytest.mark.parametrize(("flow", "arguments"), documented_commands())
def test_every_command_in_the_documentation_can_be_given(flow: str, arguments: str) -> None:
    module = importlib.import_module(f"flows.{flow}")
    if flow == "deployments":
        assert not arguments
        return
    without_head = re.sub(r"--head \d+", "", arguments)  # the one option that is not the flow's
    module.app.parse_args(shlex.split(without_head), exit_on_error=False, print_error=False)


def test_every_module_has_its_line_in_the_readme() -> None:
    modules = {p.name for p in (ROOT / "charrnn").glob("*.py")} - {"__init__.py"}
    flows = {p.name for p in (ROOT / "flows").glob("*.py")} - {"__init__.py"}
    assert [name for name in sorted(modules | flows) if f"`{name}`" not in README] == []


def test_the_table_of_guarantees_is_that_of_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests/faults")
    from table import RECORD, missing, shown, table

    proofs = json.loads(RECORD.read_text())
    assert shown(README) == table(proofs)
    assert [proof for proof in proofs if proof["lost"]] == []
    assert missing(proofs) == set()


@pytest.mark.parametrize("command", ["score", "test"])
def test_the_two_commands_are_where_ci_looks_for_them(command: str) -> None:
    assert re.search(rf"<!-- command: {command} -->\n```sh\n[^`]+\n```\n", README)
    assert f"readme {command}" in (ROOT / ".ci/run").read_text()


def test_every_reason_is_explained() -> None:
    from charrnn.scoring.options import REASONS, STATUSES

    assert [word for word in (*REASONS[1:], *STATUSES) if f"`{word}`" not in README] == []


def test_the_example_scores_as_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flat import score

    monkeypatch.chdir(tmp_path)
    score(str(ROOT / "data/example.csv"))
    printed = capsys.readouterr().out.splitlines()
    shown = [
        line for line in README.splitlines() if re.match(r"(rows|languages|confidence) {2}", line)
    ]
    assert len(shown) == 3
    assert printed[:3] == shown
