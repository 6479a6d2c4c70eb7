"""The bench of variants pairs the right names, goes on where it stopped; its networks are sound."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from charrnn.training.corpus import Corpus


@pytest.fixture
def experiments(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "bench")
    return importlib.import_module("experiments")


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
