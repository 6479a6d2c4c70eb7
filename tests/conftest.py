"""Fixtures: a small invented corpus, a tiny model trained on it, and a table of names."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from recording import (  # noqa: F401
    pytest_addoption,
    pytest_runtest_logreport,
    pytest_sessionfinish,
)

from charrnn.corpus import Corpus, build_table, load_corpus, read_label_files, write_table
from charrnn.familiarity import CharacterModel, name_hashes
from charrnn.inference import logits_of
from charrnn.model import CharRNN
from charrnn.training import PRESETS, with_overrides
from charrnn.versions import Calibration, ModelVersion, save_version

# Invented syllables, so that no real list of names is in the repository.
SYLLABLES = {
    "Alpha": ["ka", "ro", "mi", "ta", "shi"],
    "Beta": ["stein", "burg", "mann", "hof", "acht"],
    "Gamma": ["ovsk", "iy", "ev", "aro", "nko"],
}


@pytest.fixture(scope="session")
def language_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three language files, 200 names each, some with accents and duplicates."""
    folder = tmp_path_factory.mktemp("languages")
    for label, syllables in SYLLABLES.items():
        draw = random.Random(label)
        names = [
            "".join(draw.choices(syllables, k=draw.randint(2, 4))).capitalize() for _ in range(200)
        ]
        names[3] = names[3] + "é"
        (folder / f"{label}.txt").write_text("\n".join(names) + "\n")
    return folder


@pytest.fixture(scope="session")
def corpus_path(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "names.parquet"
    write_table(build_table(read_label_files(language_folder)), path)
    return path


@pytest.fixture(scope="session")
def corpus(corpus_path: Path) -> Corpus:
    return load_corpus(corpus_path)


@pytest.fixture(scope="session")
def tiny_version() -> ModelVersion:
    """An untrained model of four labels: fast, and its answers are as good as any for plumbing."""
    preset = with_overrides(PRESETS["default"], seed=1)
    config = preset.model_config(4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = CharRNN(config)
    names = [a + b for s in SYLLABLES.values() for a in s for b in s]
    encoded = preset.vocabulary.encode(pa.array(names))
    logits = logits_of(network.eval(), encoded)
    return ModelVersion(
        config=config,
        vocabulary=preset.vocabulary,
        weights=dict(network.state_dict()),
        labels=("Alpha", "Beta", "Delta", "Gamma"),
        temperature=0.2,
        priors=(0.4, 0.3, 0.1, 0.2),
        calibration=Calibration(
            logits=logits,
            label_ids=logits.argmax(axis=1),
            characters=CharacterModel.fit(encoded, encoded),
            ambiguous=np.sort(name_hashes(preset.vocabulary.encode(pa.array(["Katoro"])))),
        ),
        facts={"metrics": {"honest": {"test": {}}}, "data_digest": "none"},
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
