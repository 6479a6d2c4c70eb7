"""No cell in any message: every ``raise`` of the library is walked, and each whose message holds
something of the input is reached by a scenario full of canaries, or listed with the reason."""

import ast
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import CANARY, Command, commands_of
from recording import Proof

import charrnn
from charrnn import cli
from charrnn.errors import CharrnnError
from charrnn.model.version import ModelVersion

PACKAGE = Path(charrnn.__file__).parent
# Expressions that hold paths, options, types or numbers, but nothing of a table.
SAFE = {
    "B", "L", "alias", "attempts", "batch_size", "best", "champion.version.name", "column_type",
    "days", "delimiter", "detected", "device", "digest", "epoch", "error.strerror", "expected",
    "file.name", "file.path", "file.uri", "files[0].path", "fix", "folder", "free", "given",
    "hidden", "hint", "index", "kind", "limit", "line", "link", "lock", "lock.parent", "match",
    "member", "name", "names", "names.dtype", "names.type", "new.size", "number", "old.size",
    "old.type", "one.name", "option", "other.name", "partition.first_row", "path", "path.name",
    "place", "plan", "protocol", "reference", "report", "request", "request.challenger",
    "request.model", "request.output", "root", "run", "run_column", "scheme", "second",
    "self._encoding", "self._line", "self.encoding", "self.folder", "self.max_rejected",
    "self.quote", "self.size", "size", "source", "staging", "target", "total", "unfit[0].type",
    "uri", "url", "version", "what", "where", "written",
}  # fmt: skip
# Raises whose messages hold more than that, and are not reached here: why no cell is in them.
LISTED = {
    "errors.py:_check_value": "an option",
    "errors.py:local_path": "an option",
    "files.py:_held_by": "the holder that a lock names: a process and a machine",
    "files.py:hold": "the holder that a lock names: a process and a machine",
    "files.py": "names of files and folders",
    "presets.py:__post_init__": "fields of a recipe of training",
    "dictionary.py:added_columns": "a label of a model",
    "dictionary.py:check_label_column": "an option",
    "review.py:reviewed_labels": "names of columns",
    "shares.py:_columns": "an option",
    "shares.py:grouping_of": "an option",
    "shares.py:runs_of": "names of models",
    "shares.py:scorer_of": "the name and the digest of a model",
    "doctor.py": "releases, folders and the name of a model",
    "delta.py": "columns and types of a Delta table",
    "mlflow.py": "an option and a folder",
    "object_storage.py": "URIs, and the message of a storage library",
    "ray.py": "numbers and the class of an error",
    "version.py": "the files of a model",
    "facts.py": "the files of a model",
    "labels.py": "labels of a model, which are no cells",
    "vocabulary.py": "the characters of a model",
    "network.py": "the numbers of a model",
    "manifest.py": "the manifest of a run, which holds no cell",
    "verify.py": "the manifest of a run, which holds no cell",
    "publish.py": "counts and names of files",
    "published.py": "labels and shares",
    "scorer.py": "options and types",
    "parts.py": "names of files",
    "archive.py": "names of members of an archive",
    "retention.py": "an option",
    "evidence.py": "labels and shares",
    "protocol.py": "labels",
    "fit.py": "numbers",
    "state.py": "names of files",
    "ingest.py": "labels, which are names of files",
    "labelled.py": "names of columns, and counts",
    "merge.py": "labels, and counts",
    "execute.py": "row numbers and an error of a device",
    "discovery.py": "names of files and folders",
    "hive.py": "names of folders",
    "parquet_staging.py": "names of columns, and counts",
    "plan.py:plan_run": "names of folders",
    "plan.py:_with_own_columns": "an option",
    "plan.py:destination_of": "an option",
    "name_sources.py:installed": "versions of packages",
    "options.py:__post_init__": "fields of options",
    "columns.py:check_name_column": "an option",
    "columns.py:name_column_of": "an option",
    "columns.py:check_weights": "the name of a column",
    "columns.py:check_unique": "the name of a column of a Parquet file",
    "corpus.py:check_label_keys": "labels, which are names of files",
    "label_files.py:files_below": "names of files",
    "label_files.py:_text_of": "an encoding",
    "label_files.py:find_label_files": "labels, which are names of files",
    "corpus.py:load_corpus": "how many labels there are, or the number of one",
    "label_files.py:refuse": "names of files",
    "csv_staging.py:_check_kind": "a kind of file",
    "parquet_types.py:_int96_unit": "the name of a column",
    "priors.py:correction": "numbers of a caller",
    "priors.py:parse_prior": "an option",
    "row_groups.py:_read_file": "a number of rows",
    "source.py:discover": "an option and names of files",
}
ERRORS = {
    name for name, kind in vars(charrnn.errors).items()
    if inspect.isclass(kind) and issubclass(kind, CharrnnError)
} | {"CsvFormatError", "EmptyCsvError", "TooManyRejectsError", "error", "_foreign", "_changed",
     "storage_error"}  # fmt: skip


def safe(value: ast.expr, format_spec: ast.expr | None) -> bool:
    """Whether an expression in a message holds nothing of a table: a number, a constant, a path."""
    text = ast.unparse(value)
    numeric = format_spec is not None  # text has no ',' or '.0f'
    constant = text.strip("_").replace("_", "").isupper() or isinstance(value, ast.Constant)
    counted = text.startswith(("len(", "type(", "ord(", "', '.join(SUFFIXES", "', '.join(MODES"))
    return numeric or constant or counted or text in SAFE


def raises() -> Iterator[tuple[str, str, range, list[str]]]:
    """Yield module, function, lines and doubtful expressions of each raise of a message."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                call = node.exc if isinstance(node, ast.Raise) else None
                if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
                    continue
                if call.func.id not in ERRORS:
                    continue
                parts = [part for argument in call.args for part in ast.walk(argument)]
                doubtful = [
                    ast.unparse(part.value) for part in parts
                    if isinstance(part, ast.FormattedValue)
                    and not safe(part.value, part.format_spec)
                ]  # fmt: skip
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                yield path.name, function.name, lines, doubtful


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, str]]:
    """The file, line and message of every error that is made while the test runs."""
    made: list[tuple[str, int, str]] = []
    init = CharrnnError.__init__

    def record(self: CharrnnError, message: str, **more: Any) -> None:
        frame = sys._getframe(1)
        while frame.f_code.co_name == "__init__" and frame.f_back:
            frame = frame.f_back
        made.append((Path(frame.f_code.co_filename).name, frame.f_lineno, message))
        init(self, message, **more)

    monkeypatch.setattr(CharrnnError, "__init__", record)
    return made


def table(**columns: Any) -> pa.Table:
    return pa.table({name: pa.array(cells) for name, cells in columns.items()})


NAMES = [f"{CANARY}{c}" for c in "abcdefgh"]
ROWS = "".join(f"{i},{name}\n" for i, name in enumerate(NAMES))
CSV: dict[str, str | bytes] = {
    "headerless.csv": f"P0001,{CANARY}\nP0002,{CANARY}x\n",
    "headerless2.csv": f"{CANARY},{CANARY}\n{CANARY},b\n",
    "headerless3.csv": f"Anna {CANARY},Bonn\nOtto {CANARY},Rom\n",
    "title.csv": f"List of {CANARY}\nid,name\n{ROWS}",
    "ragged.csv": f"id,name\n{ROWS}{CANARY}\n1,{CANARY},3\n",
    "open.csv": f'id,name\n{ROWS}1,"{CANARY}',
    "behind.csv": f'id,name\n{ROWS}1,"{CANARY}"{CANARY}\n',
    "bytes.csv": f"id,name\n{ROWS}1,{CANARY}ÿ\n".encode("latin-1"),
    "utf16.csv": f"id,name\n{ROWS}".encode("utf-16-le"),
    "nul.csv": f"id,name\n{ROWS}1,{CANARY}\0\n".encode(),
    "twice.csv": f"name,name\n{CANARY},{CANARY}\n",
    "unnamed.csv": f",name,\n{CANARY},{CANARY},{CANARY}\n",
    "semi.csv": f"{CANARY};{CANARY},x\n{CANARY};a,b\n",
    "trailing.csv": f"id,name\n1,{CANARY},\n2,{CANARY},\n",
    "nmae.csv": f"id,nmae,{CANARY}\n1,{CANARY},2\n",
    "html.csv": f"<html><body>{CANARY}</body></html>\n",
    "json.csv": f'{{"name": "{CANARY}"}}\n',
    "clash.csv": f"name,language,{CANARY}\n{CANARY},x,y\n",
    "empty.csv": "",
    "long.csv": f"id,name\n1,{CANARY * 300000}\n",
    "multi.csv": f'id,name\n1,"{CANARY}\n{CANARY}"\n',
    "escape.csv": f'id,name\n1,"{CANARY}\\"{CANARY}"\n',
}  # fmt: skip
LABELLED = {
    "prior1.csv": f"{CANARY},1\n", "prior2.csv": f"language,share\n{CANARY},1\nAlpha,{CANARY}\n",
    "prior3.csv": f"language,share\nAlpha,1\nAlpha,2\n{CANARY}\n", "prior4.csv": f'a,"{CANARY}\n',
    "prior5.csv": f"language,share,{CANARY}\nAlpha,-1{CANARY}\n",
    "labels1.csv": f"name,language\n{CANARY},{CANARY}\n", "labels2.csv": f"{CANARY},{CANARY}\n",
    "labels3.csv": f"name,language\n{CANARY}\n", "labels4.csv": f"name,nope\n{CANARY},Alpha\n",
}  # fmt: skip


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], users_folder: Path
) -> Command:
    for name, text in {**CSV, **LABELLED}.items():
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    good = table(id=range(8), name=NAMES)
    pq.write_table(good, "good.parquet")
    pq.write_table(good.replace_schema_metadata({CANARY: CANARY}), "metadata.parquet")
    pq.write_table(table(id=range(8), other=NAMES), "other.parquet")
    pq.write_table(table(name=range(8), other=NAMES), "numbers.parquet")
    pq.write_table(table(name=[[n] for n in NAMES]), "lists.parquet")
    pq.write_table(table(name=NAMES, language=NAMES), "labelled.parquet")
    data = Path("good.parquet").read_bytes()
    Path("cut.parquet").write_bytes(data[: len(data) // 2])
    Path("flipped.parquet").write_bytes(data[:40] + b"\xff" * 40 + data[80:])
    Path("mixed").mkdir()
    for name in ("good.parquet", "other.parquet"):
        Path("mixed", name).write_bytes(Path(name).read_bytes())
    for folder, lines in {
        "one": {"A": NAMES}, "bad": {"A": [*NAMES, "\x00" + CANARY], "B": [CANARY * 500], "C": []},
        "comma": {"A": [f"{n},{CANARY},x" for n in NAMES], "B": [f"{n}\x07" for n in NAMES]},
    }.items():  # fmt: skip
        Path(folder).mkdir()
        for label, names in lines.items():
            Path(folder, f"{label}.txt").write_text("\n".join(names))
    Path("bytes").mkdir()
    Path("bytes/A.txt").write_bytes(f"{CANARY}\n{CANARY}\xff\n".encode("latin-1"))
    Path("bytes/B.txt").write_bytes(f"{CANARY}\n".encode("utf-16"))
    run = lambda app: cli.run(app, sys.argv[1:])  # noqa: E731
    return commands_of(cli.console(), monkeypatch, capsys, run)


def scenarios() -> Iterator[tuple[str, ...]]:
    """Yield command lines whose inputs are full of canaries, most of them refused."""
    model = ("--model", "v0001", "--workers", "1")
    for name in CSV:
        yield ("score", name, *model)
        yield ("score", name, *model, "--on-bad-line", "reject")
        yield ("score", name, *model, "--on-bad-line", "reject", "--max-rejected", "1")
        yield ("evaluate", "v0001", "--on", name)
    for name in ("good", "metadata", "other", "numbers", "lists", "cut", "flipped"):
        yield ("score", f"{name}.parquet", *model, "--names", "omit")
        yield ("evaluate", "v0001", "--on", f"{name}.parquet")
        yield ("train", "--data", f"{name}.parquet")
        yield ("ingest", f"{name}.parquet", "--target", "t.parquet")
    yield ("score", "mixed", *model)
    yield ("score", "lists.parquet", *model, "-o", "out.csv")
    for name in LABELLED:
        yield ("score", "good.parquet", *model, "--prior", name)
        yield ("evaluate", "v0001", "--on", name)
        yield ("compare", "v0001", "pretrained", "--on", name)
        yield ("ingest", name, "--target", "t.parquet")
        yield ("train", "--data", name)
    yield ("evaluate", "v0001", "--on", "labelled.parquet")
    for folder in ("one", "bad", "comma", "bytes", "mixed"):
        yield ("ingest", folder, "--target", f"{folder}.parquet")
    yield ("inbox", "mixed", "--settle-seconds", "0", "--model", "v0001")
    yield ("verify", "mixed")
    yield ("monitor", "mixed")


def test_no_message_of_any_error_holds_a_cell(
    command: Command, raised: list[tuple[str, int, str]], tiny_version: ModelVersion, proof: Proof
) -> None:
    said: dict[str, str] = {}
    for arguments in scenarios():
        code, out, error = command(*arguments)
        assert code != 70, (arguments, error)
        if CANARY.lower() in (out + error).lower():
            said[" ".join(arguments)] = error or out
    assert not said, json.dumps(said, indent=1)
    assert [entry for entry in raised if CANARY.lower() in entry[2].lower()] == []
    lines: dict[str, set[int]] = {}
    for file, number, _ in raised:
        lines.setdefault(file, set()).add(number)
    unproven = {
        f"{file}:{function} {doubtful}"
        for file, function, where, doubtful in raises()
        if doubtful and not lines.get(file, set()) & set(where)
        and file not in LISTED and f"{file}:{function}" not in LISTED
    }  # fmt: skip
    assert unproven == set(), "\n".join(sorted(unproven))
    assert len({(file, number) for file, number, _ in raised}) > 30
    proof("P12", "command lines on input full of one name, refused in most ways: no message has it",
          len(list(scenarios())))  # fmt: skip


def test_the_walk_sees_raises() -> None:
    found = list(raises())
    assert len(found) > 150
    assert sum(bool(doubtful) for *_, doubtful in found) > 20
