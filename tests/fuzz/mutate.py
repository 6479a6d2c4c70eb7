"""Mutated inputs, models, manifests and options through the real command line, in this process.

    python -m tests.fuzz.mutate --cases 20000 --record docs/mutate.json
    python -m tests.fuzz.mutate --kind model_json --first 17 --cases 1

A case is a kind and a number, which are its seed. Every command ends with success and the right
number of rows, or with one line and an exit code that is not 70; it shows no name, and takes
bounded time and memory. With ``--cases`` the kinds take turns, each in processes of their own, so
that a crash of native code is a finding and not the end.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import faulthandler
import gzip
import io
import json
import math
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.append(str(Path(__file__).parents[1]))

from bench.common import circumstances
from cases.trial import inside, run_command

from charrnn.errors import StorageError
from charrnn.files import write_sums
from charrnn.model.version import PRETRAINED
from charrnn.model.version import __file__ as version_module
from charrnn.recipes import requests
from charrnn.runs.verify import verify_run

ROOT = Path(__file__).parents[2]
CANARY = "Zanzibarova"
CODES = (0, 2, 64, 65, 66, 73, 74, 75, 78, 79)
SECONDS = 20  # of a case: it takes a tenth of one
MEMORY = 2 * 10**9  # bytes of resident memory of a process that runs cases
SLICE = 250  # cases of a process
WHAT = "mutated inputs, models, manifests and options: done with the right rows, or refused"
TINY = ("--model", "pretrained-tiny", "--workers", "1", "--device", "cpu")
TRAIN = ("--preset", "seed", "--epochs", "1", "--seeds", "0", "--no-baselines", "--device", "cpu")
NAMES = [f"{CANARY}{end}" for end in ("", "a", "é", "-Katoro", " Burgmann")]
Problem = str  # "" for none


@dataclass(frozen=True)
class Trial:
    """One command, and how many rows it must give if it succeeds; None where nobody knows."""

    argv: tuple[str, ...]
    rows: int | None = None
    shows: str = ""  # text that may hold the canary and may be shown, such as a header


# --- Mutations ------------------------------------------------------------------------------------

TOKENS = [
    b'"', b'""', b",", b";", b"\t", b"|", b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf",
    b"\xff\xfe", b"\x1a", b"sep=;\n", b"\\", b"'", b"=1+1", b"\xe2\x80\xa8", b"\x1b]0;x\x07",
    b"name", b"language", b"NULL", b"1e999", b"-", b"\xc3",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, 1e308, -1e308, 1e-300, 0.5, math.nan,
    math.inf, "", "x", "0", "../x", "/", "a\0b", "\ud800", "é" * 300, [], {}, [[]], [None],
    {"x": None},
]  # fmt: skip


def mutated(draw: random.Random, data: bytes, low: int = 0, high: int | None = None) -> bytes:
    """Return ``data`` with a few places between ``low`` and ``high`` changed."""
    found = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 4, 8])):
        end = len(found) if high is None else min(high, len(found))
        at = draw.randint(min(low, end), end)
        kind = draw.randrange(7)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            found[at:at] = draw.choice(TOKENS)
        elif kind == 2:
            del found[at : at + draw.choice([1, 2, 4, 8, 64])]
        elif kind == 3:
            found[at:at] = found[at : at + draw.randint(1, 64)] * draw.choice([1, 1, 2, 1000])
        elif kind == 4:
            other = draw.randint(0, len(found))
            found[at : at + 16] = found[other : other + 16]
        elif kind == 5 and at < len(found):
            found[at] = draw.choice([0, 255, 127, 128, draw.randrange(256)])
        elif kind == 6 and draw.random() < 0.2:
            del found[at:]
    return bytes(found)


def changed(draw: random.Random, document: Any) -> Any:
    """Change one place of a JSON document, in place where it can be; return it."""
    if not isinstance(document, dict | list) or not document or draw.random() < 0.05:
        return deepcopy(draw.choice(VALUES))
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    key = draw.choice(keys)
    what = draw.random()
    if what < 0.1:
        del document[key]
    elif what < 0.2 and isinstance(document, dict):
        document[draw.choice(["x", "", "name", str(key).upper()])] = deepcopy(draw.choice(VALUES))
    elif what < 0.3 and isinstance(document, list):
        document.insert(key, deepcopy(draw.choice([document[key], draw.choice(VALUES)])))
    else:
        document[key] = changed(draw, document[key])
    return document


def json_text(draw: random.Random, document: Any) -> bytes:
    """Return a changed document as JSON; now and then as broken or very deep text."""
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        document = changed(draw, document)
    text = json.dumps(document, ensure_ascii=draw.random() < 0.5)
    content = text.encode("utf-8", "surrogatepass")
    if draw.random() < 0.1:
        return mutated(draw, content)
    if draw.random() < 0.03:
        return draw.choice([b"[" * 100_000, b'{"a":' * 50_000, b"", b"null", b"1" * 100_000])
    return content


def columns(draw: random.Random, rows: int) -> dict[str, Any]:
    """Return columns of random types; one of them is mostly called name."""
    made: dict[str, Any] = {}
    makers: list[Callable[[], Any]] = [
        lambda: pa.array(draw.choices([*NAMES, None, "", " "], k=rows)),
        lambda: pa.array(draw.choices([*NAMES, None], k=rows)).dictionary_encode(),
        lambda: pa.array(draw.choices(NAMES, k=rows), pa.large_string()),
        lambda: pa.array(draw.choices(NAMES, k=rows), pa.string_view()),
        lambda: pa.array(range(rows), draw.choice([pa.int8(), pa.uint64(), pa.float16()])),
        lambda: pa.array([b"\xff"] * rows, draw.choice([pa.binary(), pa.large_binary()])),
        lambda: pa.array([[1, None]] * rows, pa.list_(pa.int32())),
        lambda: pa.array([{"a": CANARY}] * rows),
        lambda: pa.array([None] * rows, pa.null()),
        lambda: pa.array([2**40] * rows, pa.timestamp(draw.choice(["s", "ns"]), "Asia/Tokyo")),
        lambda: pa.array([1] * rows, pa.decimal128(38, 4)),
        lambda: pa.array([bytes(16)] * rows, pa.uuid()),
        lambda: pa.array(['{"a":1}'] * rows, pa.json_()),
        lambda: pa.array([5] * rows, pa.duration("ns")),
        lambda: pa.array([[("k", "v")]] * rows, pa.map_(pa.string(), pa.string())),
    ]  # fmt: skip
    made[draw.choice(["name"] * 40 + ["Name"])] = draw.choice(makers[:4] * 20 + makers)()
    for number in range(draw.randint(0, 3)):
        key = draw.choice(
            [f"c{number}"] * 20 + ["language", "name ", "", "\x1b[2J", "é", "e\u0301"]
        )
        made[key] = draw.choice(makers)()
    return made


# --- Kinds: each writes an input and says what is run on it ---------------------------------------


def base_csv(draw: random.Random) -> bytes:
    """Return a sound CSV file."""
    rows = draw.choice([0, 1, 3, 40])
    lines = [f'{i},"{draw.choice(NAMES)}",{draw.choice(["x", "", "1.5"])}' for i in range(rows)]
    return "\n".join(["id,name,note", *lines, ""]).encode()


def csv(draw: random.Random, folder: Path) -> Trial:
    """A CSV file, perhaps compressed, with options of its format."""
    content = base_csv(draw)
    sound = draw.random() < 0.3
    if draw.random() < 0.1:
        content = content.decode().encode(draw.choice(["utf-16", "utf-16-le", "utf-32", "cp1252"]))
    if not sound:
        content = mutated(draw, content)
    first = content.splitlines()[0] if content else b""
    suffix = draw.choice([".csv", ".csv", ".CSV", ".tsv", ".csv.gz", ".csv.bz2", ".csv.zst"])
    packed = {
        "gz": gzip.compress,
        "bz2": bz2.compress,
        "zst": lambda c: pa.compress(c, codec="zstd", asbytes=True),
    }.get(suffix.rpartition(".")[2])
    if packed:
        content = packed(content)
        if draw.random() < 0.3:
            content = mutated(draw, content)
    (folder / f"in{suffix}").write_bytes(content)
    options = draw.choice([
        (), (), ("--on-bad-line", "reject"), ("--multiline",), ("--quote", "none"),
        ("--encoding", draw.choice(["utf-8", "latin-1", "utf-16", "utf-7", "idna", "rot13", "x"])),
        ("--delimiter", draw.choice([";", ",", "\t", "ab", "", "é", '"', "\n", "\\t"])),
        ("--on-bad-line", "reject", "--max-rejected", draw.choice(["0", "100%", "-1", "x", "1e9"])),
        ("--prior", "estimate"), ("--names", "omit"), ("-o", "out.csv"), ("-o", "out.parquet"),
    ])  # fmt: skip
    return Trial(("score", f"in{suffix}", *TINY, *options), shows=first.decode(errors="replace"))


def parquet(draw: random.Random, folder: Path) -> Trial:
    """A Parquet file of random types, sound or with changed bytes in pages or footer: whatever
    becomes of its values, it keeps its rows or is refused."""
    rows = draw.choice([0, 1, 5, 50])
    made = columns(draw, rows)
    path = folder / draw.choice(["in.parquet", "in.PARQUET", "in.pq"])
    try:
        table = pa.table(made)
        if draw.random() < 0.2:
            table = table.replace_schema_metadata({"k": "v" * draw.choice([1, 100_000])})
        pq.write_table(table, path, row_group_size=draw.choice([1, 7, 1000]),
                       compression=draw.choice(["none", "snappy", "zstd", "gzip"]),
                       write_page_checksum=draw.random() < 0.5,
                       use_dictionary=draw.random() < 0.5,
                       data_page_version=draw.choice(["1.0", "2.0"]))  # fmt: skip
    except (pa.ArrowException, NotImplementedError):
        pq.write_table(pa.table({"name": ["x"] * rows}), path)
    if draw.random() < 0.7:
        content = path.read_bytes()
        footer = int.from_bytes(content[-8:-4], "little") + 8
        low, high = draw.choice([(0, None), (4, len(content) - footer),
                                 (len(content) - footer, len(content))])  # fmt: skip
        path.write_bytes(mutated(draw, content, low, high))
    options = draw.choice([(), (), ("-o", "out.csv"), ("-o", "out.parquet"), ("--names", "omit"),
                           ("--details", "--probabilities"), ("--prefix", "p_")])  # fmt: skip
    return Trial(("score", path.name, *TINY, *options), rows)


def labelled(draw: random.Random, folder: Path) -> Trial:
    """A labelled table, as CSV or Parquet."""
    labels = draw.choices(["Polish", "Greek", "Nope", "", None], [9, 9, 1, 1, 1], k=12)
    table = pa.table({"name": draw.choices(NAMES, k=12), "language": pa.array(labels, pa.string())})
    if draw.random() < 0.4:
        made = columns(draw, 12)
        column = draw.choice(list(made.values()))
        table = table.set_column(draw.randrange(2), draw.choice(["name", "language"]), column)
    if draw.random() < 0.5:
        path = folder / "l.parquet"
        pq.write_table(table, path)
        if draw.random() < 0.5:
            path.write_bytes(mutated(draw, path.read_bytes()))
    else:
        path = folder / draw.choice(["l.csv", "l.tsv", "l.csv.gz", "l.txt", "l"])
        lines = [f"{n},{label}" for n, label in zip(draw.choices(NAMES, k=12), labels, strict=True)]
        content = mutated(draw, "\n".join(["name,language", *lines, ""]).encode())
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    command = draw.choice([("evaluate", "pretrained-tiny"),
                           ("compare", "pretrained-tiny", "pretrained-tiny")])  # fmt: skip
    return Trial((*command, "--on", path.name), shows=CANARY if path.suffix != ".parquet" else "")


def corpus(draw: random.Random, folder: Path) -> Trial:
    """Language files, in a folder or a zip archive."""
    files = {}
    for label in draw.sample(
        ["Alpha", "Beta", "Gamma", "Delta", "É", "E\u0301", "a|b", "x" * 200][
            : draw.choice([3, 4, 8])
        ],
        3,
    ):
        text = "\n".join(draw.choices(NAMES, k=draw.choice([0, 1, 30]))) + "\n"
        coded = text.encode(draw.choice(["utf-8"] * 20 + ["utf-16", "latin-1", "utf-32-be"]))
        name = label + draw.choice([".txt"] * 20 + [".TXT", ".csv", ""])
        files[name] = mutated(draw, coded) if draw.random() < 0.3 else coded
    if draw.random() < 0.5:
        (folder / "in").mkdir()
        for name, content in files.items():
            (folder / "in" / name).write_bytes(content)
        return Trial(("ingest", "in"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", draw.choice([0, 8, 14])) as archive:
        for name, content in files.items():
            inner = draw.choice(["", "data/names/"] * 9 + ["../", "/"]) + name
            archive.writestr(inner, content)
    content = packed.getvalue()
    (folder / "in.zip").write_bytes(mutated(draw, content) if draw.random() < 0.5 else content)
    return Trial(("ingest", "in.zip"))


def names_table(draw: random.Random, folder: Path) -> Trial:
    """The table that ingest wrote: other columns, values or bytes."""
    source = prepared() / "data/names.parquet"
    path = folder / "names.parquet"
    table = pq.read_table(source)
    what = draw.random()
    if what < 0.5:
        shutil.copy(source, path)
        path.write_bytes(mutated(draw, source.read_bytes()))
    else:
        key = draw.choice(table.schema.names)
        index = table.schema.names.index(key)
        rows = table.num_rows
        column = draw.choice([
            pa.nulls(rows, table.schema.field(key).type), table[key].take(pa.array([0] * rows)),
            pa.array(["x"] * rows), pa.array([0] * rows), pa.array([-1] * rows, pa.int8()),
            pa.array([1e308] * rows),
        ])  # fmt: skip
        table = table.set_column(index, key, column)
        if draw.random() < 0.3:
            table = table.slice(0, draw.choice([0, 1, 2, 10]))
        pq.write_table(table, path)
    if draw.random() < 0.1:
        return Trial(("train", "--data", path.name, *TRAIN))
    return Trial(("evaluate", "pretrained-tiny", "--data", path.name))


def _model(folder: Path) -> Path:
    """Copy a version to where commands look for it."""
    packaged = Path(version_module).parent / "pretrained" / PRETRAINED["pretrained-tiny"]
    target = folder / "outputs/models/v0001"
    shutil.copytree(packaged, target)
    (folder / "in.csv").write_text("id,name\n1,Katoro\n2,Burgmann\n")
    return target


def _with_model(draw: random.Random) -> Trial:
    command = draw.choice(["score", "score", "score", "models", "promote", "evaluate"])
    if command == "score":
        options = draw.choice([(), ("--prior", "estimate"), ("--details", "--probabilities"),
                               ("--coverage-target", "0.9"), ("--prior", "uniform")])  # fmt: skip
        return Trial(("score", "in.csv", "--model", "v0001", *TINY[2:], *options), 2)
    if command == "evaluate":
        return Trial(("evaluate", "v0001", "--data", str(prepared() / "data/names.parquet")))
    return Trial((command, *(["v0001"] if command == "promote" else [])))


def model_json(draw: random.Random, folder: Path) -> Trial:
    """A version whose model.json has other fields, with right digests."""
    target = _model(folder)
    path = target / "model.json"
    path.write_bytes(json_text(draw, json.loads(path.read_bytes())))
    write_sums(target)
    return _with_model(draw)


def safetensors(draw: random.Random, folder: Path) -> Trial:
    """A version whose tensors or their header are others, with right digests."""
    target = _model(folder)
    path = target / draw.choice(["weights.safetensors", "calibration.safetensors"])
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    if draw.random() < 0.6:
        header = json_text(draw, json.loads(content[8 : 8 + size]))
        claimed = draw.choice([len(header)] * 6 + [2**63, 2**40, 0, len(header) + 8])
        content = claimed.to_bytes(8, "little") + header + content[8 + size :]
    else:
        content = mutated(draw, content, *draw.choice([(0, 8 + size), (8 + size, None)]))
    path.write_bytes(content)
    write_sums(target)
    return _with_model(draw)


def aliases(draw: random.Random, folder: Path) -> Trial:
    """An alias file with another content."""
    _model(folder)
    path = folder / "outputs/models/aliases/champion"
    path.parent.mkdir()
    path.write_bytes(mutated(draw, b"v0001\nv0002\nv0001\n"))
    return Trial(draw.choice([
        ("score", "in.csv", "--model", "champion", *TINY[2:]), ("models",), ("rollback",),
        ("promote", "v0001"), ("evaluate", "champion", "--on", "in.csv"),
    ]))  # fmt: skip


def prior(draw: random.Random, folder: Path) -> Trial:
    """A file of label shares."""
    (folder / "in.csv").write_text("id,name\n1,Katoro\n2,Burgmann\n")
    text = "language,share\nPolish,0.5\nGreek,0.25\nRussian,0.25\n"
    if draw.random() < 0.5:
        odd = ["nan", "inf", "-1", "1e308", "1e-308", "0", "", CANARY, "½", "0x1", "1_0"]
        text = text.replace(draw.choice(["0.5", "0.25", "Polish"]), draw.choice(odd))
    content = text.encode()
    (folder / "prior.csv").write_bytes(mutated(draw, content) if draw.random() < 0.7 else content)
    return Trial(("score", "in.csv", *TINY, "--prior", "prior.csv"), 2, shows="prior.csv")


def manifest(draw: random.Random, folder: Path) -> Trial:
    """A published run whose manifest is another one, with right digests."""
    shutil.copytree(prepared() / "outputs", folder / "outputs", symlinks=True)
    shutil.copy(prepared() / "in.csv", folder / "in.csv")
    run = next((folder / "outputs/predictions/in/runs").glob("run=2*"))
    path = run / draw.choice(["manifest.json"] * 6 + ["SHA256SUMS", "report.html"])
    content = path.read_bytes()
    if path.name == "manifest.json":
        path.write_bytes(json_text(draw, json.loads(content)))
    else:
        path.write_bytes(mutated(draw, content))
    if draw.random() < 0.8 and path.name != "SHA256SUMS":
        write_sums(run)
    destination = "outputs/predictions/in"
    return Trial(draw.choice([
        ("verify", str(run.relative_to(folder))), ("verify", f"{destination}/latest"),
        ("monitor", destination), ("purge", destination, "--older-than", "1", "--yes"),
        ("score", "in.csv", *TINY), ("score", "in.csv", *TINY, "--top-k", "2"),
        ("score", "in.csv", *TINY, "-o", "out.csv"),
    ]))  # fmt: skip


def receipts(draw: random.Random, folder: Path) -> Trial:
    """A run that was stopped before it was published, whose parts or receipts are others."""
    shutil.copytree(prepared() / "stopped", folder, symlinks=True, dirs_exist_ok=True)
    staging = next((folder / "outputs/predictions/in").glob(".staging-*"))
    path = draw.choice(sorted(p for p in staging.rglob("*") if p.is_file()))
    content = path.read_bytes()
    is_json = path.suffix == ".json"
    path.write_bytes(json_text(draw, json.loads(content)) if is_json else mutated(draw, content))
    if draw.random() < 0.2:
        (
            staging / draw.choice(["part-00009.json", "x", "rows/part-00001.parquet.tmp", "@eaDir"])
        ).mkdir()
    return Trial(("score", "in.csv", *TINY, "--partition-rows", "20"), 50)


def memory(draw: random.Random, folder: Path) -> Trial:
    """The memory of an inbox."""
    shutil.copytree(prepared() / "inbox", folder, symlinks=True, dirs_exist_ok=True)
    hidden = sorted(p for p in (folder / "outputs").rglob(".*") if p.is_file() and p.stat().st_size)
    for path in hidden:
        content = path.read_bytes()
        with contextlib.suppress(ValueError):
            path.write_bytes(json_text(draw, json.loads(content)))
    return Trial(("inbox", "--folder", "inbox", "--settle-seconds", "0", *TINY))


# --- Options --------------------------------------------------------------------------------------

TEXTS = [
    "", "x", "0", "-1", "nan", "~", "~nobodyhere/x", "in.csv", "in.csv/x", "nope", ".", "-", "é",
    "\udcff", "a" * 300, "a b", "*", "[", "v0001", "pretrained", "champion", "name", "id", "\n",
    "\x1b[2J", "s3:", "file:///x", "None", "...",
]  # fmt: skip
HUGE = "99999999999999999999"
NUMBERS = [
    "0", "-1", "1", "2", "x", "", "nan", "inf", "-inf", "1e308", "1e-308", "0.5", "1.5", HUGE,
    "0x10", "1_000", "٣", " 1",
]  # fmt: skip
SLOW = {  # instead of values that ask for hours of work or of waiting, or for another machine
    "epochs": ["0", "-1", "x", "1"],
    "seeds": ["0", "-1", "x"],
    "settle_seconds": ["0", "-1", "inf", "nan"],
    "batch_size": ["0", "-1", "x", "1", "64", HUGE],
    "engine": ["x", "", "local"],
    "url": ["", "x", "ftp://x", "http://127.0.0.1:1/x.zip"],
    "preset": ["seed", "x", ""],
    "device": ["cpu", "x", "", "tpu", "cuda:99", "cpu:7"],
}
BASE: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "score": (("in.csv",), {"model": "pretrained-tiny", "device": "cpu", "workers": "1"}),
    "challenge": (("in.csv",), {"model": "pretrained-tiny", "challenger": "v0001",
                                "device": "cpu"}),
    "inbox": ((), {"folder": "inbox", "model": "v0001", "settle_seconds": "0", "device": "cpu"}),
    "monitor": ((), {}),
    "verify": (("outputs/predictions/in/latest",), {}),
    "shares": (("outputs/predictions/in/latest",), {}),
    "review": (("outputs/predictions/in/latest",), {}),
    "purge": ((), {"older_than": "1"}),
    "doctor": ((), {"model": "pretrained-tiny"}),
    "ingest": (("languages",), {}),
    "train": ((), {"preset": "seed", "epochs": "1", "seeds": "0", "device": "cpu"}),
    "models": ((), {}),
    "explain": (("Katoro",), {"model": "pretrained-tiny"}),
    "evaluate": (("v0001",), {}),
    "compare": (("v0001", "pretrained-tiny"), {}),
    "promote": (("v0001",), {}),
    "rollback": ((), {}),
    "pipeline": (("in.csv",), {"sources": "languages", "epochs": "1", "preset": "seed",
                               "device": "cpu"}),
}  # fmt: skip
RECORDS = {
    "score": requests.ScoreRequest, "challenge": requests.CompareRequest,
    "inbox": requests.InboxRequest, "monitor": requests.MonitorRequest,
    "verify": requests.VerifyRequest, "purge": requests.PurgeRequest,
    "doctor": requests.DoctorRequest, "shares": requests.SharesRequest,
    "review": requests.ReviewRequest,
    "ingest": requests.IngestRequest, "train": requests.TrainRequest,
    "models": requests.ListRequest, "explain": requests.ExplainRequest,
    "evaluate": requests.EvaluateRequest,
    "compare": requests.CompareVersionsRequest, "promote": requests.PromoteRequest,
    "rollback": requests.RollbackRequest, "pipeline": requests.PipelineRequest,
}  # fmt: skip


def options_of(record: Any) -> Iterator[tuple[str, str]]:
    """Yield name and type of every option of a command, those of groups among them."""
    for name, kind in get_type_hints(record).items():
        if name in {f.name for f in fields(record)}:
            if is_dataclass(kind):
                yield from options_of(kind)
            else:
                yield name, str(kind)


def options(draw: random.Random, folder: Path) -> Trial:
    """Any command with a few options of odd values."""
    for name in ("in.csv", "data", "languages", "outputs", "inbox/in.csv"):
        source, target = prepared() / Path(name).name, folder / name
        target.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    _model_beside(folder)
    command = draw.choice(["score"] * 5 + ["challenge", "inbox"] * 2 + sorted(set(BASE) - {
        "train", "pipeline"}) + ["train"] * (draw.random() < 0.3))  # fmt: skip
    positional, base = BASE[command]
    given = dict(base)
    known = [o for o in options_of(RECORDS[command]) if o[0] not in ("mlflow", "delta")]
    flags = []
    for name, kind in draw.choices(known, k=draw.choice([1, 1, 2, 3])):
        if kind == "<class 'bool'>":
            flags.append(f"--{name.replace('_', '-')}")
            continue
        numeric = "int" in kind or "float" in kind
        values = SLOW.get(name) or (NUMBERS if numeric or draw.random() < 0.1 else TEXTS)
        if command == "purge" and name == "folder":
            values = ["outputs", "outputs/predictions", "nope", "in.csv", "", "a" * 300]
        given[name] = draw.choice(values)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    if draw.random() < 0.1 and command != "purge":
        positional = tuple(draw.choice(TEXTS) for _ in positional)
        if command == "ingest":
            positional = ("nope",)
    if draw.random() < 0.05:
        words.append(draw.choice(["--nope", "extra", "-x", "--name-column", "-o"]))
    return Trial((command, *positional, *words, *flags))


def _model_beside(folder: Path) -> None:
    if not (folder / "outputs/models/v0001").exists():
        packaged = Path(version_module).parent / "pretrained" / PRETRAINED["pretrained-tiny"]
        shutil.copytree(packaged, folder / "outputs/models/v0001")


KINDS: dict[str, Callable[[random.Random, Path], Trial]] = {
    kind.__name__: kind
    for kind in (csv, parquet, labelled, corpus, names_table, model_json, safetensors, aliases,
                 prior, manifest, receipts, memory, options)
}  # fmt: skip

# --- Running --------------------------------------------------------------------------------------

_PREPARED: list[Path] = []


def prepared() -> Path:
    """Return a folder with what sound commands made, made once."""
    if not _PREPARED:
        shm = Path("/dev/shm")
        root = Path(tempfile.mkdtemp(prefix="charrnn-fuzz-", dir=shm if shm.is_dir() else None))
        _PREPARED.append(root)
        draw = random.Random(0)
        (root / "languages").mkdir()
        for label, syllables in {"Polish": "ka ro mi ta", "Greek": "bu hof ma ne"}.items():
            names = {"".join(draw.choices(syllables.split(), k=4)) for _ in range(60)}
            (root / "languages" / f"{label}.txt").write_text("\n".join(sorted(names)) + "\n")
        rows = "".join(f"{i},{draw.choice(NAMES)}\n" for i in range(50))
        (root / "in.csv").write_text("id,name\n" + rows)
        for place in ("stopped", "inbox/inbox"):
            (root / place).mkdir(parents=True)
            shutil.copy(root / "in.csv", root / place)
        _sound(root, ("ingest", "languages"))
        _sound(root, ("score", "in.csv", *TINY))
        _sound(root / "inbox", ("inbox", "--folder", "inbox", "--settle-seconds", "0", *TINY))
        stop = mock.patch("charrnn.recipes.score.publish_run", side_effect=StorageError("stopped"))
        with stop, inside(root / "stopped"):
            run_command("score", "in.csv", *TINY, "--partition-rows", "20")
    return _PREPARED[0]


def _sound(folder: Path, argv: tuple[str, ...]) -> None:
    with inside(folder):
        code, _, err = run_command(*argv)
    assert code == 0, err


def attempt(kind: str, number: int, folder: Path) -> tuple[int, Problem]:
    """Run one case in an empty folder; return its exit code and what is wrong."""
    draw = random.Random(f"{kind} {number}")
    (folder / "home").mkdir()
    trial = KINDS[kind](draw, folder)
    started = time.monotonic()
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(SECONDS)
    try:
        with inside(folder), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code, out, err = run_command(*trial.argv)
        problem = _problem(trial, folder, code, out + err)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        code, problem = -1, f"{type(error).__name__} came out: {error}"
    finally:
        signal.alarm(0)
    seconds = time.monotonic() - started
    if not problem and seconds > SECONDS:
        problem = f"{seconds:.0f} s"
    if problem:
        shown = " ".join(repr(word)[:80] for word in trial.argv)
        problem = f"{kind} {number}: {shown}: {problem[:600]}"
    return code, problem


def _late(*_: object) -> None:
    raise TimeoutError("stuck")


def _problem(trial: Trial, folder: Path, code: int, said: str) -> Problem:
    """Return what is wrong with the answer to a case."""
    if code not in CODES:
        return f"exit code {code}: {said[-400:]}"
    complaints = [line for line in said.splitlines() if line.startswith("error: ")]
    if code not in (0, 2) and len(complaints) != 1:
        return f"{len(complaints)} complaints: {said[-400:]}"
    if "Traceback" in said or "internal error" in said:
        return said[-400:]
    if CANARY in said and CANARY not in trial.shows and "--head" not in " ".join(trial.argv):
        return f"a name is shown: {said[-400:]}"
    latest = [p for p in folder.glob("outputs/predictions/*/latest") if p.exists()]
    if code == 0 and trial.argv[0] == "score" and trial.rows is not None and latest:
        rows = max((verify_run(p.resolve()).rows, p.stat().st_mtime_ns) for p in latest)[0]
        if rows != trial.rows:
            return f"{rows} rows, expected {trial.rows}"
    return ""


@dataclass
class Tally:
    """What was tried and what came of it."""

    cases: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    peak: int = 0  # bytes of resident memory of the process


def run_cases(kind: str, first: int, count: int, at: Callable[[int], None]) -> Tally:
    """Run cases in this process; ``at`` is told the number of each before it is run."""
    tally = Tally()
    shm = Path("/dev/shm")
    for number in range(first, first + count):
        at(number)
        with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as name:
            code, problem = attempt(kind, number, Path(name).resolve())
        tally.cases += 1
        tally.codes[f"{kind} {code}"] += 1
        tally.problems += [problem] if problem else []
    tally.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return tally


def _be_slice(kind: str, first: int, count: int, progress: Path) -> None:
    """Run cases and print the tally as JSON; what runs now is always in the file ``progress``."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(SECONDS * 30, repeat=False, exit=True)

    def at(number: int) -> None:
        faulthandler.cancel_dump_traceback_later()
        faulthandler.dump_traceback_later(SECONDS * 3, exit=True)
        progress.write_text(str(number))

    prepared()
    resource.setrlimit(resource.RLIMIT_DATA, (6 * 10**9, 6 * 10**9))
    tally = run_cases(kind, first, count, at)
    shutil.rmtree(prepared(), ignore_errors=True)
    print(json.dumps({"cases": tally.cases, "codes": tally.codes, "problems": tally.problems,
                      "peak": tally.peak}))  # fmt: skip


def _slice(kind: str, first: int, count: int) -> Iterator[Tally]:
    """Run cases in processes of their own; one that crashes is a problem, and the next goes on."""
    end = first + count
    while first < end:
        with tempfile.NamedTemporaryFile() as progress:
            argv = ["-m", "tests.fuzz.mutate", "--slice", progress.name, "--kind", kind,
                    "--first", str(first), "--cases", str(end - first)]  # fmt: skip
            done = subprocess.run([sys.executable, *argv], cwd=ROOT, capture_output=True, text=True)
            if done.returncode == 0:
                found = json.loads(done.stdout.splitlines()[-1])
                yield Tally(
                    found["cases"], Counter(found["codes"]), found["problems"], found["peak"]
                )
                return
            number = int(Path(progress.name).read_text() or first)
            why = done.stderr.strip()[-600:]
            lost = f"{kind} {number}: the process ended with {done.returncode}: {why}"
            yield Tally(number - first + 1, Counter({f"{kind} died": 1}), [lost])
            first = number + 1


def main() -> None:
    """The command line; exit code 1 when a case is answered wrongly."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--cases", type=int, default=20_000, help="how many in all (20000)")
    add("--first", type=int, default=0, help="number of the first case of a kind (0)")
    add("--kind", choices=KINDS, help="only cases of this kind")
    add("--record", type=Path, metavar="PATH", help="write what came of it as JSON")
    add("--slice", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.slice:
        _be_slice(arguments.kind, arguments.first, arguments.cases, arguments.slice)
        return
    kinds = [arguments.kind] if arguments.kind else list(KINDS)
    each, started, total = -(-arguments.cases // len(kinds)), time.monotonic(), Tally()
    for start in range(0, each, SLICE):
        for kind in kinds:
            for tally in _slice(kind, arguments.first + start, min(SLICE, each - start)):
                total.cases += tally.cases
                total.codes += tally.codes
                total.problems += tally.problems
                total.peak = max(total.peak, tally.peak)
                for problem in tally.problems:
                    print(problem, flush=True)
        print(f"{total.cases} cases, {len(total.problems)} wrong, peak {total.peak / 1e6:.0f} MB, "
              f"{time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
        record = {
            "circumstances": circumstances("pyarrow", "polars"), "cases": total.cases,
            "seconds": round(time.monotonic() - started), "peak_bytes": total.peak,
            "codes": dict(sorted(total.codes.items())), "problems": total.problems,
        }  # fmt: skip
        if arguments.record:
            arguments.record.write_text(json.dumps(record, indent=1) + "\n")
    sys.exit(bool(total.problems))


if __name__ == "__main__":
    main()
