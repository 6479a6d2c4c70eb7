"""Fixtures: a small invented corpus, a tiny model trained on it, and a table of names."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from calibrations import calibration_of
from commands import Command, commands_of
from flat import score
from model_facts import facts_of
from recording import (  # noqa: F401
    proof,
    pytest_addoption,
    pytest_runtest_logreport,
    pytest_sessionfinish,
)

from charrnn.model.calibration import softmax
from charrnn.model.network import CharRNN
from charrnn.model.version import ModelVersion, save_version
from charrnn.model.vocabulary import GIVEN, Vocabulary
from charrnn.monitoring.profile import validation_profile
from charrnn.training.corpus import Corpus, build_table, load_corpus, write_table
from charrnn.training.label_files import find_label_files
from charrnn.training.presets import PRESETS, with_overrides
from flows.score import app

# Networks of tests are small: two threads wait for each other longer than they work, and on a busy
# machine several times as long.
torch.set_num_threads(1)

# Invented syllables, so that no real list of names is in the repository.
SYLLABLES = {
    "Alpha": ["ka", "ro", "mi", "ta", "shi"],
    "Beta": ["stein", "burg", "mann", "hof", "acht"],
    "Gamma": ["ovsk", "iy", "ev", "aro", "nko"],
}


@pytest.fixture(scope="session")
def language_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three language files, 600 names each, some with accents and duplicates."""
    folder = tmp_path_factory.mktemp("languages")
    for label, syllables in SYLLABLES.items():
        draw = random.Random(label)
        names = [
            "".join(draw.choices(syllables, k=draw.randint(2, 4))).capitalize() for _ in range(600)
        ]
        names[3] = names[3] + "é"
        (folder / f"{label}.txt").write_text("\n".join(names) + "\n")
    return folder


@pytest.fixture(scope="session")
def corpus_path(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "names.parquet"
    write_table(build_table(find_label_files(language_folder)[0]), path)
    return path


@pytest.fixture(scope="session")
def corpus(corpus_path: Path) -> Corpus:
    return load_corpus(corpus_path)


@pytest.fixture(scope="session")
def tiny_version() -> ModelVersion:
    """An untrained, narrow model of four labels: fast, and good enough for plumbing."""
    return tiny_version_of(PRESETS["tutorial"].vocabulary)


@pytest.fixture(scope="session")
def given_version() -> ModelVersion:
    """The same, of a vocabulary that marks given names."""
    vocabulary = PRESETS["tutorial"].vocabulary
    return tiny_version_of(replace(vocabulary, symbols=vocabulary.symbols + GIVEN))


def tiny_version_of(vocabulary: Vocabulary) -> ModelVersion:
    preset = with_overrides(PRESETS["tutorial"], seed=1)
    labels, temperature = ("Alpha", "Beta", "Delta", "Gamma"), 0.2
    config = replace(preset.model_config(4), hidden_size=128, vocabulary_size=vocabulary.size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = CharRNN(config)
    names = [a + b for s in SYLLABLES.values() for a in s for b in s]
    if GIVEN in vocabulary.symbols:
        names += [GIVEN + name for name in names]
    calibration = calibration_of(network, vocabulary, names, ambiguous=["Katoro"])
    encoded = vocabulary.encode(pa.array(names))
    profile = validation_profile(
        labels, softmax(calibration.logits, temperature), encoded.lengths, encoded.unknown,
        np.zeros(len(names), np.int64),
    )  # fmt: skip
    return ModelVersion(
        config=config,
        vocabulary=vocabulary,
        weights=dict(network.state_dict()),
        labels=labels,
        temperature=temperature,
        priors=(0.4, 0.3, 0.1, 0.2),
        calibration=calibration,
        facts=facts_of(labels, profile),
    )


@pytest.fixture(scope="session")
def models(tiny_version: ModelVersion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of model versions with v0001 in it."""
    root = tmp_path_factory.mktemp("models")
    save_version(root, tiny_version)
    return root


@pytest.fixture
def names_table() -> pa.Table:
    """Twelve rows with what real tables have: nulls, empties, duplicates, scripts, other types."""
    names = ["Katoro", "burgmann", None, "", "Катя", "Katoro", "  ", "é" * 300, "12345", "-",
             "Aroevnko", "O’Kashi"]  # fmt: skip
    return pa.table(
        {
            "id": pa.array(range(12), pa.int16()),
            "name": pa.array(names, pa.string()),
            "country": pa.array(["DE", None] * 6).dictionary_encode(),
            "born": pa.array([1990.5] * 12, pa.float32()),
        }
    )


@pytest.fixture
def people(names_table: pa.Table, tmp_path: Path) -> Path:
    """A file of these rows, in three row groups."""
    path = tmp_path / "people.parquet"
    pq.write_table(names_table, path, row_group_size=4)
    return path


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and this process in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def users_folder(working_folder: Path, tiny_version: ModelVersion) -> Path:
    """A folder as users have it: models where the commands look for them."""
    save_version(working_folder / "outputs/models", tiny_version)
    return working_folder


@pytest.fixture
def run_score(models: Path) -> Callable[..., Path]:
    """The score flow on the tiny model, with one worker."""

    def run(source: Path | str, **options: Any) -> Path:
        chosen = {"model": "v0001", "models": models, "device": "cpu", "workers": 1}
        return Path(score(str(source), **{**chosen, **options}))

    return run


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The score command."""
    return commands_of(app, monkeypatch, capsys)
