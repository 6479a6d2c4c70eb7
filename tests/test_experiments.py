"""The bench of variants pairs the right names, goes on where it stopped; its networks are sound."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from charrnn.corpus import Corpus
from charrnn.model import CharRNN, ModelConfig
from charrnn.vocabulary import LATIN_VOCABULARY

CONFIG = ModelConfig(
    LATIN_VOCABULARY.size, 3, hidden_size=6, embedding_size=4, ngram_buckets=64, dropout=0.0
)


@pytest.fixture
def experiments(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent / "bench")
    return importlib.import_module("experiments")


def test_a_loss_beside_the_logits_adds_its_gradient_and_nothing_else(
    experiments: ModuleType,
) -> None:
    torch.manual_seed(0)
    network = experiments.Foretelling(CONFIG)
    ids, lengths = (
        torch.from_numpy(a) for a in LATIN_VOCABULARY.encode(pa.array(["Katoro", "Li"])).padded()
    )
    labels = torch.tensor([1, 2])
    logits = network(ids, lengths)
    F.cross_entropy(logits, labels).backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.zero_grad()

    hidden = network.forward_rnn(network._inputs(network.forward_rnn, ids.long()), lengths, True)
    plain = network.h2o(hidden[:, -1]) + network.ngrams(ids.long(), lengths)
    assert torch.equal(logits, plain)
    inside = torch.arange(1, ids.shape[1]) < lengths[:, None]
    foretold = network.h2next(hidden[:, :-1])[inside]
    second = F.cross_entropy(foretold, ids.long()[:, 1:][inside])
    (F.cross_entropy(plain, labels) + 0.3 * second).backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, msg=name)
    assert found["h2next.weight"].abs().sum() > 0


def test_what_foretells_is_scored_like_a_network_that_never_did(experiments: ModuleType) -> None:
    network = experiments.Foretelling(CONFIG).eval()
    plain = CharRNN(CONFIG).eval()
    plain.load_state_dict(network.state_dict(), strict=False)
    ids, lengths = (
        torch.from_numpy(a) for a in LATIN_VOCABULARY.encode(pa.array(["Katoro", "Li"])).padded()
    )
    assert torch.equal(network(ids, lengths), plain(ids, lengths))


def answer(bench: object, name: str, seed: int, wrong: int) -> None:
    """Store the logits of fits that are sure and right, but for the first names of every fold."""
    for fold, split in bench.splits.items():  # type: ignore[attr-defined]
        labels = split.validation.label_ids
        logits = 4.0 * np.eye(len(bench.corpus.labels))[labels]  # type: ignore[attr-defined]
        logits[:wrong] = np.roll(logits[:wrong], 1, axis=1)
        path = bench.path(name, fold, seed)  # type: ignore[attr-defined]
        np.savez(path, logits=logits, seconds=2.0, bytes=3000)


def test_a_variant_is_paired_with_the_default_of_the_same_seeds(
    experiments: ModuleType, corpus: Corpus, tmp_path: Path
) -> None:
    bench = experiments.Experiments(corpus, tmp_path)
    variant = experiments.Variant("wider", model={"hidden_size": 192})
    assert bench.line(variant, [0, 1]) == ""
    answer(bench, "default", 0, wrong=2)
    answer(bench, "default", 1, wrong=5)  # has no partner, and must not count
    answer(bench, "wider", 0, wrong=1)
    cells = [cell.strip() for cell in bench.line(variant, [0, 1]).split("|")[1:-1]]
    folds, names = len(bench.splits), len(bench.truth)
    assert cells[:2] == ["wider", "1"]
    assert cells[2] == f"{1 - folds / names:.2%}"
    assert cells[3].startswith(f"{100 * folds / names:+.2f} ± ")
    assert float(cells[6].split(" ± ")[0]) < 0
    assert cells[-3:] == ["3", "", "2"]


def test_fits_that_are_there_are_not_made_again(
    experiments: ModuleType, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = experiments.Experiments(corpus, tmp_path)
    ensemble = experiments.Variant("ensemble of 3", members=3)
    for seed in range(3):
        answer(bench, "default", seed, wrong=seed)
    monkeypatch.setattr(experiments, "fit", None)  # a call would fail
    bench.ensure(ensemble, 0)
    assert bench.answers(ensemble, 0).shape == (len(bench.truth), len(corpus.labels))
    with pytest.raises(TypeError):
        bench.ensure(ensemble, 1)


def test_the_seed_that_answers_was_chosen_on_the_other_names(
    experiments: ModuleType, corpus: Corpus, tmp_path: Path
) -> None:
    bench = experiments.Experiments(corpus, tmp_path)
    pick = experiments.Variant("best of 2", members=2, pick=True)
    for seed in (0, 1):
        answer(bench, "default", seed, wrong=0)
        for fold, split in bench.splits.items():
            labels = split.validation.label_ids
            logits = 4.0 * np.eye(len(corpus.labels))[labels]
            logits[seed::2] = np.roll(logits[seed::2], 1, axis=1)  # wrong on every second name
            np.savez(bench.path("default", fold, seed), logits=logits, seconds=0, bytes=0)
    # Seed 0 is right on odd names, so it is chosen for the even ones, where it is wrong.
    assert not (bench.answers(pick, 0).argmax(axis=1) == bench.truth).any()


def test_names_of_variants_are_different(experiments: ModuleType) -> None:
    names = [variant.name for variant in experiments.VARIANTS]
    assert len(names) == len(set(names))
    assert experiments.VARIANTS[0].fitted_as == names[0] == "default"
