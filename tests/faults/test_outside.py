"""P11: what others put into a shared folder, under our names, is neither followed nor changed.

Every attack is planted by a process, of another user (``setpriv``) or of the same one; then the
command runs in a process of its own. What the attack aims at must keep its bytes, inode, owner and
mode; the command ends in time, by success or one clear line.
"""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import complaint
from harness import Server, scratch
from recording import Proof

from charrnn.errors import DataError
from charrnn.recipes import runs
from charrnn.recipes.requests import VerifyRequest
from charrnn.runs.verify import verify_run

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="becoming another user needs root"
)
OTHER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
SECONDS = 60  # after which a command hangs
SCORE = (
    "score", "people.csv", "--model", "pretrained-tiny", "--partition-rows", "31", "--workers",
    "1", "--device", "cpu",
)  # fmt: skip
RUNS = "outputs/predictions/people"
PAGES = ("model_report", "model_markdown")  # drawn in seconds


@dataclass(frozen=True)
class Shared:
    """A folder that everybody can write, with a table in it, and a folder of ours beside it."""

    folder: Path
    precious: Path
    staging: str  # name of the staging folder of the run to come

    def plant(self, script: str, *, other: bool) -> None:
        """Run a script as another user, or as this one."""
        values = {"precious": self.precious, "staging": self.staging, "runs": RUNS}
        command = [*(OTHER if other else ()), "sh", "-ec", script.format(**values)]
        subprocess.run(command, cwd=self.folder, check=True)


State = dict[str, tuple[int, int, int, bytes]]


def state_of(folder: Path) -> State:
    """Return inode, owner, mode and bytes of all that is below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = (status.st_ino, status.st_uid, status.st_mode, content)
    return found


@pytest.fixture(scope="module")
def space() -> Iterator[Path]:
    with scratch() as folder:
        folder.chmod(0o711)
        yield folder


@pytest.fixture(scope="module")
def staging(space: Path, server: Server) -> str:
    folder = space / "first"
    folder.mkdir()
    table(folder)
    done = server.run(folder, *SCORE)
    assert done["code"] == 0, done["err"]
    (run,) = (folder / RUNS / "runs").iterdir()
    return f".staging-{verify_run(run).fingerprint[:16]}"


@pytest.fixture
def shared(space: Path, staging: str) -> Iterator[Shared]:
    folder, precious = space / "shared", space / "precious"
    folder.mkdir()
    folder.chmod(0o1777)
    table(folder)
    precious.mkdir(mode=0o755)
    for name in ("letter", "part-00000.parquet", "part-00000.json"):
        (precious / name).write_text(f"my {name}")
    yield Shared(folder, precious, staging)
    shutil.rmtree(folder)
    shutil.rmtree(precious)


def table(folder: Path) -> None:
    rows = "".join(f"{i},Karomi{'ta' * (i % 5)}\n" for i in range(70))
    (folder / "people.csv").write_text("id,name\n" + rows)


def as_others_write(folder: Path) -> None:
    """Make the folders of the destination, writable for everybody, as in a shared project."""
    for part in ("outputs", "outputs/predictions", RUNS):
        (folder / part).mkdir()
        (folder / part).chmod(0o1777)


PLANTED = {
    "a lock that is a link": "ln -s {precious}/letter {runs}/.lock",
    "a lock that is a FIFO": "mkfifo {runs}/.lock",
    "a lock that is a folder": "mkdir {runs}/.lock",
    "a lock that nobody else can open": "touch {runs}/.lock; chmod 600 {runs}/.lock",
    "a staging folder that is a link": "ln -s {precious} {runs}/{staging}",
    "a staging folder": "mkdir {runs}/{staging}; echo x >{runs}/{staging}/part-00000.json",
    "a staging folder that is a FIFO": "mkfifo {runs}/{staging}",
    "another run's staging folder that is a link": "ln -s {precious} {runs}/.staging-0000",
    "another run's staging folder": "mkdir {runs}/.staging-0000; touch {runs}/.staging-0000/x",
    "fetched and purged folders that are links": (
        "ln -s {precious} {runs}/.fetched-0; ln -s {precious} {runs}/.purged-0"
    ),
    "latest on its way, a link": "ln -s {precious} {runs}/.latest.tmp",
    "latest on its way, a FIFO": "mkfifo {runs}/.latest.tmp",
    "an export on its way, a link": "ln -s {precious}/letter .out.csv.tmp",
    "an export on its way, a file": "touch .out.csv.tmp; chmod 666 .out.csv.tmp",
    "an export on its way, a FIFO": "mkfifo .out.csv.tmp",
    "an export on its way, a folder": "mkdir .out.csv.tmp",
    "an export on its way, all names that are tried": (
        "for i in $(seq 0 120); do ln -s {precious}/letter .out.csv.$i.tmp; done; "
        "ln -s {precious}/letter .out.csv.tmp"
    ),
    "an export that is a FIFO": "mkfifo out.csv",
    "an export that is a link": "ln -s {precious}/letter out.csv",
    "a folder of runs that is a link": "ln -s {precious} {runs}/runs",
    "droppings of a NAS": "mkdir {runs}/@eaDir; touch {runs}/.DS_Store {runs}/Thumbs.db",
}


@pytest.mark.parametrize("other", [True, False], ids=["another user's", "one's own"])
@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_planted_in_a_shared_folder_reaches_nothing(
    planted: str, other: bool, shared: Shared, server: Server, proof: Proof
) -> None:
    as_others_write(shared.folder)
    shared.plant(PLANTED[planted], other=other)
    before = state_of(shared.precious)
    done = server.run(shared.folder, *SCORE, "-o", "out.csv", "--private", kill_after=SECONDS)
    after = state_of(shared.precious)
    assert {path: after[path] for path in before} == before
    if planted != "a folder of runs that is a link" or other:
        assert after == before, "something was put there"
    if done["code"]:
        complaint(done["code"], 73, done["err"])
        assert "Errno" not in done["err"]
    else:
        exported = (shared.folder / "out.csv").lstat()
        assert stat.S_ISREG(exported.st_mode)
        assert (exported.st_uid, stat.S_IMODE(exported.st_mode)) == (os.geteuid(), 0o600)
    if other:  # what another user owns is still his
        text = PLANTED[planted]
        for word in (".lock", ".staging-0000", "@eaDir"):
            path = shared.folder / RUNS / word
            if f"/{word}" in text:
                assert path.lstat().st_uid == 65534
    proof("P11", "planted under our names in a shared folder: nothing reached, no hang", 1)


INSIDE = {
    "a receipt that is a link": "ln -sf {precious}/part-00000.json part-00000.json",
    "a receipt that is a FIFO": "rm -f part-00000.json; mkfifo part-00000.json",
    "a part that is a link": "ln -sf {precious}/part-00000.parquet rows/part-00000.parquet",
    "a part that is a FIFO": "cd rows; rm -f part-00000.parquet; mkfifo part-00000.parquet",
    "a manifest that is a link": "ln -s {precious}/letter manifest.json",
    "a manifest on its way, a link": "ln -s {precious}/letter .manifest.json.tmp",
    "sums that are a link": "ln -s {precious}/letter SHA256SUMS",
    "a report that is a hard link": "ln -f {precious}/letter report.html",
    "a staged copy that is a link": "ln -sf {precious}/letter input-00000.arrows",
    "a staged copy that is a FIFO": "rm -f input-00000.arrows; mkfifo input-00000.arrows",
    "droppings of a NAS": "mkdir @eaDir; touch @eaDir/x .DS_Store .nfs0001",
    "a file and a folder of nobody": "mkdir folder; touch folder/x notes.txt",
}


@pytest.mark.parametrize("planted", INSIDE)
def test_what_is_planted_in_a_staging_folder_stops_no_run(
    planted: str, shared: Shared, server: Server, proof: Proof
) -> None:
    undisturbed = server.run(shared.folder, *SCORE, plan={})
    last = max(i for i, o in enumerate(undisturbed["operations"]) if "manifest.json" in o)
    shutil.rmtree(shared.folder / "outputs")
    killed = server.run(shared.folder, *SCORE, plan={"at": last - 5, "do": "kill"})
    assert killed["code"] == -9
    folder = shared.folder / RUNS / shared.staging
    shared.plant(f"cd {folder}; {INSIDE[planted]}", other=False)
    before = state_of(shared.precious)
    done = server.run(shared.folder, *SCORE, kill_after=SECONDS)
    assert done["code"] == 0, done["err"]
    assert state_of(shared.precious) == before
    (run,) = (shared.folder / RUNS / "runs").iterdir()
    verify_run(run)
    assert not any(path.is_symlink() for path in run.rglob("*"))
    found = {path.name.split("-", 2)[2] for path in (shared.folder / RUNS).glob("_found-*")}
    assert found == ({"folder", "notes.txt"} if "nobody" in planted else set())
    proof("P11", "planted in a staging folder: nothing reached, the run is published", 1)


def test_a_private_run_leaves_nothing_that_others_can_read(
    shared: Shared, server: Server, proof: Proof
) -> None:
    """Also what an open run left before: parts, an export half-way, a published run."""
    plan = server.run(shared.folder, *SCORE, "-o", "out.csv", "--private", plan={})["operations"]
    shutil.rmtree(shared.folder / "outputs")
    (shared.folder / "out.csv").unlink()
    stages = [*range(8, len(plan), max(1, len(plan) // 12)), len(plan) - 2]
    for at in stages:
        open_run = server.run(shared.folder, *SCORE, "-o", "out.csv", plan={"at": at, "do": "kill"})
        assert open_run["code"] in (-9, 0)
        copies = list((shared.folder / RUNS).rglob("input-*"))
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in copies)
        for again in ({"at": at, "do": "kill"}, {}):
            server.run(shared.folder, *SCORE, "-o", "out.csv", "--private", plan=again)
            readable = [
                str(path)
                for path in (shared.folder / RUNS).rglob("*")
                if path.is_file() and path.stat().st_mode & 0o077
            ]
            if again == {}:
                assert readable == []
        exported = shared.folder / "out.csv"
        assert stat.S_IMODE(exported.stat().st_mode) == 0o600
        assert not list(shared.folder.rglob(".*.tmp"))
        shutil.rmtree(shared.folder / "outputs")
        exported.unlink()
    proof("P11", "stages at which an open run is killed before a private one", len(stages))


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("ln -s {precious}/letter outputs/models/.versions.lock", "lock"),
        ("ln -s {precious} outputs/models/.staging", "staging"),
        ("ln -s {precious} outputs/models/.training", "training"),
        ("ln -s {precious} outputs/models/aliases", "aliases"),
        ("mkfifo outputs/models/.lock", "lock"),
    ],
)
def test_a_folder_of_models_reaches_nothing_else(
    script: str, name: str, shared: Shared, server: Server, proof: Proof
) -> None:
    (shared.folder / "languages").mkdir()
    for label, syllable in (("Alpha", "ka"), ("Beta", "burg")):
        lines = "".join(f"{syllable.capitalize()}{'ro' * i}mi\n" for i in range(60))
        (shared.folder / "languages" / f"{label}.txt").write_text(lines)
    ingested = server.run(shared.folder, "ingest", "languages", "--target", "names.parquet")
    assert ingested["code"] == 0, ingested["err"]
    (shared.folder / "outputs").mkdir()
    (shared.folder / "outputs/models").mkdir()
    (shared.folder / "outputs/models").chmod(0o1777)
    shared.plant(script, other=True)
    before = state_of(shared.precious)
    done = server.run(
        shared.folder, "train", "--data", "names.parquet", "--preset", "seed", "--epochs", "1",
        "--seeds", "1", "--no-baselines", "--device", "cpu", "--promote", "never",
        kill_after=2 * SECONDS,
        patch={f"charrnn.reports.model:{k}": {"return": "x"} for k in PAGES},
    )  # fmt: skip
    assert state_of(shared.precious) == before
    assert name in complaint(done["code"], 73, done["err"])
    proof("P11", "planted in a folder of models: nothing reached, no hang", 1)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("mkfifo names.parquet", 73),
        ("ln -s {precious}/letter .names.parquet.tmp", 0),
        ("ln -s {precious}/letter .lock", 73),
    ],
)
def test_an_ingest_reaches_nothing_else(
    script: str, code: int, shared: Shared, server: Server, proof: Proof
) -> None:
    (shared.folder / "languages").mkdir()
    for label in ("Alpha", "Beta"):
        names = "".join(f"{label}{'ro' * i}\n" for i in range(60))
        (shared.folder / "languages" / f"{label}.txt").write_text(names)
    shared.plant(script, other=True)
    before = state_of(shared.precious)
    done = server.run(
        shared.folder, "ingest", "languages", "--target", "names.parquet", kill_after=SECONDS
    )
    assert done["code"] == code, done["err"]
    assert state_of(shared.precious) == before
    proof("P11", "planted in the folder of an ingest: nothing reached, no hang", 1)


def test_names_of_every_length_are_exported_or_refused_clearly(
    shared: Shared, server: Server, proof: Proof
) -> None:
    for length, code in ((254, 0), (255, 0), (256, 64)):
        done = server.run(shared.folder, *SCORE, "-o", "x" * (length - 4) + ".csv")
        assert done["code"] == code, done["err"]
        if code:
            assert "too long for a path: at most 255 bytes" in complaint(code, 64, done["err"])
    proof("P7", "exports with names of 254 to 256 bytes", 3)


@pytest.mark.parametrize("script", ["mkdir {runs}/latest", "touch {runs}/latest"])
def test_latest_that_is_no_link_stops_no_run(
    script: str, shared: Shared, server: Server, proof: Proof
) -> None:
    as_others_write(shared.folder)
    shared.plant(script, other=False)
    for _ in range(2):
        done = server.run(shared.folder, *SCORE, "-o", "out.csv")
        assert done["code"] == 0, done["err"]
        assert "latest: it is no link" in done["out"]
        assert (shared.folder / "out.csv").is_file()
        (run,) = (shared.folder / RUNS / "runs").iterdir()
        verify_run(run)
    shared.plant("mv {runs}/latest moved", other=False)
    assert server.run(shared.folder, *SCORE)["code"] == 0
    assert (shared.folder / RUNS / "latest").resolve() == run.resolve()
    proof("P1", "latest that is no link: the run is published and delivered", 1)


def test_a_manifest_that_is_a_fifo_or_a_link_is_passed_over(
    shared: Shared, server: Server, proof: Proof
) -> None:
    as_others_write(shared.folder)
    done = server.run(shared.folder, *SCORE)
    assert done["code"] == 0, done["err"]
    (run,) = (shared.folder / RUNS / "runs").iterdir()
    (run / "manifest.json").rename(shared.folder / "manifest.json")
    for script in ("mkfifo manifest.json", "ln -s ../../../../../manifest.json manifest.json"):
        shared.plant(f"cd {run}; rm -f manifest.json; {script}", other=False)
        done = server.run(shared.folder, *SCORE, "--force", kill_after=SECONDS)
        assert done["code"] == 0, done["err"]
    proof("P11", "old runs whose manifest is a FIFO or a link: passed over", 2)


CRAFTED = """
cd {runs}/runs
mkdir run=99999999T999999Z-aaaaaaaa run=20261324T020000Z-aaaaaaaa run=20261124T020000Z-aaaaaaaa
mkdir notes run=20261124T030000Z-aaaaaaaa run=20261124T040000Z-aaaaaaaa
mkfifo run=20261124T020000Z-aaaaaaaa/manifest.json
echo '{{"schema_version": null}}' > run=20261124T030000Z-aaaaaaaa/manifest.json
head -c 200000 /dev/zero | tr '\\0' '[' > run=20261124T040000Z-aaaaaaaa/manifest.json
ln -s loop loop; ln -s ../.. run=20261124T050000Z-aaaaaaaa; touch run=20261124T060000Z-aaaaaaaa
ln -s {precious} ../.staging-0123456789abcdef; mkdir ../.staging-1123456789abcdef
touch ../.staging-1123456789abcdef/letter; mkdir ../.purged-notes
"""


@pytest.mark.parametrize("other", [False, True])
def test_what_is_only_named_like_a_run_stops_nothing_and_is_named(
    other: bool, shared: Shared, server: Server, proof: Proof
) -> None:
    as_others_write(shared.folder)
    assert server.run(shared.folder, *SCORE)["code"] == 0
    (shared.folder / RUNS / "runs").chmod(0o1777)
    before = state_of(shared.precious)
    shared.plant(CRAFTED, other=other)
    planted = state_of(shared.folder / RUNS / "runs").keys()
    for command in ((*SCORE, "--force"), ("monitor",), ("score", "verify", RUNS),
                    ("score", "purge", "--older-than", "0", "--yes", "--newest")):  # fmt: skip
        done = server.run(shared.folder, *command, kill_after=SECONDS)
        assert done["code"] == 0, done["err"]
        words = {"purge": "left alone: ", "verify": "is whole: "}
        word = next((words[name] for name in words if name in command), "passed over: ")
        assert word in done["out"]
        if "verify" not in command:
            assert "runs/run=20261124T050000Z-aaaaaaaa is " in done["out"]
    damaged = (f"run=20261124T0{hour}0000Z-aaaaaaaa" for hour in (2, 3, 4))
    for name, code in (*((name, 65) for name in damaged), ("notes", 66), ("loop", 65)):
        done = server.run(
            shared.folder, "score", "verify", f"{RUNS}/runs/{name}", kill_after=SECONDS
        )
        complaint(done["code"], code, done["err"])
    assert state_of(shared.precious) == before
    left = state_of(shared.folder / RUNS).keys()
    ours = [path for path in planted if "manifest.json" in path and "aaaaaaaa" not in path]
    assert {path for path in planted if "aaaaaaaa" in path} <= left
    assert not {path for path in ours if path in left}
    if other:
        assert (shared.folder / RUNS / ".staging-1123456789abcdef/letter").exists()
    proof("P11", "folders, links and FIFOs named like runs: named, and nothing is stopped", 7)


def test_verify_says_what_it_passes_over(shared: Shared, server: Server, proof: Proof) -> None:
    assert server.run(shared.folder, *SCORE)["code"] == 0
    (run,) = (shared.folder / RUNS / "runs").iterdir()
    assert runs.verify(VerifyRequest(run=str(run))).passed_over == []
    shared.plant(f"cd {run}; mkdir @eaDir; touch @eaDir/x .DS_Store", other=False)
    assert runs.verify(VerifyRequest(run=str(run))).lines()[1:] == ["passed over .DS_Store, @eaDir"]
    shared.plant(f"touch {run}/notes.txt", other=False)
    with pytest.raises(DataError, match=r"notes\.txt is not listed"):
        runs.verify(VerifyRequest(run=str(run)))
    proof("P15", "what a NAS puts into a published run: passed over and said so", 1)
