"""The state of a fit between two epochs, and its checkpoint.

Every epoch seeds its own generators from (seed, epoch), so a run has no hidden generator state: a
checkpoint holds weights, optimiser moments and the epoch's number, and a resumed run ends with the
same bits as an uninterrupted one on the same machine and thread count.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from charrnn.errors import ConfigError, DataError
from charrnn.files import read_file, write_bytes
from charrnn.model.facts import EpochRecord
from charrnn.model.network import CharRNN, ModelConfig
from charrnn.model.vocabulary import PAD
from charrnn.training.presets import TrainConfig


class TrainingModel(nn.Module):
    """A network with its loss; where ``train.next_character`` is above 0, also the head of the
    auxiliary next-character loss, which is discarded after training."""

    def __init__(self, network: CharRNN, train: TrainConfig) -> None:
        super().__init__()
        self.network = network
        self.train_config = train
        H, V = network.config.hidden_size, network.config.vocabulary_size
        self.h2next = nn.Linear(H, V + 1) if train.next_character else None

    def losses(
        self, ids: Tensor, lengths: Tensor, targets: Tensor, log_priors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss to minimise and the label loss in it, each a mean in nats.

        Args:
            ids: ``(B, T)``, padded; lengths: ``(B,)``.
            targets: probabilities of the outputs ``(B, K)``.
            log_priors: log shares of the outputs ``(B, K)``, for the logit adjustment.
        """
        network, train = self.network, self.train_config
        states = None
        if self.h2next is None:
            logits = network(ids, lengths)
        else:
            states, logits = network.states_and_logits(ids, lengths)
        label_loss = F.cross_entropy(
            logits + train.logit_adjustment * log_priors,
            targets,
            label_smoothing=train.label_smoothing,
        )
        if self.h2next is None or states is None:
            return label_loss, label_loss
        forward = network.dropout(states[:, :-1, : network.config.hidden_size])
        next_ids = ids[:, 1:].long()
        next_loss = F.cross_entropy(
            self.h2next(forward).transpose(1, 2),  # (B, V + 1, T - 1)
            next_ids,
            ignore_index=PAD,
            reduction="sum",
        ) / (next_ids != PAD).sum().clamp(min=1)
        return label_loss + train.next_character * next_loss, label_loss


class TrainingState:
    """All that a checkpoint holds: model, optimiser, history and the best weights so far."""

    def __init__(
        self,
        config: ModelConfig,
        train: TrainConfig,
        device: torch.device,
        build: Callable[[ModelConfig], CharRNN],
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(epoch_seed(train.seed, 0))
            self.model = TrainingModel(build(config), train).to(device)
        self.network = self.model.network
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": train.weight_decay},
            {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},  # biases
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=train.learning_rate, betas=(0.9, train.beta2), fused=True
        )
        self.history: list[EpochRecord] = []
        self.keep_weights()

    def keep_weights(self) -> None:
        """Take the present weights as the best so far."""
        weights = self.network.state_dict().items()
        self.best = {name: tensor.detach().clone() for name, tensor in weights}
        self.best_epoch = len(self.history)

    def save(self, path: Path, identity: str) -> None:
        """Write everything as one file, atomically: a SHA-256 (32 bytes), then safetensors."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for name, parameter in self.model.named_parameters():
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
        """Replace everything by the contents of a checkpoint.

        Raises:
            DataError: the file is damaged.
            ConfigError: the checkpoint has another identity: other data, recipe or seed.
        """
        content = read_file(path, mine=True)
        digest, content = content[:32], content[32:]
        if hashlib.sha256(content).digest() != digest:
            raise DataError(
                f"{path} is not a readable checkpoint; train without resuming", option="resume"
            )
        tensors = load(content)
        state = json.loads(bytes(tensors["state"].tolist()))
        if state["identity"] != identity:
            raise ConfigError(
                f"{path} belongs to other data, another preset or another seed; train without "
                "resuming, or with the options it was started with",
                option="resume",
            )
        self.model.load_state_dict(_under("model.", tensors))
        self.best = _under("best.", tensors)
        for name, parameter in self.model.named_parameters():
            self.optimizer.state[parameter] = dict(_under(f"optimizer.{name}.", tensors))
        self.best_epoch = state["best_epoch"]
        self.history = [EpochRecord(**record) for record in state["history"]]


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch's generators, from 1; 0 is that of the initial weights."""
    return seed * 1_000_003 + epoch  # a prime above any number of epochs: no two runs share one


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
