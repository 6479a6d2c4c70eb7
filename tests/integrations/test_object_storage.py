"""Object storage: inputs copied from it whole, runs visible on it whole or not at all.

Against an S3 server on this machine (moto's); what needs no server uses fsspec's store in memory.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from charrnn.cli import console_runner
from charrnn.errors import ConfigError, DataError, InputMissingError, StorageError
from charrnn.files import entries_of, write_sums
from charrnn.integrations import object_storage as storage
from charrnn.integrations.object_storage import (
    check_remote_unchanged,
    download_run,
    fetch,
    upload_run,
)
from charrnn.model.version import ModelVersion, save_version
from charrnn.recipes.compare import compare
from charrnn.recipes.evaluate import evaluate_version
from charrnn.recipes.ingest import ingest
from charrnn.recipes.requests import CompareRequest, EvaluateRequest, IngestRequest, VerifyRequest
from charrnn.recipes.runs import verify
from charrnn.runs.verify import verify_run
from charrnn.scoring.options import ComputeOptions
from charrnn.tables.discovery import discover

# The libraries below leave warnings of their own (sessions that are closed late).
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("working_folder"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server on this machine; returns its address."""
    pytest.importorskip("s3fs", reason="the extra charrnn-names[s3] is not installed")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    running = moto.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The URI of an empty bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"bucket-{abs(hash(request.node.name)) % 10**9}"
    store(f"s3://{name}").mkdir(name)
    return f"s3://{name}"


@pytest.fixture
def memory() -> Iterator[str]:
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield "memory:///bucket"
    MemoryFileSystem.store.clear()


def store(uri: str) -> Any:
    return storage._open(uri)[0]


def put(path: Path, uri: str) -> None:
    store(uri).put_file(str(path), uri)


def whole_runs(uri: str) -> list[str]:
    """What a reader sees: the prefixes that have a manifest."""
    opened, base = storage._open(uri)
    return [p.split("/")[-2] for p in opened.find(base) if p.endswith("/manifest.json")]


# --- a real (local) S3 server -------------------------------------------------------------------


def test_from_bucket_to_bucket_is_what_it_is_from_folder_to_folder(
    bucket: str, people: Path, run_score: Callable[..., Path]
) -> None:
    put(people, f"{bucket}/in/people.parquet")
    local = run_score(people, output="local", partition_rows=4)
    run = run_score(f"{bucket}/in/people.parquet", output=f"{bucket}/out", partition_rows=4)
    assert run.parent == Path("outputs/predictions/people/runs")
    assert not list(run.parents[1].glob(".fetched-*"))
    manifest = verify_run(run)
    assert manifest.parts == verify_run(local).parts
    assert manifest.fetched[0].uri == f"{bucket}/in/people.parquet"
    assert manifest.fetched[0].size == people.stat().st_size
    (name,) = whole_runs(f"{bucket}/out")
    assert name.startswith(run.name)
    latest = json.loads(store(bucket).cat_file(f"{bucket}/out/latest.json"))
    assert latest == {"run": name}
    for uri in (f"{bucket}/out/runs/{name}", f"{bucket}/out"):
        assert verify(VerifyRequest(run=uri)).lines() == [f"{uri} is whole: 12 rows in 3 parts"]
    frame = pl.concat(
        [pl.read_parquet(store(bucket).open(p)) for p in
         sorted(store(bucket).glob(f"{bucket}/out/runs/{name}/rows/part-*.parquet"))]
    )  # fmt: skip
    assert frame.equals(pl.read_parquet(sorted(run.glob("rows/part-*.parquet"))))


@pytest.mark.slow
def test_a_kill_between_uploads_shows_nothing_and_a_rerun_uploads_the_run_once(
    bucket: str, people: Path, run_score: Callable[..., Path]
) -> None:
    run = run_score(people, partition_rows=4)
    files = len(entries_of(run))
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import s3fs\n"
        "from charrnn.integrations.object_storage import upload_run\n"
        "left = [int(sys.argv[3])]\n"
        "def dying(function):\n"
        "    def call(*arguments, **options):\n"
        "        if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        left[0] -= 1\n"
        "        return function(*arguments, **options)\n"
        "    return call\n"
        "s3fs.S3FileSystem.put_file = dying(s3fs.S3FileSystem.put_file)\n"
        "s3fs.S3FileSystem.pipe_file = dying(s3fs.S3FileSystem.pipe_file)\n"
        "upload_run(Path(sys.argv[1]), sys.argv[2])\n"
    )
    # One write per file, the last of them the manifest, and one for latest.json.
    for writes in (0, 1, files - 1, files):
        target = f"{bucket}/killed-{writes}"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, str(run), target, str(writes)],
            check=False,
        )
        assert done.returncode == -signal.SIGKILL
        assert len(store(bucket).find(target)) == writes
        assert len(whole_runs(target)) == (writes == files)
        if writes < files:
            with pytest.raises(InputMissingError, match="no manifest"):
                verify(VerifyRequest(run=target))
        again = run_score(people, partition_rows=4, output=target)
        assert again == run
        assert len(whole_runs(target)) == 1
        verify(VerifyRequest(run=target))


def test_an_object_that_changes_while_it_is_scored_publishes_nothing(
    bucket: str,
    people: Path,
    run_score: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = f"{bucket}/people.parquet"
    put(people, uri)
    before = check_remote_unchanged

    def change(files: Any) -> None:
        put(people.with_name("other.parquet"), uri)
        before(files)

    pq.write_table(pq.read_table(people).slice(1), people.with_name("other.parquet"))
    with monkeypatch.context() as patched:
        patched.setattr("charrnn.recipes.score.check_remote_unchanged", change)
        with pytest.raises(DataError, match=r"people.parquet changed during the run"):
            run_score(uri)
    destination = Path("outputs/predictions/people")
    assert [p.name for p in destination.iterdir() if not p.name.startswith(".")] == []
    assert verify_run(run_score(uri)).rows == 11
    assert not list(destination.glob(".fetched-*"))


def test_a_bucket_that_is_not_there_is_one_line(
    bucket: str, people: Path, run_score: Callable[..., Path]
) -> None:
    with pytest.raises(InputMissingError, match="does not exist"):
        fetch("s3://no-such-bucket-here/people/", Path("out"))
    run = run_score(people)
    with pytest.raises((InputMissingError, StorageError), match="s3://no-such-bucket-here/out"):
        upload_run(run, "s3://no-such-bucket-here/out")


# --- without a server ---------------------------------------------------------------------------


def test_a_prefix_gives_its_tables_in_order_and_passes_over_runs(
    memory: str, people: Path, names_table: pa.Table, run_score: Callable[..., Path]
) -> None:
    run = run_score(people)
    pacsv.write_csv(names_table.select(["id", "name"]), "b.csv")
    for name in ("in/a/b.csv", "in/a.csv", "in/.hidden.csv", "in/_temporary/c.csv", "in/x.txt"):
        put(Path("b.csv"), f"{memory}/{name}")
    upload_run(run, f"{memory}/in")
    opened, base = storage._open(
        f"{memory}/in/run=20261124T020000Z-1f3a9c4e-00000000"
    )  # a run whose upload was killed
    opened.pipe_file(f"{base}/SHA256SUMS", b"")
    opened.put_file(str(people), f"{base}/rows/part-00000.parquet")
    copied, found = fetch(f"{memory}/in", Path("out"))
    assert [file.uri for file in found] == [f"{memory}/in/a.csv", f"{memory}/in/a/b.csv"]
    held = [str(p.relative_to(copied)) for p in copied.rglob("*.*") if p.stat().st_size]
    assert sorted(held) == ["a.csv", "a/b.csv"]
    local = discover(str(copied))
    assert sorted(file.name for file in local.files) == sorted(held)
    assert local.skipped.kinds == {"JSON": 1, "scoring run": 2, "text": 1}
    copied, found = fetch(f"{memory}/in/a/*.csv", Path("out"))
    assert [p.name for p in copied.parent.iterdir()] == ["b.csv"]
    assert [file.name for file in discover(str(copied)).files] == ["b.csv"]
    assert len(list(Path("out").glob(".fetched-*"))) == 1
    assert verify_run(run_score(f"{memory}/in")).rows == 24


def test_an_interrupted_copy_goes_on_where_it_was(
    memory: str, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.parquet", "b.parquet"):
        put(people, f"{memory}/in/{name}")
    get, copied = MemoryFileSystem.get_file, []

    def failing(self: Any, path: str, *rest: Any, **options: Any) -> None:
        copied.append(path[-9:])
        if len(copied) == 2:
            raise TimeoutError("no answer")
        get(self, path, *rest, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", failing)
    with pytest.raises(StorageError, match="cannot be reached: TimeoutError: no answer"):
        fetch(f"{memory}/in", Path("out"))
    fetch(f"{memory}/in", Path("out"))
    assert copied == ["a.parquet", "b.parquet", "b.parquet"]


def test_a_truncated_download_or_upload_is_noticed(
    memory: str, people: Path, run_score: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_score(people)
    put(people, f"{memory}/in/a.parquet")
    get, put_file = MemoryFileSystem.get_file, MemoryFileSystem.put_file

    def short_get(self: Any, path: str, local: str, **options: Any) -> None:
        get(self, path, local, **options)
        os.truncate(local, 100)

    def short_put(self: Any, local: str, path: str, **options: Any) -> None:
        put_file(self, local, path, **options)
        if path.endswith("part-00000.parquet"):
            self.pipe_file(path, self.cat_file(path)[:-1])

    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "get_file", short_get)
        patched.setattr(MemoryFileSystem, "put_file", short_put)
        with pytest.raises(StorageError, match=r"a.parquet arrived incomplete"):
            fetch(f"{memory}/in/a.parquet", Path("out"))
        with pytest.raises(StorageError, match=r"part-00000.parquet has .* bytes after an upload"):
            upload_run(run, f"{memory}/out")
    assert whole_runs(f"{memory}/out") == []
    upload_run(run, f"{memory}/out")
    assert verify_run(download_run(f"{memory}/out", Path("copy"))).rows == 12


def test_verify_finds_what_changed_on_the_store(
    memory: str, people: Path, run_score: Callable[..., Path]
) -> None:
    run_score(people, output=f"{memory}/out")
    (name,) = whole_runs(f"{memory}/out")
    opened, base = storage._open(f"{memory}/out/runs/{name}")
    content = bytearray(opened.cat_file(f"{base}/rows/part-00000.parquet"))
    content[len(content) // 2] ^= 1
    opened.pipe_file(f"{base}/rows/part-00000.parquet", bytes(content))
    with pytest.raises(DataError, match=r"part-00000.parquet has changed"):
        verify(VerifyRequest(run=f"{memory}/out/runs/{name}"))


def test_the_same_run_is_uploaded_once_and_two_runs_lie_side_by_side(
    memory: str, people: Path, run_score: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_score(people)
    first = upload_run(run, f"{memory}/out")
    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "put_file", None)  # would fail
        assert upload_run(run, f"{memory}/out") == first
    other = Path("elsewhere") / run.name  # same name, other bytes
    shutil.copytree(run, other)
    (other / "report.html").write_text("another")
    write_sums(other)
    second = upload_run(other, f"{memory}/out")
    assert second != first
    assert len(whole_runs(f"{memory}/out")) == 2
    latest = json.loads(store(memory).cat_file(f"{memory}/out/latest.json"))
    assert second.endswith(latest["run"])


def test_a_table_on_object_storage_is_compared_and_looked_at_again(
    memory: str, people: Path, tiny_version: ModelVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    put(people, f"{memory}/in/people.parquet")
    save_version(Path("models"), tiny_version)
    save_version(Path("models"), replace(tiny_version, temperature=0.9))
    request = CompareRequest(
        source=f"{memory}/in/people.parquet", model="v0001", challenger="v0002",
        models=Path("models"), compute=ComputeOptions(device="cpu", workers=1),
    )  # fmt: skip

    def changed(files: Any) -> None:
        assert [file.uri for file in files] == [f"{memory}/in/people.parquet"]
        raise DataError("changed")

    destination = Path("outputs/comparisons/people")
    with monkeypatch.context() as patched:
        patched.setattr("charrnn.recipes.compare.check_remote_unchanged", changed)
        with pytest.raises(DataError, match="changed"):
            compare(request, console_runner())
    assert not list(destination.glob("runs/run=2*"))
    published = compare(request, console_runner())
    assert published.manifest.rows == 12
    assert published.folder.parent == destination / "runs"
    assert not list(destination.glob(".fetched-*"))


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("memory://bucket/none", InputMissingError, "has no .parquet"),
        ("memory://bucket/in/x.txt", DataError, "is not a .parquet"),
        ("memory://bucket/*.csv", InputMissingError, "has no .parquet"),
        ("nowhere://bucket/a.csv", ConfigError, "nowhere:// is not supported; use s3:// or gs://"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(
    uri: str, error: type[Exception], message: str, memory: str
) -> None:
    store(memory).pipe_file(f"{memory}/in/x.txt", b"x")
    with pytest.raises(error, match=message):
        fetch(uri, Path("out"))


def test_a_single_file_on_object_storage_is_refused(
    people: Path, run_score: Callable[..., Path]
) -> None:
    with pytest.raises(ConfigError, match="give a prefix without a suffix"):
        run_score(people, output="s3://bucket/scored.csv")


def test_a_name_with_dots_does_not_leave_the_folder() -> None:
    with pytest.raises(DataError, match=r"has '\.\.' in its name"):
        storage._inside("/bucket/in/../../evil.csv", "/bucket/in")


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigError, match=r"pip install 'charrnn-names\[gcs\]'"):
        fetch("gs://bucket/people.parquet", Path("out"))


def test_labelled_tables_on_object_storage_are_ingested_and_evaluated_on(
    memory: str, tiny_version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tiny_version.labels[:2]
    rows = [{"surname": f"Kato{a}{b}", "group": labels[b == "o"]} for a in "kmrst" for b in "aeiou"]
    pq.write_table(pa.Table.from_pylist(rows), "in.parquet")
    for name in ("one", "other"):
        put(Path("in.parquet"), f"{memory}/in/{name}.parquet")
    request = IngestRequest(sources=(f"{memory}/in/one.parquet", f"{memory}/in/other.parquet"),
                            name_column="surname", label_column="group")  # fmt: skip

    def changed(files: Any) -> None:
        raise DataError(f"{len(files)} changed")

    with monkeypatch.context() as patched:
        patched.setattr("charrnn.recipes.ingest.check_remote_unchanged", changed)
        with pytest.raises(DataError, match="2 changed"):
            ingest(request, console_runner())
    assert not Path("data").exists()
    found = ingest(request, console_runner())
    assert {name: counts.kept for name, counts in found.report.tables.items()} == {
        "one.parquet": 25, "other.parquet": 25,
    }  # fmt: skip
    save_version(Path("models"), tiny_version)
    measured = evaluate_version(EvaluateRequest(
        version="v0001", models=Path("models"), on=f"{memory}/in/*.parquet",
        name_column="surname", label_column="group",
    ))  # fmt: skip
    assert measured.parts[0].metrics.count == 50
