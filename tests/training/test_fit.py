"""Fitting: it learns, it repeats itself bit for bit, it resumes, and it stops when it must."""

import json
import math
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from charrnn.errors import CharrnnError, ConfigError, DataError
from charrnn.model.calibration import softmax
from charrnn.model.engine import logits_of
from charrnn.model.facts import EpochRecord
from charrnn.model.network import CharRNN, ModelConfig
from charrnn.model.vocabulary import LATIN_VOCABULARY, SEED_VOCABULARY
from charrnn.training.batches import Batch, SoftLabels, sparse_data
from charrnn.training.fit import (
    Checkpoint,
    FitResult,
    _learning_rate,
    fit,
    fitted_network,
)
from charrnn.training.presets import PRESETS, TrainConfig, with_overrides
from charrnn.training.splits import Examples
from charrnn.training.state import TrainingModel, TrainingState

NAMES = [
    "Katoro", "Romita", "Shimika", "Tamiro", "Mikata", "Burgmann", "Hofstein", "Achtburg",
    "Steinhof", "Mannacht", "Ovskaro", "Nkoev", "Aroiy", "Evnko", "Iyaro", "O’Kashi", "Ákata",
    "van Hof", "Li", "Xq",
]  # fmt: skip
EXAMPLES = Examples.of(NAMES, np.array([i % 4 for i in range(20)], np.int64))
HELD_OUT = Examples.of(["Katami", "Hofburg", "Ovskev", "Aronko"], np.array([0, 1, 2, 3], np.int64))
CONFIG = ModelConfig(
    LATIN_VOCABULARY.size, 4, hidden_size=12, embedding_size=8, ngram_buckets=64, dropout=0.2,
    input_dropout=0.1, ngram_dropout=0.1,
)  # fmt: skip
TRAIN = TrainConfig(
    epochs=5, batch_size=6, learning_rate=1e-2, weight_decay=0.01, schedule="one_cycle",
    clip_norm=1.0, seed=7,
)  # fmt: skip


def fit_small(
    train: TrainConfig = TRAIN,
    examples: Examples = EXAMPLES,
    checkpoint: Path | None = None,
    identity: str = "",
    resume: bool = False,
    **options: object,
) -> FitResult:
    file = checkpoint and Checkpoint(checkpoint, identity, resume)
    return fit(CONFIG, train, LATIN_VOCABULARY, examples, checkpoint=file, **options)


def assert_same_bits(first: FitResult, second: FitResult) -> None:
    assert first.history == second.history
    assert first.best_epoch == second.best_epoch
    theirs = second.network.state_dict()
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def stop_after(epoch: int) -> Callable[[EpochRecord], None]:
    def stop(record: EpochRecord) -> None:
        if record.epoch == epoch:
            raise KeyboardInterrupt

    return stop


def test_a_tiny_network_memorises_twenty_names() -> None:
    config = ModelConfig(SEED_VOCABULARY.size, 4, hidden_size=32)
    train = TrainConfig(epochs=60, batch_size=5, learning_rate=1e-2)
    found = fit(config, train, SEED_VOCABULARY, EXAMPLES)
    logits = logits_of(found.network, SEED_VOCABULARY.encode(pa.array(NAMES)))
    assert logits.argmax(axis=1).tolist() == EXAMPLES.label_ids.tolist()
    assert found.history[-1].loss < 0.1 < found.history[0].loss
    assert [record.epoch for record in found.history] == list(range(1, 61))


def test_the_fitted_network_is_ready_to_score() -> None:
    found = fit_small()
    assert not found.network.training
    assert found.network.config == CONFIG
    assert found.network.h2o.weight.device.type == "cpu"


def test_one_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    first = fit_small()
    assert_same_bits(first, fit_small())
    other = fit_small(replace(TRAIN, seed=8))
    assert not torch.equal(first.network.h2o.weight, other.network.h2o.weight)


def test_neighbouring_seeds_start_and_shuffle_differently() -> None:
    starts = {fit_small(replace(TRAIN, epochs=1, seed=s)).history[0].loss for s in range(6)}
    assert len(starts) == 6


def test_fitting_leaves_the_global_generator_alone() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        before = torch.random.get_rng_state()
        fit_small(validation=HELD_OUT)
        assert torch.equal(torch.random.get_rng_state(), before)


def test_the_global_generator_does_not_change_the_fit() -> None:
    first = fit_small()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        assert_same_bits(first, fit_small())


@pytest.mark.parametrize(
    ("changes", "stopped"),
    [
        ({}, 3),
        ({"keep_best": True}, 1),
        ({"keep_best": True}, 4),
        ({"next_character": 1.0}, 3),
        *[({"epochs": 2, "sparse": True, "round_size": 8}, n) for n in (1, 3, 4)],  # 3 a pass
    ],
    ids=str,
)
def test_a_resumed_fit_ends_with_the_same_bits(
    stopped: int, changes: dict[str, object], tmp_path: Path
) -> None:
    train = replace(TRAIN, **changes)
    options = {"validation": HELD_OUT, "identity": "this run"}
    expected = fit_small(train, **options)
    options["checkpoint"] = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        fit_small(train, on_epoch=stop_after(stopped), **options)
    again: list[int] = []
    found = fit_small(train, resume=True, on_epoch=lambda r: again.append(r.epoch), **options)
    assert again == list(range(stopped + 1, len(expected.history) + 1))
    assert_same_bits(found, expected)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


def test_a_sparse_step_changes_only_the_rows_of_the_batch() -> None:
    state = TrainingState(CONFIG, replace(TRAIN, sparse=True), torch.device("cpu"), CharRNN)
    data = sparse_data(
        LATIN_VOCABULARY, EXAMPLES, CONFIG, state.model.train_config, torch.device("cpu")
    )
    batch = data.batch(torch.tensor([18]))  # Li
    state.step(batch, 1e-2)
    table = state.network.ngrams
    assert table is not None
    own = torch.cat(table.buckets(batch.ids.long()), dim=1).unique()
    changed = table.weight.any(dim=1).nonzero()[:, 0]
    assert 0 < len(changed) < len(table.weight)
    assert set(changed.tolist()) <= set(own.tolist())


def test_the_epochs_of_a_pass_have_every_name_once_in_batches_of_one_length() -> None:
    train = replace(TRAIN, sparse=True, round_size=100)
    names = [name[:n] for name in NAMES for n in range(1, len(name) + 1)] * 2
    examples = Examples.of(names, [0] * len(names))
    data = sparse_data(LATIN_VOCABULARY, examples, CONFIG, train, torch.device("cpu"))
    epochs = [data.batches(train, epoch) for epoch in range(1, data.rounds + 1)]
    assert data.rounds > 1
    batches = [rows for epoch in epochs for rows in epoch]
    assert sorted(torch.cat(batches).tolist()) == list(range(len(names)))
    assert all(len(np.unique(data.encoded.lengths[rows.numpy()])) == 1 for rows in batches)
    assert [b.tolist() for b in epochs[0]] == [b.tolist() for b in data.batches(train, 1)]


def test_a_name_of_weight_three_counts_like_three_names() -> None:
    weights = np.array([3, 1, 1, 1] * 5, np.float32)
    train = replace(TRAIN, sparse=True)
    model = TrainingState(CONFIG, train, torch.device("cpu"), CharRNN).model.eval()

    def loss_of(examples: Examples) -> float:
        data = sparse_data(LATIN_VOCABULARY, examples, CONFIG, train, torch.device("cpu"))
        losses = [
            model.losses(data.batch(torch.tensor([i])))[1] for i in range(len(data.label_ids))
        ]
        return torch.stack(losses).mean().item()

    repeated = np.repeat(np.arange(20), weights.astype(np.int64))
    expected = Examples.of([NAMES[i] for i in repeated], EXAMPLES.label_ids[repeated])
    weighted = Examples.of(NAMES, EXAMPLES.label_ids, weights=weights)
    assert loss_of(weighted) == pytest.approx(loss_of(expected), rel=1e-5)


def test_a_fit_stops_when_validation_has_not_improved_for_some_epochs() -> None:
    wrong = Examples.of(NAMES, (EXAMPLES.label_ids + 1) % 4)  # the more it learns, the worse
    train = replace(TRAIN, epochs=40, sparse=True, patience=2, keep_best=True, ngram_rate=20.0)
    found = fit_small(train, validation=wrong)
    assert found.best_epoch == len(found.history) - 2 < 38


def test_resuming_a_finished_fit_returns_it(tmp_path: Path) -> None:
    expected = fit_small(checkpoint=tmp_path / "checkpoint")
    found = fit_small(checkpoint=tmp_path / "checkpoint", resume=True, on_epoch=stop_after(5))
    assert_same_bits(found, expected)


def test_resuming_without_a_checkpoint_starts_at_the_beginning(tmp_path: Path) -> None:
    assert_same_bits(fit_small(checkpoint=tmp_path / "checkpoint", resume=True), fit_small())


def test_not_resuming_starts_over(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit_small(checkpoint=tmp_path / "checkpoint", on_epoch=stop_after(2), identity="old")
    found = fit_small(checkpoint=tmp_path / "checkpoint", identity="new")
    assert_same_bits(found, fit_small())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a checkpoint after two epochs, of identity ``this``."""
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        fit_small(checkpoint=path, on_epoch=stop_after(2), identity="this")
    return path.read_bytes()


def test_a_checkpoint_of_something_else_is_refused(checkpoint: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(checkpoint)
    with pytest.raises(ConfigError, match="belongs to other data, another preset or another seed"):
        fit_small(checkpoint=path, identity="that", resume=True)
    assert path.read_bytes() == checkpoint


@pytest.mark.parametrize("case", ["empty", "cut short", "half", "text", "no state", "other state"])
def test_a_damaged_checkpoint_is_refused(case: str, checkpoint: bytes, tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"state": "{}"} if case == "other state" else {}})
    bare = struct.pack("<Q", len(header)) + header.encode()
    content = {
        "empty": b"",
        "cut short": checkpoint[:-1],
        "half": checkpoint[: len(checkpoint) // 2],
        "text": b"not a checkpoint",
        "no state": bare,
        "other state": bare,
    }[case]
    path = tmp_path / "checkpoint"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a readable checkpoint; train without resuming"):
        fit_small(checkpoint=path, identity="this", resume=True)


def test_a_checkpoint_with_a_flipped_bit_is_refused(checkpoint: bytes, tmp_path: Path) -> None:
    path, draw, accepted = tmp_path / "checkpoint", random.Random(0), []
    places = [draw.randrange(600) for _ in range(15)]  # digest and header
    places += [draw.randrange(len(checkpoint)) for _ in range(15)]
    for at in places:
        data = bytearray(checkpoint)
        data[at] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        try:
            fit_small(checkpoint=path, identity="this", resume=True)
        except (DataError, ConfigError):
            continue
        except Exception as error:
            accepted.append((at, type(error).__name__))
        else:
            accepted.append((at, "no error"))
    assert accepted == []


def test_the_epoch_of_lowest_validation_nll_is_kept() -> None:
    # Few examples and a high rate: validation gets worse again.
    train = TrainConfig(epochs=15, batch_size=5, learning_rate=3e-2, keep_best=True, seed=1)
    found = fit_small(train, validation=HELD_OUT)
    losses = [record.validation_nll for record in found.history]
    assert found.best_epoch == 1 + int(np.argmin(losses)) < 15
    shorter = replace(train, epochs=found.best_epoch, keep_best=False)
    expected = fit_small(shorter, validation=HELD_OUT)
    assert torch.equal(found.network.h2o.weight, expected.network.h2o.weight)
    last = fit_small(replace(train, keep_best=False), validation=HELD_OUT)
    assert last.best_epoch == 15
    assert last.history == found.history


def test_a_validation_nll_of_zero_is_the_best_there_is() -> None:
    # One label only: the first epochs drive its probability to exactly 1.
    one = Examples.of(NAMES, np.zeros(20, np.int64))
    train = TrainConfig(epochs=6, batch_size=5, learning_rate=5.0, keep_best=True)
    found = fit_small(train, one, validation=one)
    losses = [record.validation_nll for record in found.history]
    assert losses.count(0.0) > 1
    assert found.best_epoch == 1 + losses.index(0.0)


def test_validation_is_reported_but_does_not_change_the_weights() -> None:
    plain, watched = fit_small(), fit_small(validation=HELD_OUT)
    assert torch.equal(plain.network.h2o.weight, watched.network.h2o.weight)
    assert [r.loss for r in plain.history] == [r.loss for r in watched.history]
    assert {r.validation_nll for r in plain.history} == {None}
    for record in watched.history:
        assert record.validation_nll is not None
        assert record.validation_nll > 0
        assert record.validation_accuracy in (0, 0.25, 0.5, 0.75, 1)


def test_an_empty_validation_part_is_no_validation() -> None:
    nobody = Examples.of([], np.array([], np.int64))
    assert_same_bits(fit_small(validation=nobody), fit_small())


def test_a_loss_that_is_not_finite_stops_the_fit(tmp_path: Path) -> None:
    train = TrainConfig(epochs=3, batch_size=5, learning_rate=3e37)
    with pytest.raises(CharrnnError, match=r"not a finite number in epoch 1; .*lower learning"):
        fit_small(train, checkpoint=tmp_path / "checkpoint")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("vocabulary", [SEED_VOCABULARY, LATIN_VOCABULARY], ids=["seed", "latin"])
def test_examples_without_a_character_can_be_fitted(vocabulary: object) -> None:
    config = ModelConfig(vocabulary.size, 2, hidden_size=4)  # type: ignore[attr-defined]
    examples = Examples.of(["", "Katoro", "\u200b"], np.array([0, 1, 0], np.int64))
    found = fit(config, TrainConfig(epochs=2), vocabulary, examples, validation=examples)  # type: ignore[arg-type]
    assert all(math.isfinite(r.loss) and math.isfinite(r.validation_nll) for r in found.history)


@pytest.mark.parametrize(
    "changes",
    [{"by_length": True}, {"logit_adjustment": 0.5}, {"beta2": 0.9}, {"next_character": 0.5}],
)
def test_every_option_of_a_recipe_changes_the_fit(changes: dict[str, object]) -> None:
    found = fit_small(replace(TRAIN, **changes))
    assert not torch.equal(found.network.h2o.weight, fit_small().network.h2o.weight)
    assert_same_bits(found, fit_small(replace(TRAIN, **changes)))


def test_logit_adjustment_favours_the_rare_label() -> None:
    # 16 to 4, and the names say nothing: the adjusted loss gives the rare label more.
    skewed = Examples.of(["Lee"] * 20, np.array([0] * 16 + [1] * 4, np.int64))
    config = ModelConfig(LATIN_VOCABULARY.size, 2, hidden_size=4)
    shares = []
    for strength in (0.0, 1.0):
        train = TrainConfig(
            epochs=150, batch_size=20, learning_rate=3e-2, logit_adjustment=strength
        )
        network = fit(config, train, LATIN_VOCABULARY, skewed).network
        logits = logits_of(network, LATIN_VOCABULARY.encode(pa.array(["Lee"])))
        shares.append(float(softmax(logits)[0, 1]))
    assert shares == pytest.approx([0.2, 0.5], abs=0.02)


def test_the_next_character_loss_shapes_the_states_and_its_head_is_discarded() -> None:
    config = replace(CONFIG, ngram_buckets=0, dropout=0.0, input_dropout=0.0)
    networks = []
    for weight in (0.0, 3.0):
        train = replace(TRAIN, epochs=40, learning_rate=1e-2, next_character=weight)
        networks.append(fit(config, train, LATIN_VOCABULARY, EXAMPLES).network)
    assert networks[0].state_dict().keys() == networks[1].state_dict().keys()
    # How much of the next character a linear model can read off the states.
    ids, lengths = LATIN_VOCABULARY.encode(pa.array(NAMES)).padded()
    inside = torch.arange(1, ids.shape[1]) < torch.from_numpy(lengths)[:, None]
    following = torch.nn.functional.one_hot(torch.from_numpy(ids).long()[:, 1:][inside]).double()
    left = []
    for network in networks:
        with torch.no_grad():
            states, _ = network.states_and_logits(torch.from_numpy(ids), torch.from_numpy(lengths))
        own = states[:, :-1][inside].double()
        inputs = torch.cat((own, torch.ones(len(own), 1, dtype=torch.double)), dim=1)
        found = torch.linalg.lstsq(inputs, following).solution
        left.append(float((inputs @ found - following).square().mean()))
    assert left[1] < 0.9 * left[0]


def test_the_second_task_is_the_mean_loss_of_the_characters_that_follow() -> None:
    config = replace(CONFIG, dropout=0.0, input_dropout=0.0, ngram_dropout=0.0)
    model = TrainingModel(CharRNN(config), replace(TRAIN, next_character=0.3))
    names = ["Katoro", "Li", "K"]
    ids, lengths = (torch.from_numpy(a) for a in LATIN_VOCABULARY.encode(pa.array(names)).padded())
    targets = torch.tensor([1, 2, 0])
    none = torch.zeros(config.label_count)
    objective, labels = model.losses(Batch(ids, lengths, targets, none))

    torch.testing.assert_close(
        labels, torch.nn.functional.cross_entropy(model.network(ids, lengths), targets)
    )
    surprises = []
    for name in names:
        own = torch.from_numpy(LATIN_VOCABULARY.encode(pa.array([name])).padded()[0]).long()
        states = model.network.states_and_logits(own)[0][0]
        for t in range(own.shape[1] - 1):
            surprises.append(-model.h2next(states[t]).log_softmax(dim=0)[own[0, t + 1]])
    torch.testing.assert_close(objective, labels + 0.3 * torch.stack(surprises).mean())


def test_names_of_one_symbol_have_no_next_character() -> None:
    config = ModelConfig(SEED_VOCABULARY.size, 2, hidden_size=4)
    examples = Examples.of(["", "K", "a"], np.array([0, 1, 0], np.int64))
    train = TrainConfig(epochs=2, next_character=1.0)
    found = fit(config, train, SEED_VOCABULARY, examples)
    assert all(math.isfinite(record.loss) for record in found.history)
    plain = fit(config, replace(train, next_character=0.0), SEED_VOCABULARY, examples)
    assert [r.loss for r in found.history] == [r.loss for r in plain.history]


def test_a_teachers_probabilities_are_learned_beside_the_labels() -> None:
    base = Examples.of(["Katoro", "Burgmann"], np.array([0, 1], np.int64))
    soft_labels = SoftLabels(
        ["Ovskev"] * 10, np.array([[0.1, 0.2, 0.3, 0.4]] * 10, np.float32), per_epoch=4
    )
    config = ModelConfig(LATIN_VOCABULARY.size, 4, hidden_size=16)
    train = TrainConfig(epochs=150, batch_size=6, learning_rate=1e-2)
    found = fit(config, train, LATIN_VOCABULARY, base, soft_labels=soft_labels)
    names = pa.array(["Katoro", "Burgmann", "Ovskev"])
    probabilities = softmax(logits_of(found.network, LATIN_VOCABULARY.encode(names)))
    np.testing.assert_allclose(probabilities[2], [0.1, 0.2, 0.3, 0.4], atol=0.05)
    assert probabilities[:2].argmax(axis=1).tolist() == [0, 1]
    assert probabilities[:2].max(axis=1).min() > 0.9


def test_a_fit_with_a_teacher_resumes_to_the_same_bits(tmp_path: Path) -> None:
    shares = np.full((12, 4), 0.25, np.float32)
    options = {"soft_labels": SoftLabels([f"Ka{'ro' * i}" for i in range(12)], shares, per_epoch=5)}
    train = replace(TRAIN, by_length=True, logit_adjustment=0.2)
    expected = fit_small(train, **options)
    options["checkpoint"] = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        fit_small(train, on_epoch=stop_after(2), **options)
    assert_same_bits(fit_small(train, resume=True, **options), expected)


def test_no_examples_are_refused() -> None:
    with pytest.raises(DataError, match="no training examples"):
        fit_small(examples=Examples.of([], np.array([], np.int64)))


def test_a_constant_rate_is_constant() -> None:
    train = TrainConfig(learning_rate=0.5)
    assert {_learning_rate(train, step, 40) for step in range(40)} == {0.5}


def test_one_cycle_rises_for_a_quarter_and_falls_to_its_floor() -> None:
    train = TrainConfig(learning_rate=0.5, schedule="one_cycle")
    rates = [_learning_rate(train, step, 40) for step in range(41)]
    assert rates[0] == pytest.approx(0.05)
    assert rates[9] == rates[10] == max(rates) == 0.5
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[25] == pytest.approx(0.25)
    assert rates[40] == pytest.approx(0.5 * 0.002)
    assert rates[40] < rates[39] < 0.002


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_one_cycle_works_for_very_few_steps(steps: int) -> None:
    train = TrainConfig(learning_rate=0.5, schedule="one_cycle")
    rates = [_learning_rate(train, step, steps) for step in range(steps)]
    assert rates[0] == 0.5
    assert all(0 <= rate <= 0.5 for rate in rates)


def test_weights_go_into_a_network_that_scores() -> None:
    weights = dict(fit_small().network.state_dict())
    network = fitted_network(CONFIG, weights)
    assert not network.training
    assert torch.equal(network.state_dict()["h2o.bias"], weights["h2o.bias"])


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": -1.0},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"weight_decay": -0.1},
        {"clip_norm": -1.0},
        {"seed": -1},
        {"schedule": "cosine"},
        {"beta2": 1.0},
        {"beta2": -0.1},
        {"logit_adjustment": -0.1},
        {"next_character": -0.1},
    ],
    ids=str,
)
def test_impossible_training_options_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        TrainConfig(**changes)


def test_overrides_replace_what_is_given_and_nothing_else() -> None:
    preset = with_overrides(PRESETS["tutorial"], epochs=3, seed=None)
    assert preset.train == replace(PRESETS["tutorial"].train, epochs=3)
    assert (preset.name, preset.model) == ("tutorial", PRESETS["tutorial"].model)
    with pytest.raises(ConfigError):
        with_overrides(PRESETS["tutorial"], epochs=0)


def test_the_seed_preset_is_the_notebooks_recipe() -> None:
    seed = PRESETS["seed"]
    assert seed.vocabulary == SEED_VOCABULARY
    assert seed.model_config(18) == ModelConfig(58, 18, hidden_size=128)
    assert (seed.train.epochs, seed.train.batch_size, seed.train.learning_rate) == (27, 64, 1e-3)
    assert (seed.train.schedule, seed.train.weight_decay) == ("constant", 0)
