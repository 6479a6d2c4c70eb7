"""What is disturbed: one command each of ingest, train and score, with and without earlier output.

A scene prepares a folder, says what of it a reader can see, and what may be left in the end. The
undisturbed run of its command gives the state every disturbed one must end in.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flat import read_manifest
from harness import Server

from charrnn.files import check_sums
from charrnn.model.version import aliases, list_versions, load_version
from charrnn.runs.verify import verify_run

State = dict[str, str]  # what a reader sees: name → digest of its content
_SYLLABLES = {"Alpha": "ka ro mi ta shi", "Beta": "stein burg mann hof acht"}
_LOCKS = {".lock", ".versions.lock"}


@dataclass(frozen=True)
class Scene:
    """A command in a prepared folder.

    Attributes:
        folder: what a disturbed run starts from; it is copied, never written.
        argv: the command.
        again: the command that goes on after a disturbance.
        old: what is visible before.
        new: what is visible after an undisturbed run.
        operations: what an undisturbed run does, in order.
        more: what else the launcher is told, such as patches.
    """

    name: str
    folder: Path
    argv: tuple[str, ...]
    again: tuple[str, ...]
    old: State
    new: State
    operations: tuple[str, ...]
    more: dict[str, Any]
    seconds: float

    def copy(self, to: Path) -> Path:
        """Return a fresh copy to be disturbed."""
        shutil.rmtree(to, ignore_errors=True)
        return Path(shutil.copytree(self.folder, to, symlinks=True))

    def run(self, server: Server, folder: Path, **more: Any) -> dict[str, Any]:
        """Run the command with a disturbance."""
        return server.run(folder, *self.argv, **self.more, **more)

    def go_on(self, server: Server, folder: Path) -> dict[str, Any]:
        """Run the command that goes on, undisturbed."""
        return server.run(folder, *self.again, **self.more)

    def problems_now(self, folder: Path) -> list[str]:
        """Return what a reader can see that is neither old nor new; reading proves digests."""
        found = visible(self.name, folder)
        possible = self.old.keys() | self.new.keys()
        return [
            f"{key} is neither old nor new"
            for key, value in found.items()
            if key not in possible or value not in (self.old.get(key), self.new.get(key))
        ] + [f"{key} is gone" for key in self.old.keys() - found.keys()]

    def problems_in_the_end(self, folder: Path) -> list[str]:
        """Return how the state after going on differs from an undisturbed run's."""
        found = visible(self.name, folder)
        differing = {k for k in self.new | found if found.get(k) != self.new.get(k)}
        problems = [f"{key} is not what an undisturbed run gives" for key in sorted(differing)]
        return problems + [f"{name} is left over" for name in left_over(folder)]


def build(server: Server, name: str, prior: bool, folder: Path, *, real: bool = False) -> Scene:
    """Prepare a scene: ``ingest``, ``train`` or ``score``, after a ``prior`` run or not; ``real``:
    with nothing patched."""
    argv = _COMMANDS[name]
    more: dict[str, Any] = {}
    if name == "train" and not real:
        # Drawing takes seconds; what counts here is how the pages are written.
        pages = {"model_report": "<p>report</p>", "model_markdown": "# report"}
        more = {"patch": {f"charrnn.reports.model:{k}": {"return": v} for k, v in pages.items()}}
    start = folder / "start"
    _fill(start, "")
    if name == "train":
        assert server.run(start, *_COMMANDS["ingest"])["code"] == 0
    if prior:
        assert server.run(start, *argv, **more)["code"] == 0
        _fill(start, "o")
        if name == "train":
            argv = (*argv, "--seed", "1")
    old = visible(name, start)
    whole = Path(shutil.copytree(start, folder / "whole", symlinks=True))
    done = server.run(whole, *argv, **more, plan={})
    assert done["code"] == 0, done["err"]
    new = visible(name, whole)
    assert new != old
    assert left_over(whole) == []
    again = (*argv, "--resume") if name == "train" else argv
    return Scene(
        name, start, argv, again, old, new, tuple(done["operations"]), more, done["seconds"]
    )


_COMMANDS: dict[str, tuple[str, ...]] = {
    "ingest": ("ingest", "languages", "--target", "data/names.parquet"),
    "train": (
        "train",
        "--data",
        "data/names.parquet",
        "--preset",
        "seed",
        "--epochs",
        "2",
        "--seeds",
        "1",
        "--no-baselines",
        "--device",
        "cpu",
        "--promote",
        "always",
    ),
    "score": (
        "score",
        "people",
        "--model",
        "pretrained-tiny",
        "--partition-rows",
        "31",  # a part for each file
        "--workers",
        "1",
        "--device",
        "cpu",
        "-o",
        "scored.csv",
    ),
}


def _fill(folder: Path, more: str) -> None:
    """Write language files and tables to score; ``more`` makes them other ones."""
    draw = random.Random(more)
    for label, syllables in _SYLLABLES.items():
        names = [
            "".join(draw.choices(syllables.split(), k=3)).capitalize() + more for _ in range(120)
        ]
        path = folder / "languages" / f"{label}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n")
    (folder / "people").mkdir(exist_ok=True)
    for part in range(2):
        rows = [f"{i},{random.Random(f'{part}{i}{more}').choice(names)}" for i in range(30)]
        (folder / "people" / f"{part}.csv").write_text("\n".join(["id,name", *rows, "30,"]) + "\n")


def visible(name: str, folder: Path) -> State:
    """Return what a reader sees, each run and version proven by its own digests."""
    return {"ingest": _tables, "train": _versions, "score": _runs}[name](folder)


def _tables(folder: Path) -> State:
    return {p.name: digest_of(p) for p in _shown(folder / "data")}


def _versions(folder: Path) -> State:
    root = folder / "outputs/models"
    contents = {}
    for name in list_versions(root):
        load_version(root / name)
        facts = json.loads((root / name / "model.json").read_bytes())
        when = facts["facts"]["provenance"].pop("created").encode()  # the pages say it, too
        files = [
            p.read_bytes().replace(when, b"")
            for p in sorted((root / name).iterdir())
            if p.name not in ("model.json", "SHA256SUMS")
        ]
        contents[name] = hashlib.sha256(repr((facts, files)).encode()).hexdigest()
    # A kill after the rename costs the version's number: going on publishes the same once more.
    state = {f"version {digest[:12]}": digest for digest in contents.values()}
    state |= {f"alias {alias}": contents[version] for alias, version in aliases(root).items()}
    return state | {p.name: "" for p in _shown(root) if p.name not in {*contents, "aliases"}}


def _runs(folder: Path) -> State:
    state = runs_below(folder / "outputs/predictions/people")
    if (folder / "scored.csv").exists():
        state["scored.csv"] = digest_of(folder / "scored.csv")
    return state


def runs_below(root: Path, *, latest: bool = True) -> State:
    """Return the runs of a destination, each proven by its own digests; and which is ``latest``."""
    state, fingerprint_of = {}, {}
    for run in _shown(root / "runs"):
        manifest = verify_run(run)
        assert check_sums(run)
        fingerprint_of[run.name] = manifest.fingerprint
        parts = [digest_of(p) for p in sorted(run.glob("rows/part-*.parquet"))]
        lasting = {**manifest.to_json(), "created": "", "seconds": 0, "reused_rows": 0}
        assert f"run {manifest.fingerprint}" not in state, "one run is there twice"
        state[f"run {manifest.fingerprint}"] = repr((lasting, parts))
    if latest and (root / "latest").is_symlink():
        read_manifest(root / "latest")
        state["latest"] = fingerprint_of[(root / "latest").readlink().name]
    return state


def left_over(folder: Path) -> list[str]:
    """Return the hidden files and folders that are no locks: nobody else would remove them."""
    found = (
        p
        for top in ("data", "outputs", ".")
        for p in ((folder / top).rglob(".*") if top != "." else folder.glob(".*"))
    )
    return sorted(str(p.relative_to(folder)) for p in found if p.name not in _LOCKS)


def _shown(folder: Path) -> list[Path]:
    """Return what a folder shows."""
    return sorted(p for p in folder.glob("*") if not p.name.startswith("."))


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
