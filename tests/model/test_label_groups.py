"""Networks whose labels are divided into groups: thousands of labels at a bounded cost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from charrnn.errors import ConfigError
from charrnn.model.engine import Engine, logits_of
from charrnn.model.facts import Provenance
from charrnn.model.network import CharRNN, ModelConfig
from charrnn.model.version import save_version
from charrnn.model.vocabulary import LATIN_VOCABULARY
from charrnn.scoring.options import ScoreOptions
from charrnn.scoring.scorer import Scorer
from charrnn.training import presets
from charrnn.training.corpus import Corpus
from charrnn.training.label_groups import label_places
from charrnn.training.name_keys import key_hashes, name_keys
from charrnn.training.presets import PRESETS
from charrnn.training.protocol import run_protocol
from charrnn.training.release import make_version

CONFIG = ModelConfig(
    LATIN_VOCABULARY.size, 47, hidden_size=16, embedding_size=8, ngram_buckets=2**10, ngram_rank=8,
    label_groups=7,
)  # fmt: skip


def network_of(config: ModelConfig = CONFIG) -> CharRNN:
    """A network with random weights of some size, and places in no order."""
    torch.manual_seed(0)
    network = CharRNN(config).eval()
    for parameter in network.parameters():
        parameter.detach().normal_(std=0.4)
    network.places.copy_(torch.randperm(config.outputs))
    return network


def names_of(count: int) -> pa.Array:
    draw = np.random.default_rng(0)
    letters = np.array(list("abcdeklmnorst"))
    sizes = draw.integers(1, 12, count)
    return pa.array(["".join(draw.choice(letters, n)) for n in sizes] + ["x" * 300, ""])


def test_the_most_probable_labels_are_those_of_all_logits() -> None:
    network, encoded = network_of(), LATIN_VOCABULARY.encode(names_of(300))
    with torch.inference_mode():
        ids, lengths = map(torch.from_numpy, encoded.padded())
        logits = network(ids, lengths)
    np.testing.assert_allclose(logits_of(network, encoded), logits, atol=2e-5)
    engine = Engine(network, batch_size=64)
    assert (engine.ranks(3), engine.ranks(3, prior=True), engine.ranks(8)) == (True, False, False)
    rows = np.random.default_rng(1).permutation(len(encoded))[:250]
    found, probabilities = engine.ranked(encoded, rows, 3)
    expected = logits.softmax(dim=1)[rows].topk(3)
    np.testing.assert_allclose(probabilities, expected.values, atol=1e-5)
    assert (found == expected.indices.numpy()).mean() > 0.99  # equal ones in any order
    assert not Engine(network_of(replace(CONFIG, none_output=True))).ranks(1)


def test_the_loss_and_the_temperature_are_those_of_the_two_steps() -> None:
    network, encoded = network_of(), LATIN_VOCABULARY.encode(names_of(60))
    ids, lengths = map(torch.from_numpy, encoded.padded())
    targets = torch.arange(len(ids)) % CONFIG.label_count
    with torch.inference_mode():
        logits = network(ids, lengths)
        losses = network.label_losses(ids, lengths.clamp(min=1), targets)
        torch.testing.assert_close(losses, F.cross_entropy(logits, targets, reduction="none"))
        order = network.places.argsort()
        group = logits[:, order[: CONFIG.group_size]].logsumexp(dim=1)  # of the first group
        network.sharpen(2.0)
        halved = network(ids, lengths)[:, order[: CONFIG.group_size]].logsumexp(dim=1)
    torch.testing.assert_close(halved, group / 2)


def test_labels_alike_are_in_one_group() -> None:
    endings = ["ova", "ini", "sen", "escu"]
    names = [f"{a}{b}{endings[i % 4]}" for i in range(16) for a in "bdk" for b in "aeo"]
    label_ids = np.repeat(np.arange(16), 9)
    config = replace(CONFIG, label_count=16, label_groups=4)
    places = label_places(LATIN_VOCABULARY.encode(pa.array(names)), label_ids, config)
    assert sorted(places) == list(range(16))
    groups = places // 4
    assert all(len(set(groups[i::4].tolist())) == 1 for i in range(4))


def test_groups_must_fit_the_outputs_and_the_table() -> None:
    for wrong in ({"label_groups": 48}, {"ngram_rank": 0}):
        with pytest.raises(ConfigError, match="label_groups must be ≤ 47 outputs"):
            replace(CONFIG, **wrong)


def test_a_model_of_many_labels_scores_the_same_with_and_without_all_probabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets, "LARGE_LABELS", 5)
    monkeypatch.setattr(presets, "MANY_LABELS", 10)
    names = names_of(900).slice(0, 900).cast(pa.large_string())
    keys = name_keys(names)
    corpus = Corpus(
        names=names,
        normalised=keys,
        label_ids=np.array([sum(map(ord, n)) % 12 for n in names.to_pylist()], np.int32),
        folds=(key_hashes(keys) % 10).astype(np.int8),
        weights=np.ones(900, np.float32),
        labels=tuple(f"l{i:02d}" for i in range(12)),
        digest="0" * 64,
        outliers=pa.array([], pa.large_string()),
        outlier_folds=np.zeros(0, np.int8),
        counted=True,
    )
    preset = PRESETS["default"].settled(corpus)
    assert preset.model["label_groups"] == 3
    small = {"hidden_size": 16, "embedding_size": 8, "ngram_buckets": 2**10, "ngram_rank": 8}
    preset = replace(preset, model=preset.model | small, train=replace(preset.train, epochs=2))
    result = run_protocol(corpus, preset, "honest")
    assert result.temperature == 1
    version = make_version(corpus, preset, result, [], {}, Provenance("2026-01-01", "cpu", 1, {}))
    scorer = Scorer(save_version(tmp_path, version))
    short, full = (
        scorer.predict(corpus.names, ScoreOptions(top_k=3, probabilities=every))
        for every in (False, True)
    )
    np.testing.assert_allclose(short.confidence, full.confidence, atol=1e-6)
    assert (short.ranked == full.ranked).mean() > 0.99
    assert np.allclose(full.probabilities.sum(axis=1), 1)
    with pytest.raises(ConfigError, match="12 labels in groups"):
        scorer.explain("kato")
