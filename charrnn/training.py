"""Fit a ``CharRNN`` to examples: one recipe, one seed, one result.

Every epoch seeds its own generators from (seed, epoch), so a run has no hidden generator state: a
checkpoint holds weights, optimiser moments and the epoch's number, and a resumed run ends with the
same bits as an uninterrupted one on the same machine and thread count.
"""

from __future__ import annotations

__all__ = [
    "PRESETS",
    "EpochRecord",
    "Fit",
    "Preset",
    "Taught",
    "TrainConfig",
    "fit",
    "fitted_network",
    "with_overrides",
]

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from charrnn.calibration import negative_log_likelihood, softmax
from charrnn.corpus import Examples
from charrnn.errors import CharrnnError, ConfigError, DataError
from charrnn.files import write_bytes
from charrnn.inference import logits_of
from charrnn.model import CharRNN, ModelConfig, from_stored, to_stored
from charrnn.vocabulary import LATIN_VOCABULARY, PAD, SEED_VOCABULARY, Encoded, Vocabulary


@dataclass(frozen=True)
class TrainConfig:
    """How a network is fitted.

    Args:
        epochs: passes over the training examples.
        batch_size: examples per step.
        learning_rate: of Adam; the peak when ``schedule`` is ``one_cycle``.
        weight_decay: decoupled (AdamW), 0 for plain Adam.
        schedule: ``constant``, or ``one_cycle``: linear warm-up over the first quarter of all
            steps, then a cosine down to 0.2 % (after Smith & Topin 2018).
        clip_norm: largest norm of the whole gradient; 0 leaves it alone.
        beta2: decay of Adam's second moment.
        logit_adjustment: adds this times the log of the training label shares to the logits in the
            loss (Menon et al. 2021), which helps rare labels; 0 is plain cross-entropy.
        label_smoothing: share of every target that is spread over all labels.
        next_character: weight of a second task: from every state of the forward direction, foretell
            the character that follows (Dai & Le 2015). It keeps the recurrence from learning the
            names by heart; its output layer is no part of the network.
        by_length: put names of like length into one batch, in a random order of batches; the same
            loss for less padding.
        keep_best: end with the epoch of lowest validation NLL instead of the last one.
        seed: decides initial weights, order of examples and dropout.

    Raises:
        ConfigError: a value is out of range.
    """

    epochs: int = 27
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "one_cycle"] = "constant"
    clip_norm: float = 0.0
    beta2: float = 0.999
    logit_adjustment: float = 0.0
    label_smoothing: float = 0.0
    next_character: float = 0.0
    by_length: bool = False
    keep_best: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigError("epochs and batch size must be at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"learning rate is {self.learning_rate}; it must be above 0")
        if self.schedule not in ("constant", "one_cycle") or not 0 <= self.beta2 < 1:
            raise ConfigError("schedule must be constant or one_cycle, beta2 in [0, 1)")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label smoothing is {self.label_smoothing}; it must be in [0, 1)")
        weights = (self.weight_decay, self.logit_adjustment, self.next_character)
        if min(*weights, self.clip_norm, self.seed) < 0:
            raise ConfigError(
                "weight decay, logit adjustment, next character, clip norm and seed must not be "
                "negative"
            )


@dataclass(frozen=True)
class Preset:
    """A named recipe: text rules, architecture (all but the sizes the data decide), fitting.

    A preset with a ``teacher`` also learns from that preset's calibrated probabilities on names
    made up from the training names: ``synthetic`` of them in all, ``synthetic_per_epoch`` drawn
    anew for every epoch (knowledge distillation, Hinton et al. 2015).
    """

    name: str
    vocabulary: Vocabulary
    train: TrainConfig
    model: dict[str, Any] = field(default_factory=dict)
    teacher: str = ""
    synthetic: int = 0
    synthetic_per_epoch: int = 0

    def model_config(self, label_count: int) -> ModelConfig:
        """Return the architecture for ``label_count`` labels."""
        return ModelConfig(self.vocabulary.size, label_count, **self.model)


PRESETS = {
    preset.name: preset
    for preset in (
        # The notebook: 58 one-hot symbols → 128 tanh units → labels, Adam, 27 epochs.
        Preset("seed", SEED_VOCABULARY, TrainConfig()),
        # Wide and deep: the seed's recurrence, twice as wide, and the n-grams' linear model in one
        # network. The second task lets the width pay; a GRU or a second direction adds nothing
        # that can be measured, at several times the cost (docs/experiments.md).
        Preset(
            "default",
            LATIN_VOCABULARY,
            TrainConfig(
                epochs=12,
                batch_size=128,
                learning_rate=4e-3,
                weight_decay=0.03,
                schedule="one_cycle",
                clip_norm=1.0,
                beta2=0.99,
                logit_adjustment=0.2,
                next_character=0.3,
                by_length=True,
            ),
            {
                "hidden_size": 256,
                "embedding_size": 64,
                "ngram_buckets": 2**17,
                "dropout": 0.5,
                "input_dropout": 0.2,
                "ngram_dropout": 0.1,
            },
        ),
        # The seed's network, fastest to score, taught by the default.
        Preset(
            "tiny",
            LATIN_VOCABULARY,
            TrainConfig(
                epochs=30,
                batch_size=128,
                learning_rate=4e-3,
                weight_decay=0.03,
                schedule="one_cycle",
                clip_norm=1.0,
                beta2=0.99,
                by_length=True,
            ),
            teacher="default",
            synthetic=120_000,
            synthetic_per_epoch=24_000,
        ),
    )
}


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave: mean training loss of the labels in nats, and the validation figures
    (None without validation examples)."""

    epoch: int
    loss: float
    validation_nll: float | None
    validation_accuracy: float | None


@dataclass(frozen=True)
class Taught:
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
    taught: Taught | None = None,
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
        taught: further examples, with a teacher's probabilities instead of a label.
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
    data = _Data.of(vocabulary, examples, taught, config.label_count, torch.device(device))
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
        taught: Taught | None,
        label_count: int,
        device: torch.device,
    ) -> _Data:
        if not examples.names:
            raise DataError("there are no training examples")
        names = examples.names + (taught.names if taught else [])
        ids, lengths = vocabulary.encode(pa.array(names)).padded()
        targets = np.eye(label_count, dtype=np.float32)[examples.label_ids]
        shares = targets.mean(axis=0)
        if taught:
            targets = np.concatenate((targets, taught.probabilities))
        return cls(
            ids=torch.from_numpy(ids).to(device),
            lengths=torch.from_numpy(np.maximum(lengths, 1)).to(device),
            targets=torch.from_numpy(targets).to(device),
            adjust=torch.from_numpy(np.log(np.maximum(shares, 1e-6))).to(device),
            base=len(examples.names),
            drawn=taught.per_epoch if taught else 0,
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


def with_overrides(preset: Preset, **changes: Any) -> Preset:
    """Return the preset with some ``TrainConfig`` fields replaced; None leaves a field alone."""
    kept = {name: value for name, value in changes.items() if value is not None}
    return replace(preset, train=replace(preset.train, **kept))
