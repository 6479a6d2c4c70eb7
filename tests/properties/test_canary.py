"""Names are nowhere but in the tables that are meant to hold them: every command in turn on tables
full of one name, then a look into everything that was printed, logged and written."""

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import CANARY, Command, complaint
from recording import Proof

import charrnn.cli
import charrnn.recipes.inbox
import flows.inbox
import flows.ingest
import flows.monitor
import flows.score
import flows.train
from charrnn.cli import KEY_VARIABLE
from charrnn.model.version import set_alias

TINY = ("--preset", "seed", "--epochs", "1", "--seeds", "1", "--device", "cpu")
PARTS = ("--partition-rows", "20", "--workers", "1")
# What is meant to hold names: what went in, and the rows that came out.
HOLD_NAMES = (
    "languages/*",
    "data/**/*",
    "*.csv",
    "people/*",
    "outputs/predictions/**/rows/part-*.parquet",
)


def fill(folder: Path) -> None:
    """Write language files and tables in which every name is the canary."""
    (folder / "languages").mkdir()
    for label in ("Alpha", "Beta", "Gamma"):
        names = [f"{CANARY}{label}{i:03d}".translate(str.maketrans("0123456789", "abcdefghij"))
                 for i in range(60)]  # fmt: skip
        (folder / "languages" / f"{label}.txt").write_text("\n".join(names) + "\n")
    for name, end in {
        "good": "",
        "ragged": f"{CANARY}\n",
        "bytes": "1,\xff\n",
        "open": '1,"',
    }.items():
        rows = "".join(f"{i},{CANARY}{'abcdefg'[i % 7]}\n" for i in range(50))
        (folder / f"{name}.csv").write_bytes(f"id,name\n{rows}{end}".encode("latin-1"))
    (folder / "data/inbox").mkdir(parents=True)
    (folder / "people").mkdir()
    labelled = {"name": [f"{CANARY}{c}" for c in "abcd"], "language": ["Alpha", "Beta"] * 2}
    pq.write_table(pa.table(labelled), folder / "people/labelled.parquet")
    pq.write_table(pa.table({"name": labelled["name"]}), folder / "data/inbox/new.parquet")


def holds(path: Path) -> bool:
    """Whether a file holds the canary, however it is written; Parquet packs its pages."""
    texts = [path.read_bytes()]
    if path.suffix == ".parquet":
        texts.append(repr(pq.read_table(path).to_pydict()).encode())
    return any(CANARY.lower().encode() in text.lower() for text in texts)


def test_no_name_is_printed_logged_or_written_where_none_belongs(
    command: Command, working_folder: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, proof: Proof,
) -> None:  # fmt: skip
    temporary = working_folder / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv(KEY_VARIABLE, "0123456789abcdef")
    monkeypatch.setattr(charrnn.recipes.inbox.time, "sleep", lambda seconds: None)
    caplog.set_level(logging.INFO)
    fill(working_folder)
    printed: list[str] = []

    def done(*arguments: str, code: int = 0, **options: Any) -> None:
        found, out, error = command(*arguments, **options)
        assert found == code, error
        if code:
            complaint(found, code, error)
        printed.append(out + error)

    done("languages", app=flows.ingest.app)
    done(*TINY, app=flows.train.app)
    done(*TINY, "--seed", "1", "--promote", "always", app=flows.train.app)
    done("list", app=flows.train.app)
    done("evaluate", "v0001", "--on", "people/labelled.parquet", app=flows.train.app)
    done("compare", "v0001", "v0002", app=flows.train.app)
    for options in (
        (), ("--names", "hash"), ("--names", "omit"), ("--probabilities", "--details"),
        ("-o", "scored.csv"), ("--prior", "estimate"),
        ("--model", "pretrained-tiny", "--private"),
    ):  # fmt: skip
        done("good.csv", *PARTS, *options)
        if options[:1] == ("--names",):
            run = Path("outputs/predictions/good/latest").resolve()
            assert not [p for p in run.rglob("*") if p.is_file() and holds(p)]
    done("verify", "outputs/predictions/good/latest")
    done("ragged.csv", "--model", "v0001", "--on-bad-line", "reject", "--max-rejected", "9", *PARTS)
    for name in ("ragged", "bytes", "open"):
        done(f"{name}.csv", "--model", "v0001", code=65)
    done("ragged.csv", "--model", "v0001", "--on-bad-line", "reject", code=65)
    done("good.csv", "--name-column", "nome", "--model", "v0001", code=65)
    done("challenge", "good.csv", "--model", "v0001", "--challenger", "v0002")
    code, out, error = command("explain", CANARY, "--model", "v0001", app=charrnn.cli.console())
    assert (code, CANARY in out) == (0, True), "the one place where a name is shown"
    printed.append(error)
    set_alias(Path("outputs/models"), "champion", "v0001")
    done(app=flows.inbox.app)
    done(app=flows.monitor.app)

    logged = "".join(record.getMessage() for record in caplog.records)
    assert CANARY.lower() not in ("".join(printed) + logged).lower()
    allowed = {path for pattern in HOLD_NAMES for path in working_folder.glob(pattern)}
    files = {path for path in working_folder.rglob("*") if path.is_file() and not path.is_symlink()}
    assert [str(p.relative_to(working_folder)) for p in files - allowed if holds(p)] == []
    assert sum(holds(path) for path in allowed & files) > 20, "the search finds nothing anywhere"
    assert len(files - allowed) > 50
    proof("P12", "files and outputs of every command, searched for a name that is in all tables",
          len(files - allowed) + len(printed))  # fmt: skip
