"""The speed benches run, on sizes that measure nothing, and their peers give charrnn's answers."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

from charrnn.scoring.options import ScoreOptions
from charrnn.scoring.scorer import Scorer

BENCH = Path(__file__).parents[1] / "bench"


def bench(name: str) -> Callable[[pytest.MonkeyPatch], ModuleType]:
    """Return a fixture that imports one of the benches."""

    def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        monkeypatch.syspath_prepend(BENCH)
        return importlib.import_module(name)

    return pytest.fixture(module)


common, growth, peers = bench("common"), bench("growth"), bench("peers")


def run(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCH / script), *map(str, arguments)],
        cwd=BENCH.parent.parent, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_peers_are_compared_and_written_to_the_page(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text(
        "# Speed\n\n<!-- peers-zipf: begin -->\nold\n<!-- peers-zipf: end -->\n\nEnd.\n"
    )
    printed = run(
        "peers.py", "--rows", 2000, "--repeat", 1, "--only", "floor", "tiny: charrnn",
        "--corpus", tmp_path / "none.parquet", "--output", tmp_path, "--page", page,
    )  # fmt: skip
    assert "| tiny: charrnn, CSV in | 2,000 |" in printed
    assert "| tiny to our own copy | ≤ 3 |" in printed
    facts = json.loads((tmp_path / "peers-zipf.json").read_text())
    assert facts["agreement"] == {"tiny: charrnn, CSV in": 1}
    assert (tmp_path / "peers-zipf.png").stat().st_size > 10_000
    assert printed.strip() in page.read_text()
    assert "old" not in page.read_text()
    assert page.read_text().endswith("\n\nEnd.\n")


@pytest.mark.slow
def test_growth_is_measured_and_leaves_no_table(tmp_path: Path) -> None:
    printed = run(
        "growth.py", "--max-rows", 10_000, "--only", "rows, tiny",
        "--output", tmp_path, "--page", tmp_path / "speed.md",
    )  # fmt: skip
    assert "| rows, tiny | 10,000 | 10,000 |" in printed
    assert (tmp_path / "growth.png").stat().st_size > 10_000
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".json", ".png"}


def test_plan_scales_what_was_measured(growth: ModuleType) -> None:
    measured = growth.Measured("rows", 10**7, 10**7, 20.0, 35.0, 500.0, 8 * 10**7, 12 * 10**7, 10)
    lines = growth.plan([measured], "2")
    assert lines[2].startswith("| 2 cores, default | 500,000 | 5.6 h | measured on 10,000,000 rows")
    assert lines[4].startswith("| 1 × H200 and 16 cores, default | 8,747,681 | 19 min | measured")
    text = "\n".join(lines)
    assert "80 GB in, 120 GB out" in text
    assert "9,537 partitions" in text


@pytest.mark.parametrize("model", ["pretrained-tiny", "pretrained"])
@pytest.mark.parametrize("kind", ["packed", "onnx", "loop", "inside"])
def test_peers_give_the_same_languages(
    peers: ModuleType, tmp_path: Path, model: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "onnx":
        pytest.importorskip("onnx", reason="the extra bench is not installed")
        pytest.importorskip("onnxruntime", reason="the extra bench is not installed")
    if kind == "loop" and model == "pretrained":
        pytest.skip("the notebook's loop knows no n-grams")
    names = pa.chunked_array([peers.common.made_up_names(np.arange(1000)).to_arrow()])
    scorer, options = Scorer.load(model), ScoreOptions(max_unfamiliarity=1.0)
    expected = scorer.columns(names, options)
    if kind == "inside":
        monkeypatch.setattr("charrnn.scoring.scorer.Engine", peers._PackedEngine)
        found = Scorer.load(model).columns(names, options)
    else:
        peer = peers.Peer(scorer.version, peers.PEERS[kind](scorer.version, tmp_path))
        found = peer.columns(names, options)
    assert found["language"].equals(expected["language"])
    assert found.keys() == expected.keys()
    distance = np.abs(found["confidence"].to_numpy() - expected["confidence"].to_numpy())
    assert distance.max() < 1e-4


@pytest.mark.parametrize("kind", ["sklearn", "fasttext"])
def test_trained_peers_learn_from_the_corpus(
    peers: ModuleType, corpus_path: Path, tmp_path: Path, kind: str
) -> None:
    pytest.importorskip(kind, reason="the extra bench is not installed")
    version = Scorer.load("pretrained").version
    labels = ("Alpha", "Beta", "Gamma")
    peers.TRAINED[kind](corpus_path, tmp_path)
    smaller = replace(version, labels=labels)
    answers = peers.PEERS[kind](smaller, tmp_path)
    names = pa.chunked_array([["Mitashi", "Steinburg", "Evovsk"] * 50])
    found = peers.Peer(smaller, answers).columns(names, ScoreOptions())
    assert found["language"].to_pylist() == list(labels) * 50


def test_made_up_names_do_not_repeat(common: ModuleType) -> None:
    for first in (0, 25_000_000, 51_900_000):
        names = common.all_different(first, 100_000)
        assert names.n_unique() == 100_000
    assert common.all_different(10, 5).to_list() == common.all_different(0, 15).to_list()[10:]


def test_customers_follow_the_law_with_real_names_first(common: ModuleType) -> None:
    names = common.Customers(50_000, ["Ada", "Bea"])(0, 50_000)
    assert set(names.value_counts(sort=True)[:2, 0]) == {"Ada", "Bea"}
    assert 5000 < names.n_unique() < 10_000
