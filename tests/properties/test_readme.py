"""What README and docs say is so: commands, options, modules, columns, tables, links."""

import doctest
import importlib
import json
import re
import shlex
from pathlib import Path

import polars as pl
import pytest
from cyclopts import App

import charrnn
from charrnn.cli import console
from charrnn.errors import CharrnnError

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCS = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES = {
    "README.md": README,
    "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text(),
    **{name: text for name, text in DOCS.items() if name != "cli.md"},  # that one is generated
}
TEXT = "\n".join(PAGES.values()).replace("\\\n", " ")


def command_lines() -> list[str]:
    """Return every command of charrnn in blocks of sh, without comments, and in code in a line."""
    code = re.findall(r"```sh\n.*?```|`[^`\n]+`", TEXT, re.S)
    shell = re.sub(r"(^|\s)#.*", "", "\n".join(code), flags=re.M)
    found = re.findall(r"(?:python flows/\w+\.py|\bcharrnn [a-z]+)[^`\n|;)&]*", shell)
    return sorted({line.strip() for line in found})


def app_of(flow: str) -> App:
    return importlib.import_module(f"flows.{flow}").app  # type: ignore[no-any-return]


@pytest.mark.parametrize("line", command_lines())
def test_every_command_in_the_documentation_can_be_given(line: str) -> None:
    program, *arguments = shlex.split(line)
    app = console()
    if program == "python":
        flow = Path(arguments.pop(0)).stem
        if flow == "deployments":
            assert not arguments
            return
        app = app_of(flow)
    elif len(arguments) == 1:  # `charrnn score` in a sentence
        assert arguments[0] in app
        return
    app.parse_args(arguments, exit_on_error=False, print_error=False)


def test_every_option_in_the_documentation_is_an_option_of_a_command() -> None:
    flows = (ROOT / "flows").glob("*.py")
    apps = [console(), *(app_of(path.stem) for path in flows if "\napp = " in path.read_text())]
    helps = [app.generate_docs(output_format="markdown") for app in apps]
    sources = [path.read_text() for path in (*(ROOT / "tests").rglob("*.py"), ROOT / ".ci/run")]
    known = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "\n".join([*helps, *sources])))
    prefect = {"--host", "--port", "--type", "--no-prompt", "--all", "--pool", "--resource-id"}
    prefect |= {"--param", "--watch", "--from-file", "--limit", "--active-slots", "--state"}
    others = {"--check", "--head", "--address", "--track"}  # sha256sum, ruff and ray; flows
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT))
    assert sorted(named - known - prefect - others) == []


def test_the_page_of_commands_is_that_of_their_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / ".ci")
    monkeypatch.setattr("sys.argv", ["charrnn"])  # otherwise the usage lines say -m pytest
    assert importlib.import_module("cli_page").page() == DOCS["cli.md"], "run .ci/cli_page.py"


def test_every_module_is_named_on_the_page_of_the_architecture() -> None:
    page = DOCS["architecture.md"]
    library = {path.stem for path in (ROOT / "charrnn").rglob("*.py")}
    flows = {path.stem for path in (ROOT / "flows").glob("*.py")}
    assert [n for n in sorted((library | flows) - {"__init__"}) if f"`{n}`" not in page] == []


def test_every_package_has_its_line_in_the_readme_and_its_page() -> None:
    for path in (ROOT / "charrnn").iterdir():
        if path.is_dir() and path.name != "__pycache__":
            assert f"`{path.name}/`" in README
            assert f"::: charrnn.{path.name}" in (ROOT / f"docs/api/{path.name}.md").read_text()


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    listed = re.findall(r"- ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(listed) == sorted(map(str, pages))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    folder = ROOT if page in ("README.md", "CONTRIBUTING.md") else ROOT / "docs"
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", PAGES[page])
    assert [x for x in links if "://" not in x and not (folder / x).exists()] == []


def test_the_table_of_guarantees_is_that_of_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests/faults")
    from table import RECORD, missing, shown, table

    proofs = json.loads(RECORD.read_text())
    assert shown(DOCS["guarantees.md"]) == table(proofs)
    assert [proof for proof in proofs if proof["lost"]] == []
    assert missing(proofs) == set()


def test_the_table_of_bars_is_that_of_the_records_and_each_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests/faults")
    from held_bars import recorded, table

    records = recorded()
    shown = DOCS["guarantees.md"].split("<!-- bars: begin -->\n\n")[1].split("\n\n<!-- bars: end")
    assert shown[0].splitlines() == table(records)
    calls, mutated, hostile = (records[name] for name in ("syscalls", "mutate", "hostile"))
    assert calls["tried"] >= 2000
    assert (calls["lost"], calls["stuck"], calls["codes"].get("70", 0)) == (0, 0, 0)
    assert mutated["cases"] >= 20_000
    assert (mutated["problems"], mutated["peak_bytes"] <= 2e9) == ([], True)
    assert max(row["large"]["memory"] for row in hostile["rows"]) <= 2e9
    assert records["cases"]["wrong"] == []


@pytest.mark.parametrize("command", ["score", "test"])
def test_the_two_commands_are_where_ci_looks_for_them(command: str) -> None:
    assert re.search(rf"<!-- command: {command} -->\n```sh\n[^`]+\n```\n", README)
    assert f"readme {command}" in (ROOT / ".ci/run").read_text()


def test_every_status_reason_and_column_is_explained() -> None:
    from charrnn.scoring.dictionary import COLUMNS, added_columns
    from charrnn.scoring.options import REASONS, STATUSES, ScoreOptions

    every = ScoreOptions(
        families=True, prior="uniform", coverage_target=0.9, details=True, probabilities=True
    )
    words = [*REASONS[1:], *STATUSES, *added_columns(every, ["LABEL"], stamp=True)]
    assert [word for word in words if f"`{word}`" not in DOCS["output.md"]] == []
    table = (f"| {c.shown} | {c.kind} | {c.when} | {c.meaning} |" for c in COLUMNS)
    assert "\n".join(table) in DOCS["output.md"]


def test_every_exit_code_is_in_the_table() -> None:
    def classes(kind: type[CharrnnError]) -> set[type[CharrnnError]]:
        return {kind}.union(*(classes(below) for below in kind.__subclasses__()))

    codes = {kind.exit_code for kind in classes(CharrnnError)} | {0, 2, 130, 143}
    rows = re.findall(r"^\| ([\d, ]+) \|", DOCS["operating.md"], re.M)
    assert {int(code) for row in rows for code in row.split(",")} == codes


def test_the_example_scores_as_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    console()(["score", str(ROOT / "data/example.csv"), "--head", "6"])
    printed = capsys.readouterr().out.splitlines()
    shown = re.findall(r"^(?:rows|languages|confidence) {2}.*|^│ P.*", README, re.M)
    assert len(shown) == 9
    assert [line for line in shown if line not in printed] == []


def test_the_python_lines_of_the_readme_run() -> None:
    [lines] = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(lines, {"frame": pl.DataFrame({"surname": ["Nguyễn", None]})})


def test_the_session_on_the_page_about_python_gives_what_it_shows() -> None:
    session = "\n".join(re.findall(r"```pycon\n(.*?)```", DOCS["python.md"], re.S))
    flags = doctest.IGNORE_EXCEPTION_DETAIL | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(optionflags=flags)
    runner.run(doctest.DocTestParser().get_doctest(session, {}, "python.md", None, None))
    assert runner.tries > 0
    assert runner.failures == 0


@pytest.mark.parametrize("page", PAGES)
def test_python_in_the_documentation_is_python(page: str) -> None:
    for lines in re.findall(r"```python\n(.*?)```", PAGES[page], re.S):
        compile(lines, page, "exec")


def test_every_make_target_in_the_documentation_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^|`|&& )make (\w+)", TEXT, re.M))
    assert "lock" in named
    assert named <= targets


def test_the_version_is_written_in_one_place() -> None:
    written = (ROOT / "pyproject.toml").read_text()
    assert 'path = "charrnn/__init__.py"' in written
    assert charrnn.__version__ not in re.findall(r'^version = "(.*)"', written, re.M)
