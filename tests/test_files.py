"""The write seam: old content until the new is whole, locks, checksums and readable errors."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recording import Proof

from charrnn.errors import BusyError, DataError, ModelError, OutputError, StorageError
from charrnn.files import (
    check_sums,
    hold,
    json_bytes,
    private_files,
    publish_folder,
    remove_tree,
    replace_file,
    scratch_file,
    sha256_of,
    swap_link,
    system_files,
    withdraw_folder,
    write_bytes,
    write_sums,
    writing_parquet,
    writing_to,
)


def failing(code: int) -> Callable[[int], None]:
    """Return an fsync that fails with this error number."""

    def fsync(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    return fsync


def test_content_is_written_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "file"
    write_bytes(path, b"first")
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_old_content_is_there_while_the_new_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with writing_to(path) as temporary:
        temporary.write(b"new")
        assert path.read_bytes() == b"old"
        assert sorted(p.name for p in tmp_path.iterdir()) == [".file.tmp", "file"]
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_appears_whole_and_its_pages_carry_checksums(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    table = pa.table({"name": ["Katoro", "Burghof"] * 500})
    with writing_parquet(path, table.schema) as writer:
        writer.write_table(table)
        assert not path.exists()
    assert pq.read_table(path, page_checksum_verification=True).equals(table)
    assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True)


@pytest.mark.parametrize("problem", [ValueError("no"), KeyboardInterrupt(), MemoryError()])
def test_a_failed_write_leaves_the_old_content_and_no_temporary(
    problem: BaseException, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(type(problem)), writing_to(path) as temporary:  # noqa: PT012
        temporary.write(b"half of the n")
        raise problem
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (errno.ENOSPC, StorageError, r"no space left while writing .*file \(\d+ MB free\)"),
        (errno.EDQUOT, StorageError, r"no space left while writing .*file \(\d+ MB free\)"),
        (errno.EIO, StorageError, "writing .*file failed: Input/output error"),
        (errno.EROFS, OutputError, "cannot write .*file: Read-only file system"),
        (errno.EACCES, OutputError, "cannot write .*file: Permission denied"),
        (errno.EPERM, OutputError, "cannot write .*file: Operation not permitted"),
    ],
)
def test_a_failing_disk_becomes_a_readable_error(
    code: int,
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", failing(code))
    with pytest.raises(error, match=message) as caught:
        write_bytes(path, b"new")
    assert str(path) in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("below", ["x", "sub/x"])
def test_a_file_where_a_folder_should_be_is_an_output_error(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OutputError, match="cannot write"):
        write_bytes(tmp_path / "file" / below, b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_folder_where_the_file_should_be_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_bytes(tmp_path / "folder", b"new")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_threads_writing_one_file_leave_one_whole_content(tmp_path: Path) -> None:
    path, problems = tmp_path / "file", []
    contents = [bytes([i]) * 100_000 for i in range(4)]
    start = threading.Barrier(len(contents))

    def write(content: bytes) -> None:
        start.wait()
        try:
            for _ in range(10):
                write_bytes(path, content)
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=write, args=[content]) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_a_file_keeps_one_name(tmp_path: Path) -> None:
    (tmp_path / "temporary").write_bytes(b"new")
    (tmp_path / "file").write_bytes(b"old")
    replace_file(tmp_path / "temporary", tmp_path / "file")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"new"]


def test_a_scratch_file_replaces_an_old_one_and_is_gone_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scratch"
    for content in (b"old and longer", b"new"):
        with scratch_file(path) as file:
            file.write(content)
        assert path.read_bytes() == content
    with pytest.raises(StorageError), scratch_file(path) as file:
        os.fdopen(file.fileno(), "rb", closefd=False).read()  # EBADF: it is open for writing
    assert not path.exists()


def test_json_is_readable_and_refuses_nan() -> None:
    assert json_bytes({"é": [1.5, None]}) == '{\n  "é": [\n    1.5,\n    null\n  ]\n}\n'.encode()
    with pytest.raises(ValueError, match="JSON"):
        json_bytes({"loss": float("nan")})


def make_folder(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def test_publishing_moves_the_whole_folder(tmp_path: Path) -> None:
    publish_folder(make_folder(tmp_path / "staging", a="1", b="2"), tmp_path / "final")
    assert sorted(p.name for p in (tmp_path / "final").iterdir()) == ["a", "b"]
    assert not (tmp_path / "staging").exists()


@pytest.mark.parametrize("kind", ["full folder", "empty folder", "file"])
def test_publishing_over_anything_is_refused_and_changes_nothing(kind: str, tmp_path: Path) -> None:
    staging, final = make_folder(tmp_path / "staging", a="new"), tmp_path / "final"
    if kind == "file":
        final.write_text("old")
    else:
        make_folder(final, **({"a": "old"} if kind == "full folder" else {}))
    before = sorted(final.rglob("*"))
    with pytest.raises(FileExistsError, match="final"):
        publish_folder(staging, final)
    assert sorted(final.rglob("*")) == before
    assert (staging / "a").read_text() == "new"


def test_publishing_to_a_full_disk_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = make_folder(tmp_path / "staging", a="new")
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(StorageError, match=r"no space left while writing .*final"):
        publish_folder(staging, tmp_path / "final")
    assert not (tmp_path / "final").exists()


def test_a_link_is_made_and_moved(tmp_path: Path) -> None:
    make_folder(tmp_path / "one", a="1")
    make_folder(tmp_path / "two", a="2")
    for target, content in (("one", "1"), ("two", "2")):
        swap_link(tmp_path / "latest", target)
        assert (tmp_path / "latest" / "a").read_text() == content
    assert (tmp_path / "latest").readlink() == Path("two")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "one", "two"]


def test_a_link_is_not_put_in_place_of_a_folder(tmp_path: Path) -> None:
    make_folder(tmp_path / "latest", a="1")
    with pytest.raises(OutputError, match=r"cannot write .*latest"):
        swap_link(tmp_path / "latest", "elsewhere")
    assert (tmp_path / "latest" / "a").read_text() == "1"


def test_removing_a_tree_twice_is_fine(tmp_path: Path) -> None:
    make_folder(tmp_path / "tree", a="1")
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


HOLDER = """
import sys
from pathlib import Path
from charrnn.files import hold
with hold(Path(sys.argv[1]), "run 42 on this machine"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_learns_who_holds_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "out" / ".lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match="by run 42 on this machine; wait"), hold(lock, "me"):
            raise AssertionError("two processes hold one lock")
        other.kill()
    with hold(lock, "me"):  # a killed holder leaves no lock behind
        assert lock.read_text() == "me"


def test_a_lock_is_free_again_after_the_block_whatever_happened(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with pytest.raises(ValueError, match="inside"), hold(lock, "a holder with a long name"):
        raise ValueError("inside")
    with hold(lock, "me"), pytest.raises(BusyError, match="written by me;"), hold(lock, "you"):
        raise AssertionError("one lock was held twice")
    with hold(lock, "you"):
        assert lock.read_text() == "you"


def test_a_folder_made_for_a_lock_goes_when_nothing_came_of_it(tmp_path: Path) -> None:
    lock = tmp_path / "out" / ".lock"
    with pytest.raises(ValueError, match="refused"), hold(lock, "me"):
        raise ValueError("refused")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="late"), hold(lock, "me"):  # noqa: PT012
        write_bytes(lock.parent / "work", b"done")
        raise ValueError("late")
    assert [p.name for p in lock.parent.iterdir()] == ["work"]
    (tmp_path / "given").mkdir()
    with pytest.raises(ValueError, match="refused"), hold(tmp_path / "given" / ".lock", "me"):
        raise ValueError("refused")
    assert list((tmp_path / "given").iterdir()) == [], "the folder was there before, the lock not"
    with hold(lock, "me"):
        pass
    with pytest.raises(ValueError, match="later"), hold(lock, "me"):
        raise ValueError("later")
    assert lock.read_bytes() == b"", "a lock that was there before stays, free"


def test_who_waits_for_a_lock_that_is_removed_takes_a_new_one(tmp_path: Path) -> None:
    """The second opens the lock while the first holds it, and gets it when it is gone."""
    lock = tmp_path / "out" / ".lock"
    waiting, held, go_on = threading.Event(), threading.Event(), threading.Event()
    flock = fcntl.flock

    def noticed(file: Any, how: int) -> None:
        if threading.current_thread() is second and not waiting.is_set():
            waiting.set()
        flock(file, how)

    def take() -> None:
        with hold(lock, "second", wait=True):
            held.set()
            assert go_on.wait(30)

    second = threading.Thread(target=take)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", noticed)
        with pytest.raises(ValueError, match="refused"), hold(lock, "first"):  # noqa: PT012
            second.start()
            assert waiting.wait(30)
            raise ValueError("refused")
        assert held.wait(30)
    assert lock.read_text() == "second"
    with pytest.raises(BusyError, match="by second; wait"), hold(lock, "third"):
        raise AssertionError("two hold one lock")
    go_on.set()
    second.join(30)
    assert lock.parent.is_dir()


def test_failing_and_working_holders_of_one_new_folder_never_meet(tmp_path: Path) -> None:
    lock = tmp_path / "out" / ".lock"
    inside: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            with suppress(ValueError), hold(lock, str(number), wait=True):
                inside.append(number)
                assert inside == [number], "two are inside at once"
                assert lock.is_file()
                inside.clear()
                raise ValueError("refused")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    # Who takes a new lock between the removal of the old one and of the folder did not make the
    # folder, and leaves it; nor the lock, where it was removed only then.
    left = [path.name for path in tmp_path.rglob("*")]
    assert left in ([], ["out"], ["out", ".lock"])


def test_a_lock_below_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write"), hold(tmp_path / "file" / ".lock", "me"):
        raise AssertionError("held")


def test_sums_are_what_sha256sum_reads(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", b="two", a="")
    write_sums(folder)
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert (folder / "SHA256SUMS").read_text() == f"{empty}  a\n{sha256_of(folder / 'b')}  b\n"
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert done.returncode == 0
    assert check_sums(folder) == sha256_of(folder / "SHA256SUMS")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a", None, "a is missing"),
        ("c", "new", "c is not listed"),
        ("a", "One", "a has changed"),
        ("a", "", "a has changed"),
        ("SHA256SUMS", None, "no readable SHA256SUMS"),
        ("SHA256SUMS", "", "a is not listed; b is not listed"),
        ("SHA256SUMS", "nonsense\n", "SHA256SUMS is damaged"),
        ("SHA256SUMS", "0  ../../etc/passwd\n", "../../etc/passwd is missing"),
        ("SHA256SUMS", "0  a\n0  a\n", "SHA256SUMS is damaged"),
        ("SHA256SUMS", "0  a\n0  b\n", "a has changed; b has changed"),
        ("SHA256SUMS", "\0  \0\n", "is missing"),
    ],
)
def test_every_difference_from_the_sums_is_named(
    name: str, content: str | None, message: str, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "folder", a="one", b="two")
    write_sums(folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(ModelError, match=message):
        check_sums(folder)
    with pytest.raises(DataError, match=message):
        check_sums(folder, DataError)


def test_all_problems_are_told_together(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", a="one", b="two")
    write_sums(folder)
    (folder / "a").unlink()
    (folder / "b").write_text("2")
    (folder / "c").write_text("three")
    with pytest.raises(ModelError, match="a is missing; c is not listed; b has changed"):
        check_sums(folder)


def test_a_folder_in_a_files_place_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", a="one")
    write_sums(folder)
    (folder / "a").unlink()
    (folder / "a").mkdir()
    with pytest.raises(ModelError, match="a "):
        check_sums(folder)


def test_sums_of_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no readable SHA256SUMS"):
        check_sums(tmp_path / "nowhere")


def test_every_flipped_bit_of_the_sums_is_noticed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", a="one", b="two")
    write_sums(folder)
    path = folder / "SHA256SUMS"
    whole = path.read_bytes()
    unnoticed = []
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            check_sums(folder)
        except ModelError:
            continue
        unnoticed.append(divmod(bit, 8))
    assert unnoticed == []


@pytest.mark.parametrize("name", ["close", "ftruncate", "fsync", "open", "rename", "replace",
                                  "unlink", "mkdir", "symlink"])  # fmt: skip
def test_a_signal_in_a_call_of_the_system_changes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    """Python repeats ``open``, ``fsync`` and ``ftruncate`` by itself (PEP 475)."""
    real, calls = getattr(os, name), iter(range(10**6))

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if name == "close":
            real(*arguments)  # Linux closes, and says EINTR
        if name == "close" or (name not in ("open", "fsync", "ftruncate") and next(calls) % 2):
            raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
        return None if name == "close" else real(*arguments, **options)

    monkeypatch.setattr(os, name, interrupted)
    for content in (b"old", b"new"):
        with hold(tmp_path / "out" / ".lock", "me"):
            write_bytes(tmp_path / "out" / "sub" / "file", content)
            with scratch_file(tmp_path / "out" / ".staging-1" / "part") as file:
                file.write(content)
            swap_link(tmp_path / "out" / "latest", "sub")
    publish_folder(tmp_path / "out" / ".staging-1", tmp_path / "out" / "run")
    withdraw_folder(tmp_path / "out" / "run", tmp_path / "out")
    monkeypatch.undo()
    assert (tmp_path / "out" / "latest" / "file").read_bytes() == b"new"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".lock", "latest", "sub"]
    proof("P7", "calls that a signal interrupts (EINTR)", 1)


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: Any, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OutputError, match="cannot be locked: No locks"), hold(tmp_path / "l", "me"):
        raise AssertionError("held")


def test_two_writers_of_a_file_do_not_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with writing_to(path) as one:
        one.write(b"one")
        write_bytes(path, b"two")
        assert path.read_bytes() == b"two"
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_storage_that_maps_users_is_told_from_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as NFS with all_squash: what this process creates has another owner."""
    monkeypatch.setattr("charrnn.files._own_uids", {})
    (tmp_path / ".file.tmp").write_bytes(b"left by a kill")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    write_bytes(tmp_path / ".staging-1" / "file", b"new")
    write_bytes(tmp_path / "file", b"new")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".staging-1", "file"]


def test_what_the_system_puts_into_a_folder_is_not_its_content(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", a="one", **{".DS_Store": "x"})
    write_sums(folder)
    assert ".DS_Store" not in (folder / "SHA256SUMS").read_text()
    (folder / "@eaDir").mkdir()
    check_sums(folder)
    assert system_files(folder) == [".DS_Store", "@eaDir"]
    (folder / "other").mkdir()
    with pytest.raises(ModelError, match="other is not listed"):
        check_sums(folder)


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_sums_follow_no_link_and_wait_for_no_fifo(kind: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", a="one")
    write_sums(folder)
    (folder / "a").rename(tmp_path / "a")
    if kind == "link":
        (folder / "a").symlink_to("../a")
    else:
        os.mkfifo(folder / "a")
    with pytest.raises(ModelError, match="a cannot be read"):
        check_sums(folder)


def test_private_blocks_that_overlap_stay_private(tmp_path: Path) -> None:
    one, other = private_files(True), private_files(True)
    before = os.umask(0o022)
    try:
        one.__enter__()
        other.__enter__()
        one.__exit__(None, None, None)
        write_bytes(tmp_path / "private", b"")
        other.__exit__(None, None, None)
        write_bytes(tmp_path / "open", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o644
