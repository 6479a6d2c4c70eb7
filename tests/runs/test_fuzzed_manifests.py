"""P15: thousands of manifests that nobody wrote: read as a run, or refused, by all that read them.

Every part of the program that meets the runs of a destination is called on each: whatever a
manifest says, nothing but a CharrnnError comes out, and a run beside it is still found.
"""

import copy
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recording import Proof

from charrnn.errors import CharrnnError, DataError
from charrnn.files import write_sums
from charrnn.model.version import ModelVersion
from charrnn.recipes.published import Published, first_rows, label_shares
from charrnn.reports.history import history_markdown, history_page, read_histories
from charrnn.reports.run import run_report
from charrnn.runs.export import export
from charrnn.runs.history import drift_of
from charrnn.runs.manifest import RunManifest, read_manifest, read_run
from charrnn.runs.publish import finished_run
from charrnn.runs.retention import old_runs
from charrnn.runs.verify import verify_run
from charrnn.scoring.options import DeliveryOptions

NOW = datetime(2050, 1, 1, tzinfo=UTC)
ROUNDS, PARTS = 2000, 8
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**53, 2**53 + 1, 2**63, 10**400, 0.0, -0.0, 1e308, -1e308, 1e-320, 0.5,
    "", " ", "\0", "\x1b]0;x\x07", "x" * 10_000, "../../../etc/passwd", "/etc/passwd", "..", ".",
    "rows/part-00000.parquet", "rows/part-00001.parquet", "manifest.json",
    "javascript:alert(1)", "<b>",
    "99999999T999999Z", "20261324T020000Z", "\u202e", "ₓ", "¹²³", [], {}, [[]], [None], {"": 0},
    [0] * 20, ["a", "b", 1],
)  # fmt: skip


@pytest.fixture
def runs(working_folder: Path, run_score: Callable[..., Path]) -> list[Path]:
    """Two runs of one destination; the second one is to be damaged."""
    names = ["Katoro", "Burgmann", None, "Taroka", "Acht", "", "Mitaro", "Katoro"] * 4
    folders = []
    for rows in (32, 31):
        pq.write_table(pa.table({"name": names[:rows]}), "people.parquet")
        folders.append(run_score("people.parquet", partition_rows=8, prior="uniform"))
    return folders


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place of a document: what holds it, and its key or index."""
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(entries):
        yield document, key
        if isinstance(value, dict | list):
            yield from places(value)


def changed(manifest: dict[str, Any], draw: random.Random) -> bytes:
    """Return a manifest with one to three values replaced, removed, repeated or swapped."""
    document = copy.deepcopy(manifest)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        holder, key = draw.choice(list(places(document)))
        match draw.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, holder[key])
            case 2:
                other, other_key = draw.choice(list(places(document)))
                holder[key] = copy.deepcopy(other[other_key])
            case 3 if type(holder[key]) in (int, float):
                holder[key] = holder[key] * draw.choice((2, -1, 0.5)) + draw.choice((0, 1, -1))
            case 4 if isinstance(holder, dict):
                holder[draw.choice(("", "\0", "x", "rows", "_" * 300))] = holder.pop(key)
            case _:
                holder[key] = copy.deepcopy(draw.choice(VALUES))
    return json.dumps(document).encode()


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return the bytes of a manifest with some of them changed."""
    at = draw.randrange(len(content))
    more = draw.choice((b"\xff\xfe", b"\0", b"[" * 9, b'"', b"1e999", b"NaN", b"-Infinity",
                        b'\\ud800', b"}", b"/**/", "\ufeff".encode()))  # fmt: skip
    match draw.randrange(4):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + more + content[at:]
        case 2:
            return (
                content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1 :]
            )
        case _:
            return content[:at] + more + content[at + draw.randrange(40) :]


WHOLE = (b"", b"null", b"[]", b"{}", b"0", b"[" * 200_000, b'{"a":' * 200_000, b"\xff\xfe\0\0",
         b'{"schema_version": null}', b'{"schema_version": 1}', b'{"schema_version": 1e400}',
         b'{"schema_version": -1}', b'{"schema_version": 2}',
         b'{"kind": "comparison"}')  # fmt: skip


def calls_on(
    run: Path, before: RunManifest, version: ModelVersion, pages: bool
) -> Iterator[Callable[[], Any]]:
    """Yield all that a run of a destination meets."""
    destination = run.parents[1]

    def show() -> None:
        manifest = read_run(run)
        published = Published(run, manifest, DeliveryOptions(), reused=True)
        assert published.lines()
        assert published.markdown()
        label_shares(manifest)
        if pages:
            run_report(manifest)

    def history() -> None:
        histories, _ = read_histories(destination, 10)
        history_markdown(histories, "x")
        if pages:
            history_page(histories, "x")

    yield lambda: read_manifest(run)
    yield show
    yield history
    yield lambda: verify_run(run)
    yield lambda: finished_run(destination, run.name[17:25] + before.fingerprint[8:])
    yield lambda: drift_of(before, destination, version)
    yield lambda: old_runs(destination, 0, NOW)
    yield lambda: first_rows(run, 3)
    yield lambda: export(run, run.parents[1] / "out.csv")


@pytest.mark.parametrize(
    "part", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, PARTS))]
)
def test_no_manifest_ends_in_an_internal_error(
    runs: list[Path], tiny_version: ModelVersion, part: int, proof: Proof
) -> None:
    before, run = read_run(runs[0]), runs[1]
    path = run / "manifest.json"
    content = path.read_bytes()
    manifest = json.loads(content)
    draw = random.Random(part)
    refused, codes = 0, set[int]()
    for i in range(ROUNDS // PARTS):
        bad = WHOLE[i] if i < len(WHOLE) and part == 0 else None
        make = changed if draw.random() < 0.8 else damaged
        bad = bad if bad is not None else make(manifest if make is changed else content, draw)
        path.write_bytes(bad)
        write_sums(run)
        for call in calls_on(run, before, tiny_version, pages=i % 50 == 0):
            try:
                call()
            except CharrnnError as error:
                codes.add(error.exit_code)
                refused += 1
        assert str(runs[0]) in str(old_runs(runs[0].parents[1], 0, NOW))
    assert codes <= {65, 66}
    assert refused > ROUNDS / PARTS
    path.write_bytes(content)
    write_sums(run)
    assert verify_run(run).rows == 31
    proof("P15", "manifests changed at random, met by all that reads runs: no internal error",
          ROUNDS // PARTS)  # fmt: skip


@pytest.mark.slow
def test_a_manifest_of_a_gigabyte_takes_little_memory(runs: list[Path], proof: Proof) -> None:
    """Read in a process of its own: what is measured is the most that it ever had."""
    path = runs[1] / "manifest.json"
    head = path.read_bytes().rstrip()[:-1]
    for filler, size in (("[],", 60), ("{},", 60), ('"a",', 60), (" ", 1024)):
        with path.open("wb") as file:
            file.write(head + b', "more": [')
            for _ in range(size):
                file.write(filler.encode() * (2**20 // len(filler)))
            file.write(b"0]}")
        program = (
            "import resource, sys; from pathlib import Path\n"
            "from charrnn.runs.manifest import read_manifest\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "try: read_manifest(Path(sys.argv[1]))\n"
            "except Exception as error: assert error.exit_code == 65\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(runs[1])],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        assert int(done.stdout) < 500_000, filler
    proof("P11", "manifests of up to 1 GB: under 500 MB of memory", 4)


@pytest.mark.parametrize("name", [
    "../other/rows/part-00000.parquet", "/etc/hostname", "..", "", "manifest.json",
    "rows/part-0.parquet", "rows/part-00000.parquet\0", "rows/part-00001.parquet",
    "rows/PART-00000.parquet", "rows/part-00000.parquet/", "part-00000.parquet",
])  # fmt: skip
def test_parts_lie_in_their_own_folder_under_their_own_names(
    runs: list[Path], name: str, proof: Proof
) -> None:
    run = runs[1]
    document = json.loads((run / "manifest.json").read_bytes())
    document["parts"][0]["name"] = name
    (run / "manifest.json").write_text(json.dumps(document))
    write_sums(run)
    with pytest.raises(DataError):
        verify_run(run)
    proof("P15", "names of parts that lead elsewhere or come twice: refused", 1)
