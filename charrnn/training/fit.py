"""Fit a ``CharRNN`` to examples."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from charrnn.errors import CharrnnError, DataError
from charrnn.model.calibration import LabelIds, negative_log_likelihood, softmax
from charrnn.model.engine import logits_of
from charrnn.model.facts import EpochRecord
from charrnn.model.network import CharRNN, ModelConfig, from_stored, to_stored
from charrnn.model.vocabulary import Encoded, Vocabulary
from charrnn.training.batches import (
    SoftLabels,
    SparseData,
    TrainingData,
    sparse_data,
    training_data,
)
from charrnn.training.label_groups import label_places
from charrnn.training.presets import TrainConfig
from charrnn.training.splits import Examples, evenly_spaced
from charrnn.training.state import TrainingState, epoch_seed

_MOST_VALIDATED = 20_000  # names of a large table: the accuracy is known to 0.3 points
_MOST_LOGITS = 2**24  # of them


@dataclass(frozen=True)
class FitResult:
    """A fitted network, in ``eval`` mode on the CPU, with one record per epoch; ``best_epoch`` is
    the epoch whose weights it has."""

    network: CharRNN
    history: tuple[EpochRecord, ...]
    best_epoch: int


@dataclass(frozen=True)
class Checkpoint:
    """A file that is rewritten after every epoch.

    Attributes:
        identity: digest of data, recipe and protocol; a checkpoint of another one is refused.
        resume: continue from the file where it exists.
    """

    path: Path
    identity: str = ""
    resume: bool = False


def fit(
    config: ModelConfig,
    train: TrainConfig,
    vocabulary: Vocabulary,
    examples: Examples,
    *,
    validation: Examples | None = None,
    soft_labels: SoftLabels | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    on_names: Callable[[int, int], None] = lambda done, left: None,
    build: Callable[[ModelConfig], CharRNN] = CharRNN,
) -> FitResult:
    """Fit a network to ``examples``. Same arguments, same bits, on one machine and thread count.

    Args:
        validation: examples that choose the epoch (``keep_best``, ``patience``) and are reported
            on; of a large table's a sample, which bounds memory.
        soft_labels: further examples, with a teacher's probabilities instead of a label.
        checkpoint: None writes none.
        on_epoch: called after every epoch, once the checkpoint is written.
        on_names: called after every step with the number of names that the fit has read, and how
            many are left, about, where it does not stop early.
        build: makes the network; other than ``CharRNN`` in experiments.

    Raises:
        CharrnnError: the loss is no longer a finite number.
        ConfigError, DataError: the checkpoint is damaged or of another run.
        DataError: there are no examples.
    """
    if not len(examples.names):
        raise DataError("there are no training examples")
    state = TrainingState(config, train, torch.device(device), build)
    if checkpoint is not None and checkpoint.resume and checkpoint.path.exists():
        state.load(checkpoint.path, checkpoint.identity)
    if train.sparse:
        data: TrainingData | SparseData = sparse_data(
            vocabulary, examples, config, train, torch.device(device)
        )
    else:
        data = training_data(
            vocabulary,
            examples,
            soft_labels,
            config,
            torch.device(device),
            merge_shared=train.merge_shared,
        )
    if config.label_groups and isinstance(data, SparseData) and not state.history:
        places = label_places(data.encoded, data.label_ids, config)
        state.network.places.copy_(torch.from_numpy(places))
    if validation and train.sparse:
        most = min(_MOST_VALIDATED, _MOST_LOGITS // config.outputs)
        validation = validation.take(evenly_spaced(len(validation.names), most))
    encoded = vocabulary.encode(validation.names) if validation else None
    for epoch in range(len(state.history) + 1, train.epochs * data.rounds + 1):
        earlier = [r.validation_nll for r in state.history if r.validation_nll is not None]
        if train.patience and earlier and len(earlier) - 1 - np.argmin(earlier) >= train.patience:
            break
        loss = _one_epoch(state, train, epoch, data, on_names)
        nll, accuracy = None, None
        if validation is not None and encoded is not None and len(encoded):
            nll, accuracy = _validate(state.network, encoded, validation.label_ids)
        record = EpochRecord(epoch, loss, nll, accuracy)
        state.history.append(record)
        if not train.keep_best or nll is None or nll < min(earlier, default=math.inf):
            state.keep_weights()
        if checkpoint is not None:
            state.save(checkpoint.path, checkpoint.identity)
        on_epoch(record)
    weights = without_rare_ngrams(state.best, state.network, data, train.least_names)
    network = fitted_network(config, weights, build)
    return FitResult(network, tuple(state.history), state.best_epoch)


def without_rare_ngrams(
    weights: dict[str, Tensor], network: CharRNN, data: TrainingData | SparseData, least: int
) -> dict[str, Tensor]:
    """Return weights in which n-grams that occur fewer than ``least`` times in the labelled
    examples have none."""
    if network.ngrams is None or least == 1:
        return weights
    counts = torch.zeros(len(network.ngrams.weight), dtype=torch.int64)
    for ids in data.ngram_ids():
        for buckets in network.ngrams.buckets(ids):
            counts += torch.bincount(buckets.flatten().cpu(), minlength=len(counts))
    table = weights["ngrams.weight"]
    rare = (counts < least).to(table.device)
    return weights | {"ngrams.weight": table.masked_fill(rare[:, None], 0)}


def fitted_network(
    config: ModelConfig,
    weights: dict[str, Tensor],
    build: Callable[[ModelConfig], CharRNN] = CharRNN,
) -> CharRNN:
    """Return a network with these weights, in ``eval`` mode on the CPU. They are rounded as a
    model version stores them, so that the metrics are those of the published version."""
    with torch.device("meta"):
        network = build(config)
    stored = to_stored({name: tensor.cpu() for name, tensor in weights.items()}, config)
    network.load_state_dict(from_stored(stored, config), assign=True)
    return network.eval()


def _one_epoch(
    state: TrainingState,
    train: TrainConfig,
    epoch: int,
    data: TrainingData | SparseData,
    on_names: Callable[[int, int], None],
) -> float:
    """Train for one epoch and return the mean label loss in nats. The global generator is left as
    it was."""
    device = data.log_priors.device
    total, seen = torch.zeros((), dtype=torch.float64, device=device), 0
    epochs = train.epochs * data.rounds
    state.model.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(epoch_seed(train.seed, epoch))
        batches = data.batches(train, epoch)
        count, steps = sum(map(len, batches)), len(batches)
        for step, rows in enumerate(batches):
            learning_rate = _learning_rate(train, (epoch - 1) * steps + step, epochs * steps)
            label_loss = state.step(data.batch(rows), learning_rate)
            total += label_loss.double() * len(rows)
            seen += len(rows)
            on_names((epoch - 1) * count + seen, (epochs - epoch + 1) * count - seen)
    if not math.isfinite(loss := float(total)):
        raise CharrnnError(
            f"the training loss is not a finite number in epoch {epoch}; train with a lower "
            "learning rate",
            option="learning_rate",
        )
    return loss / seen


def _learning_rate(train: TrainConfig, step: int, steps: int) -> float:
    """Return the learning rate of a step of ``steps`` in all."""
    if train.schedule == "constant":
        return train.learning_rate
    warm_up = max(1, steps // 4)
    if step < warm_up:
        return train.learning_rate * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return train.learning_rate * max(0.002, 0.5 * (1 + math.cos(math.pi * progress)))


def _validate(network: CharRNN, encoded: Encoded, label_ids: LabelIds) -> tuple[float, float]:
    """Return NLL in nats per name and accuracy on N names, ``label_ids`` int64 ``(N,)``."""
    logits = logits_of(network.eval(), encoded)[:, : network.config.label_count]
    probabilities = softmax(logits)
    accuracy = float((probabilities.argmax(axis=1) == label_ids).mean())
    return negative_log_likelihood(probabilities, label_ids), accuracy
