"""P10, P15: single bits that flip, in every file of a run and of a model version."""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harness import Server
from recording import Proof
from scenes import Scene

from charrnn.errors import DataError, ModelError
from charrnn.model.version import load_version
from charrnn.runs.verify import verify_run
from charrnn.training.corpus import Corpus, load_corpus

RUN_BITS = "flipped bits of a run, found by verify"
VERSION_BITS = "flipped bits of a model version, refused"
FLIPS = 200
FIELDS = dataclasses.fields(Corpus)


def unnoticed_flips(
    folder: Path, prove: Callable[[Path], object], error: type[Exception], flips: int
) -> list[str]:
    """Flip single bits, at least one tenth of ``flips`` in every file; return the unnoticed."""
    draw, unnoticed = random.Random(folder.name[-8:]), []
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    sizes = [path.stat().st_size for path in paths]
    each = [paths[i % len(paths)] for i in range(flips // 2)]  # small files, too
    for path in [*each, *draw.choices(paths, sizes, k=flips - flips // 2)]:
        whole = path.read_bytes()
        at, bit = draw.randrange(len(whole)), draw.randrange(8)
        damaged = bytearray(whole)
        damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            prove(folder)
            unnoticed.append(f"{path.name} byte {at} bit {bit}")
        except error:
            pass
        path.write_bytes(whole)
    return unnoticed


@pytest.mark.parametrize("prior", [False], ids=["first"])
@pytest.mark.parametrize("name", ["score"])
def test_every_flipped_bit_of_a_run_is_found(
    scene: Scene, server: Server, disturbed: Path, proof: Proof
) -> None:
    assert scene.run(server, scene.copy(disturbed))["code"] == 0
    run = (disturbed / "outputs/predictions/people/latest").resolve()
    assert len([path for path in run.rglob("*") if path.is_file()]) == 6
    assert unnoticed_flips(run, verify_run, DataError, FLIPS) == []
    verify_run(run)
    proof("P15", RUN_BITS, FLIPS)


@pytest.mark.parametrize("prior", [False], ids=["first"])
@pytest.mark.parametrize("name", ["train"])
def test_every_flipped_bit_of_a_version_is_found(
    scene: Scene, server: Server, disturbed: Path, proof: Proof
) -> None:
    assert scene.run(server, scene.copy(disturbed))["code"] == 0
    version = disturbed / "outputs/models/v0001"
    assert len(list(version.iterdir())) == 6
    assert unnoticed_flips(version, load_version, ModelError, FLIPS) == []
    load_version(version)
    proof("P10", VERSION_BITS, FLIPS)


@pytest.mark.parametrize("prior", [False], ids=["first"])
@pytest.mark.parametrize("name", ["ingest"])
def test_no_flipped_bit_of_the_training_table_changes_what_is_read(
    scene: Scene, server: Server, disturbed: Path, proof: Proof
) -> None:
    assert scene.run(server, scene.copy(disturbed))["code"] == 0
    folder = disturbed / "alone"
    folder.mkdir()
    (disturbed / "data/names.parquet").rename(folder / "names.parquet")
    whole = load_corpus(folder / "names.parquet")

    def prove(folder: Path) -> None:
        found = load_corpus(folder / "names.parquet")
        same = [np.array_equal(getattr(found, f.name), getattr(whole, f.name)) for f in FIELDS]
        if all(same):
            raise DataError("a bit that nobody reads")

    assert unnoticed_flips(folder, prove, DataError, FLIPS) == []
    proof("P10", "flipped bits of the training table, refused or without effect", FLIPS)
