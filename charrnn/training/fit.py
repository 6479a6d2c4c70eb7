"""Fit a ``CharRNN`` to examples: one recipe, one seed, one result.

Every epoch seeds its own generators from (seed, epoch), so a run has no hidden generator state: a
checkpoint holds weights, optimiser moments and the epoch's number, and a resumed run ends with the
same bits as an uninterrupted one on the same machine and thread count.
"""

from __future__ import annotations

__all__ = ["Fit", "SoftLabels", "fit", "fitted_network"]

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from charrnn.errors import CharrnnError, ConfigError, DataError
from charrnn.files import write_bytes
from charrnn.model.calibration import negative_log_likelihood, softmax
from charrnn.model.engine import logits_of
from charrnn.model.facts import EpochRecord
from charrnn.model.network import CharRNN, ModelConfig, from_stored, to_stored
from charrnn.model.vocabulary import PAD, Encoded, Vocabulary
from charrnn.training.corpus import Examples
from charrnn.training.presets import TrainConfig


@dataclass(frozen=True)
class SoftLabels:
    """Names with a teacher's probabilities, float32 ``(N, L)``, of which ``per_epoch`` are drawn
    anew for every epoch."""

    names: list[str]
    probabilities: npt.NDArray[np.float32]
    per_epoch: int


@dataclass(frozen=True)
class Fit:
    """A fitted network, in ``eval`` mode on the CPU, and how it got there. ``best_epoch`` is the
    epoch whose weights it has."""

    network: CharRNN
    history: tuple[EpochRecord, ...]
    best_epoch: int


class _Learner(nn.Module):
    """What is fitted: the network and, with ``next_character``, that task's output layer."""

    def __init__(self, network: CharRNN, train: TrainConfig) -> None:
        super().__init__()
        self.network = network
        self.train_config = train
        H, V = network.config.hidden_size, network.config.vocabulary_size
        self.h2next = nn.Linear(H, V + 1) if train.next_character else None

    def losses(
        self, ids: Tensor, lengths: Tensor, targets: Tensor, adjust: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss to minimise and its share of the labels, each a mean in nats."""
        network, train = self.network, self.train_config

        def of_labels(logits: Tensor) -> Tensor:
            adjusted = logits + train.logit_adjustment * adjust
            return F.cross_entropy(adjusted, targets, label_smoothing=train.label_smoothing)

        if self.h2next is None:
            labels = of_labels(network(ids, lengths))
            return labels, labels
        hidden, logits = network.states_and_logits(ids, lengths)
        labels = of_labels(logits)
        forward = network.dropout(hidden[:, :-1, : network.config.hidden_size])
        following = ids[:, 1:].long()
        second = F.cross_entropy(
            self.h2next(forward).transpose(1, 2),  # (B, V + 1, T - 1)
            following,
            ignore_index=PAD,
            reduction="sum",
        ) / (following != PAD).sum().clamp(min=1)
        return labels + train.next_character * second, labels


class _Run:
    """The state of a fit between two epochs: all that a checkpoint has to hold."""

    def __init__(
        self,
        config: ModelConfig,
        train: TrainConfig,
        device: torch.device,
        build: Callable[[ModelConfig], CharRNN],
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_epoch_seed(train.seed, 0))
            self.learner = _Learner(build(config), train).to(device)
        self.network = self.learner.network
        parameters = list(self.learner.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": train.weight_decay},
            {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},  # biases
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=train.learning_rate, betas=(0.9, train.beta2), fused=True
        )
        self.history: list[EpochRecord] = []
        self.best_epoch = 0
        self.best = _copy(self.network)

    def save(self, path: Path, identity: str) -> None:
        """Write everything as one file, atomically: a SHA-256 (32 bytes), then safetensors."""
        tensors = {f"learner.{k}": v for k, v in self.learner.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for name, parameter in self.learner.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{name}.{key}"] = value
        state = {
            "identity": identity,
            "best_epoch": self.best_epoch,
            "history": [asdict(record) for record in self.history],
        }
        tensors["state"] = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
        content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
        write_bytes(path, hashlib.sha256(content).digest() + content)

    def load(self, path: Path, identity: str) -> None:
        """Take over a checkpoint; refuse one of another recipe or other data."""
        content = path.read_bytes()
        digest, content = content[:32], content[32:]
        if hashlib.sha256(content).digest() != digest:
            raise DataError(f"{path} is not a readable checkpoint; train without --resume")
        tensors = load(content)
        state = json.loads(bytes(tensors["state"].tolist()))
        if state["identity"] != identity:
            raise ConfigError(
                f"{path} belongs to other data, another preset or another seed; "
                "train without --resume, or with the options it was started with"
            )
        self.learner.load_state_dict(_under("learner.", tensors))
        self.best = _under("best.", tensors)
        for name, parameter in self.learner.named_parameters():
            self.optimizer.state[parameter] = dict(_under(f"optimizer.{name}.", tensors))
        self.best_epoch = state["best_epoch"]
        self.history = [EpochRecord(**record) for record in state["history"]]


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
) -> Fit:
    """Fit a network to ``examples``.

    Args:
        validation: examples that choose the epoch (``keep_best``) and are reported on.
        soft_labels: further examples, with a teacher's probabilities instead of a label.
        checkpoint: file that is rewritten after every epoch; None keeps none.
        identity: what the checkpoint is of (data, recipe, protocol); a checkpoint of another
            identity is refused.
        resume: go on from ``checkpoint`` where it exists.
        on_epoch: called after every epoch, once the checkpoint is written.
        build: makes the network; another than ``CharRNN`` is for experiments.

    Raises:
        CharrnnError: the loss is no longer a finite number.
        ConfigError, DataError: the checkpoint to resume is not of this run, or unreadable.
    """
    run = _Run(config, train, torch.device(device), build)
    if resume and checkpoint is not None and checkpoint.exists():
        run.load(checkpoint, identity)
    data = _Data.of(vocabulary, examples, soft_labels, config.label_count, torch.device(device))
    held_out = vocabulary.encode(pa.array(validation.names)) if validation else None
    for epoch in range(len(run.history) + 1, train.epochs + 1):
        loss = _one_epoch(run, train, epoch, data)
        nll, accuracy = None, None
        if validation is not None and held_out is not None and len(held_out):
            nll, accuracy = _validate(run.network, held_out, validation.label_ids)
        record = EpochRecord(epoch, loss, nll, accuracy)
        best = min(
            (r.validation_nll for r in run.history if r.validation_nll is not None),
            default=math.inf,
        )
        if not train.keep_best or nll is None or nll < best:
            run.best, run.best_epoch = _copy(run.network), epoch
        run.history.append(record)
        if checkpoint is not None:
            run.save(checkpoint, identity)
        on_epoch(record)
    return Fit(fitted_network(config, run.best, build), tuple(run.history), run.best_epoch)


def fitted_network(
    config: ModelConfig,
    weights: dict[str, Tensor],
    build: Callable[[ModelConfig], CharRNN] = CharRNN,
) -> CharRNN:
    """Return a network with these weights, in ``eval`` mode on the CPU; they are rounded as a
    model version stores them, so that what is measured is what is shipped."""
    with torch.device("meta"):
        network = build(config)
    stored = to_stored({name: tensor.cpu() for name, tensor in weights.items()})
    network.load_state_dict(from_stored(stored, config), assign=True)
    return network.eval()


@dataclass(frozen=True)
class _Data:
    """All examples on the device: the first ``base`` rows are used in every epoch, ``drawn`` of
    the rest. ``targets`` are probabilities ``(N, L)``; ``adjust`` is log label shares ``(L,)``."""

    ids: Tensor
    lengths: Tensor
    targets: Tensor
    adjust: Tensor
    base: int
    drawn: int

    @classmethod
    def of(
        cls,
        vocabulary: Vocabulary,
        examples: Examples,
        soft_labels: SoftLabels | None,
        label_count: int,
        device: torch.device,
    ) -> _Data:
        if not examples.names:
            raise DataError("there are no training examples")
        names = examples.names + (soft_labels.names if soft_labels else [])
        ids, lengths = vocabulary.encode(pa.array(names)).padded()
        targets = np.eye(label_count, dtype=np.float32)[examples.label_ids]
        shares = targets.mean(axis=0)
        if soft_labels:
            targets = np.concatenate((targets, soft_labels.probabilities))
        return cls(
            ids=torch.from_numpy(ids).to(device),
            lengths=torch.from_numpy(np.maximum(lengths, 1)).to(device),
            targets=torch.from_numpy(targets).to(device),
            adjust=torch.from_numpy(np.log(np.maximum(shares, 1e-6))).to(device),
            base=len(examples.names),
            drawn=soft_labels.per_epoch if soft_labels else 0,
        )

    def batches(self, train: TrainConfig) -> list[Tensor]:
        """Return the rows of one epoch's batches; draws from the global generator."""
        rows = torch.arange(self.base)
        if self.drawn:
            picked = torch.randperm(len(self.ids) - self.base)[: self.drawn]
            rows = torch.cat((rows, self.base + picked))
        rows = rows[torch.randperm(len(rows))]
        if not train.by_length:
            return list(torch.split(rows, train.batch_size))
        lengths = self.lengths.cpu()
        found: list[Tensor] = []
        for block in torch.split(rows, 16 * train.batch_size):
            by_length = block[torch.argsort(lengths[block], stable=True)]
            found += torch.split(by_length, train.batch_size)
        return [found[i] for i in torch.randperm(len(found)).tolist()]


def _one_epoch(run: _Run, train: TrainConfig, epoch: int, data: _Data) -> float:
    """Train for one epoch and return the mean loss of the labels; the global generator is left as
    it was."""
    device = data.ids.device
    total, seen = 0.0, 0
    run.learner.train()
    with torch.random.fork_rng(devices=[device] if data.ids.is_cuda else []):
        torch.manual_seed(_epoch_seed(train.seed, epoch))
        batches = data.batches(train)
        steps = len(batches)
        for step, chosen in enumerate(batches):
            for group in run.optimizer.param_groups:
                group["lr"] = _learning_rate(
                    train, (epoch - 1) * steps + step, train.epochs * steps
                )
            rows = chosen.to(device)
            lengths = data.lengths[rows]
            ids = data.ids[rows, : int(lengths.max())]
            objective, loss = run.learner.losses(ids, lengths, data.targets[rows], data.adjust)
            run.optimizer.zero_grad()
            objective.backward()  # type: ignore[no-untyped-call]
            if train.clip_norm:
                nn.utils.clip_grad_norm_(run.learner.parameters(), train.clip_norm)
            run.optimizer.step()
            total += loss.item() * len(rows)
            seen += len(rows)
    if not math.isfinite(total):
        raise CharrnnError(
            f"the training loss is not a finite number in epoch {epoch}; "
            "train with a lower learning rate"
        )
    return total / seen


def _learning_rate(train: TrainConfig, step: int, steps: int) -> float:
    if train.schedule == "constant":
        return train.learning_rate
    warm_up = max(1, steps // 4)
    if step < warm_up:
        return train.learning_rate * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return train.learning_rate * max(0.002, 0.5 * (1 + math.cos(math.pi * progress)))


def _validate(network: CharRNN, encoded: Encoded, label_ids: Any) -> tuple[float, float]:
    probabilities = softmax(logits_of(network.eval(), encoded))
    accuracy = float((probabilities.argmax(axis=1) == label_ids).mean())
    return negative_log_likelihood(probabilities, label_ids), accuracy


def _epoch_seed(seed: int, epoch: int) -> int:
    return seed * 1_000_003 + epoch


def _copy(network: CharRNN) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
