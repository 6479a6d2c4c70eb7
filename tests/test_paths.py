"""Paths are settled at one door: where a request record is made."""

import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import polars as pl
import pyarrow.parquet as pq
import pytest
from commands import Command, commands_of, complaint
from recording import Proof

from charrnn import cli
from charrnn.errors import ConfigError, PathOrUri, local_path
from charrnn.model.version import ModelVersion, save_version
from charrnn.recipes import requests
from charrnn.recipes.requests import MonitorRequest, PipelineRequest, ReviewRequest, ScoreRequest
from charrnn.scoring.options import DeliveryOptions

# Text fields of records that hold no path; a new text field is either here or a ``PathOrUri``.
NO_PATH = {
    "alias", "challenger", "delimiter", "device", "digest", "encoding", "engine", "given_column",
    "max_rejected", "model", "name", "name_column", "name_order", "names", "on_bad_line",
    "on_drift", "one", "other", "prefix", "preset", "promote", "quote", "surname_column", "url",
    "version", "batch_size", "label_as", "label_column", "split_column", "weight",
    "weight_column",
}  # fmt: skip
RECORDS = [record for name, record in vars(requests).items() if name.endswith("Request")]
MARK = get_args(PathOrUri)[1]


def members(annotation: Any) -> list[Any]:
    """Return what an annotation is made of: types and constraints, unions and all taken apart."""
    parts = get_args(annotation) if get_origin(annotation) in (Annotated, Union) else ()
    parts = parts or (get_args(annotation) if "|" in str(annotation) else ())
    return [annotation, *(member for part in parts for member in members(part))]


def fields_of(record: type) -> Iterator[tuple[type, str, list[Any]]]:
    """Yield the fields of a record and its groups, with what their types are made of."""
    for name, annotation in get_type_hints(record, include_extras=True).items():
        if dataclasses.is_dataclass(annotation):
            yield from fields_of(annotation)  # type: ignore[arg-type]
        elif not name.startswith("__"):
            yield record, name, members(annotation)


PATHS = sorted(
    {
        (record, name, Path in kinds)
        for request in RECORDS
        for record, name, kinds in fields_of(request)
        if Path in kinds or MARK in kinds
    },
    key=str,
)
REQUIRED = {"source": "in.csv", "run": "r", "names": "in.csv", "older_than": 1.0, "version": "v",
            "one": "a", "other": "b", "mlflow": "m", "name": "Katoro"}  # fmt: skip


def made(record: type, **values: Any) -> Any:
    """Return a record with these values, and something for all else that it demands."""
    needed = {
        f.name: REQUIRED[f.name]
        for f in dataclasses.fields(record)  # type: ignore[arg-type]
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if record is ReviewRequest and "apply" not in values:
        needed["run"] = "r"  # one of both
    return record(**{**needed, **values})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    return home


def test_every_text_field_is_a_path_or_known_to_be_none() -> None:
    unknown = {
        name
        for request in RECORDS
        for record, name, kinds in fields_of(request)
        if str in kinds and MARK not in kinds and Path not in kinds and name not in NO_PATH
    }
    assert unknown == set()
    assert len(PATHS) > 25


@pytest.mark.parametrize(
    ("record", "name", "local"), PATHS, ids=lambda v: getattr(v, "__name__", str(v))
)
def test_every_path_of_every_record_is_settled_once(
    record: type, name: str, local: bool, home: Path, proof: Proof
) -> None:
    def settled(value: Any) -> str:
        return str(getattr(made(record, **{name: value}), name))

    here = str(Path.cwd())
    wanted = {
        "~/a/b.csv": f"{home}/a/b.csv", "~": str(home), "./~/b.csv": f"{here}/~/b.csv",
        ".//~x": f"{here}/~x", "a/~/b": "a/~/b", "/abs/~": "/abs/~", "a~": "a~",
    }  # fmt: skip
    assert {text: settled(text) for text in wanted} == wanted
    for text in wanted:  # again, as when a record is copied or a flow is called
        assert settled(settled(text)) == wanted[text]
    if not local:
        assert settled("s3://~/x") == "s3://~/x"
    refused = ["~nobody.here/x", "~+", "a\0b", "x" * 300, "y/" * 2100, "\ud800"]
    for text in [*refused, *(["s3://bucket/x", ""] if local else [])]:
        with pytest.raises(ConfigError) as error:
            settled(text)
        assert error.value.option == name
        assert len(str(error.value)) < 200
    proof("P9", "paths with ~, NUL, too long or a URI in every path option", len(wanted) + 8)


def test_the_home_of_another_user_is_expanded() -> None:
    assert local_path("~root/x", "output") == os.path.expanduser("~root/x")  # noqa: PTH111


def test_a_recipe_of_recipes_hands_settled_paths_on(home: Path) -> None:
    request = PipelineRequest(names="~/in.csv", output="./~/out")
    again = ScoreRequest(source=request.names, delivery=DeliveryOptions(output=request.output))
    assert again.source == f"{home}/in.csv"
    assert again.delivery.output == str(Path.cwd() / "~/out")
    assert MonitorRequest(folder=Path("~/runs")).folder == home / "runs"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
            tiny_version: ModelVersion, home: Path) -> Command:  # fmt: skip
    for folder in (home, Path.cwd(), Path.cwd() / "~"):
        folder.mkdir(exist_ok=True)
        (folder / "in.csv").write_text(f"id,name\n{len(folder.parts)},Katoro\n")
    save_version(home / "m", tiny_version)
    return commands_of(cli.console(), monkeypatch, capsys, lambda app: cli.run(app, sys.argv[1:]))


def test_a_command_reads_and_writes_at_home(command: Command, home: Path, proof: Proof) -> None:
    (home / "p.csv").write_text("language,share\nAlpha,1\nBeta,1\n")
    for output in ("~/out.csv", "~/out.parquet"):
        code, _, error = command("score", "~/in.csv", "--models=~/m", "--model=v0001",
                                 f"--output={output}", "--prior", "~/p.csv")  # fmt: skip
        assert (code, error) == (0, "")
    assert pl.read_csv(home / "out.csv").height == pq.read_table(home / "out.parquet").num_rows == 1
    assert not [p for p in home.iterdir() if p.name.startswith(".")]
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["in.csv", "outputs", "~"]
    proof("P9", "tables, priors, models and exports at ~ through the command", 2)


def test_what_is_really_called_tilde_is_taken_literally(command: Command, home: Path) -> None:
    code, _, error = command("score", "./~/in.csv", "--models=~/m", "--model=v0001",
                             "-o", "./~/out.parquet")  # fmt: skip
    assert (code, error) == (0, "")
    table = pq.read_table(Path.cwd() / "~/out.parquet")
    assert table["id"].to_pylist() == [str(len(Path.cwd().parts) + 1)]
    assert {p.name for p in home.iterdir()} == {"in.csv", "m"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "in.csv", "-o", "~nobody.here/out.csv"),
        ("ingest", "in.csv", "--target=~nobody.here/t.parquet"),
        ("verify", "~nobody.here/run"),
        ("train", "--models", "s3://bucket/models"),
        ("monitor", ""),
        ("score", ""),
    ],
)
def test_a_path_that_can_be_none_is_refused(command: Command, arguments: tuple[str, ...]) -> None:
    before = sorted(Path.cwd().rglob("*"))
    code, _, error = command(*arguments)
    complaint(code, 64, error)
    assert sorted(Path.cwd().rglob("*")) == before
