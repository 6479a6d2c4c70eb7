"""Fit a ``CharRNN`` to examples."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from charrnn.errors import CharrnnError
from charrnn.model.calibration import LabelIds, negative_log_likelihood, softmax
from charrnn.model.engine import logits_of
from charrnn.model.facts import EpochRecord
from charrnn.model.network import CharRNN, ModelConfig, from_stored, to_stored
from charrnn.model.vocabulary import Encoded, Vocabulary
from charrnn.training.batches import SoftLabels, TrainingData, training_data
from charrnn.training.presets import TrainConfig
from charrnn.training.splits import Examples
from charrnn.training.state import TrainingState, epoch_seed

_COUNTED = 2**13  # examples whose n-grams are counted at a time


@dataclass(frozen=True)
class FitResult:
    """A fitted network, in ``eval`` mode on the CPU, with one record per epoch; ``best_epoch`` is
    the epoch whose weights it has."""

    network: CharRNN
    history: tuple[EpochRecord, ...]
    best_epoch: int


def fit(
    config: ModelConfig,
    train: TrainConfig,
    vocabulary: Vocabulary,
    examples: Examples,
    *,
    validation: Examples | None = None,
    soft_labels: SoftLabels | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    identity: str = "",
    resume: bool = False,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    build: Callable[[ModelConfig], CharRNN] = CharRNN,
) -> FitResult:
    """Fit a network to ``examples``. Same arguments, same bits, on one machine and thread count.

    Args:
        validation: examples that choose the epoch (``keep_best``) and are reported on.
        soft_labels: further examples, with a teacher's probabilities instead of a label.
        checkpoint: file that is rewritten after every epoch; None writes none.
        identity: digest of data, recipe and protocol; a checkpoint of another one is refused.
        resume: continue from ``checkpoint`` where it exists.
        on_epoch: called after every epoch, once the checkpoint is written.
        build: makes the network; other than ``CharRNN`` in experiments.

    Raises:
        CharrnnError: the loss is no longer a finite number.
        ConfigError, DataError: the checkpoint is damaged or of another run.
    """
    state = TrainingState(config, train, torch.device(device), build)
    if resume and checkpoint is not None and checkpoint.exists():
        state.load(checkpoint, identity)
    data = training_data(
        vocabulary,
        examples,
        soft_labels,
        config,
        torch.device(device),
        merge_shared=train.merge_shared,
    )
    held_out = vocabulary.encode(validation.names) if validation else None
    for epoch in range(len(state.history) + 1, train.epochs + 1):
        loss = _one_epoch(state, train, epoch, data)
        nll, accuracy = None, None
        if validation is not None and held_out is not None and len(held_out):
            nll, accuracy = _validate(state.network, held_out, validation.label_ids)
        earlier = [r.validation_nll for r in state.history if r.validation_nll is not None]
        record = EpochRecord(epoch, loss, nll, accuracy)
        state.history.append(record)
        if not train.keep_best or nll is None or nll < min(earlier, default=math.inf):
            state.keep_weights()
        if checkpoint is not None:
            state.save(checkpoint, identity)
        on_epoch(record)
    weights = without_rare_ngrams(state.best, state.network, data, train.least_names)
    network = fitted_network(config, weights, build)
    return FitResult(network, tuple(state.history), state.best_epoch)


def without_rare_ngrams(
    weights: dict[str, Tensor], network: CharRNN, data: TrainingData, least: int
) -> dict[str, Tensor]:
    """Return weights in which n-grams that occur fewer than ``least`` times in the labelled
    examples have none."""
    if network.ngrams is None or least == 1:
        return weights
    counts = torch.zeros(len(network.ngrams.weight), dtype=torch.int64)
    for first in range(0, data.labelled, _COUNTED):
        ids = data.ids[first : min(first + _COUNTED, data.labelled)]
        for buckets in network.ngrams.buckets(ids.long()):
            counts += torch.bincount(buckets.flatten().cpu(), minlength=len(counts))
    rare = (counts < least).to(data.ids.device)
    return weights | {"ngrams.weight": weights["ngrams.weight"].masked_fill(rare[:, None], 0)}


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


def _one_epoch(state: TrainingState, train: TrainConfig, epoch: int, data: TrainingData) -> float:
    """Train for one epoch and return the mean label loss in nats. The global generator is left as
    it was."""
    device = data.ids.device
    total, seen = 0.0, 0
    state.model.train()
    with torch.random.fork_rng(devices=[device] if data.ids.is_cuda else []):
        torch.manual_seed(epoch_seed(train.seed, epoch))
        batches = data.batches(train)
        steps = len(batches)
        for step, batch in enumerate(batches):
            learning_rate = _learning_rate(train, (epoch - 1) * steps + step, train.epochs * steps)
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate
            rows = batch.to(device)
            lengths = data.lengths[rows]
            ids = data.ids[rows, : int(lengths.max())]
            targets, log_priors = data.targets[rows], data.log_priors_of(rows)
            loss, label_loss = state.model.losses(ids, lengths, targets, log_priors)
            state.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if train.clip_norm:
                nn.utils.clip_grad_norm_(state.model.parameters(), train.clip_norm)
            state.optimizer.step()
            total += label_loss.item() * len(rows)
            seen += len(rows)
    if not math.isfinite(total):
        raise CharrnnError(
            f"the training loss is not a finite number in epoch {epoch}; train with a lower "
            "learning rate",
            option="learning_rate",
        )
    return total / seen


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
