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
from charrnn.model.network import CharRNN, ModelConfig, NgramTable
from charrnn.model.vocabulary import PAD
from charrnn.training.batches import Batch
from charrnn.training.presets import TrainConfig


class RowUpdates:
    """Updates only the rows of an n-gram table that a batch has: the time and memory of a step do
    not grow with the table.

    The rows that a batch has are copied, trained as a table of their own, and put back. Their step
    size is that of Adagrad with one second moment per row (as for the embeddings of recommender
    systems, Naumov et al. 2019), which begins above 0 where ``train.ngram_prior`` is: with as many
    times the square of a gradient of about 1 / (batch size) over the outputs.

    Attributes:
        squares: mean squares of each row's gradients, summed over the steps so far, ``(buckets,)``.
    """

    def __init__(self, table: NgramTable, train: TrainConfig, device: torch.device) -> None:
        self.table = table
        rows, width = table.weight.shape
        prior = train.ngram_prior / (train.batch_size**2 * width)
        self.squares = torch.full((rows,), prior, device=device)
        self._numbers = torch.empty(len(table.weight), dtype=torch.int64, device=device)
        self._rows = self._numbers[:0]
        self._part = table.weight.detach()[:0]
        table.weight.requires_grad_(False)
        table.read = self._read

    def _read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights of the distinct rows among ``rows``, and their numbers there."""
        present = torch.zeros(len(self._numbers), dtype=torch.bool, device=rows.device)
        present[rows.view(-1)] = True
        self._rows = present.nonzero()[:, 0]
        self._numbers[self._rows] = torch.arange(len(self._rows), device=rows.device)
        self._part = self.table.weight.detach().index_select(0, self._rows).requires_grad_()
        return self._part, self._numbers[rows]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the rows of the last batch along their gradients."""
        gradient = self._part.grad
        assert gradient is not None
        squares = self.squares[self._rows] + gradient.square().mean(dim=1)
        self.squares[self._rows] = squares
        steps = (learning_rate / (squares.sqrt() + 1e-12))[:, None]
        self.table.weight.index_copy_(0, self._rows, self._part.addcmul_(gradient, steps, value=-1))


class TrainingModel(nn.Module):
    """A network with its loss; where ``train.next_character`` is above 0, also the head of the
    auxiliary next-character loss, which is discarded after training."""

    def __init__(self, network: CharRNN, train: TrainConfig) -> None:
        super().__init__()
        self.network = network
        self.train_config = train
        H, V = network.config.hidden_size, network.config.vocabulary_size
        self.h2next = nn.Linear(H, V + 1) if train.next_character else None

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss to minimise and the label loss in it, each a mean in nats: scalars, of
        a batch of B names with ids ``(B, T)``."""
        network, train = self.network, self.train_config
        ids, lengths = batch.ids, batch.lengths
        if network.config.label_groups:
            of_names = network.label_losses(ids, lengths, batch.targets)
            loss = (of_names if batch.weights is None else of_names * batch.weights).mean()
            return loss, loss
        states = None
        if self.h2next is None:
            logits = network(ids, lengths)
        else:
            states, logits = network.states_and_logits(ids, lengths)
        if train.logit_adjustment or not train.sparse:
            logits = logits + train.logit_adjustment * batch.log_priors
        if batch.weights is None:
            label_loss = F.cross_entropy(
                logits, batch.targets, label_smoothing=train.label_smoothing
            )
        else:
            of_names = F.cross_entropy(logits, batch.targets, reduction="none")
            label_loss = (of_names * batch.weights).mean()
        if self.h2next is None or states is None:
            return label_loss, label_loss
        forward = network.dropout(states[:, :-1])
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
        table = self.network.ngrams if train.sparse else None
        self.row_updates = None if table is None else RowUpdates(table, train, device)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": train.weight_decay},
            {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},  # biases
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=train.learning_rate, betas=(0.9, train.beta2), fused=True
        )
        self.history: list[EpochRecord] = []
        self.keep_weights()

    def step(self, batch: Batch, learning_rate: float) -> Tensor:
        """Take one step of the optimiser; return the mean label loss in nats, a
        scalar on the device, of a batch with ids ``(B, T)``."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        loss, label_loss = self.model.losses(batch)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        train = self.model.train_config
        if train.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), train.clip_norm)
        self.optimizer.step()
        if self.row_updates:
            self.row_updates.step(learning_rate * train.ngram_rate)
        return label_loss.detach()

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
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}.{key}"] = value
        if self.row_updates:
            tensors["row_updates.squares"] = self.row_updates.squares
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
            if parameter.requires_grad:
                self.optimizer.state[parameter] = dict(_under(f"optimizer.{name}.", tensors))
        if self.row_updates:
            self.row_updates.squares.copy_(tensors["row_updates.squares"])
        self.best_epoch = state["best_epoch"]
        self.history = [EpochRecord(**record) for record in state["history"]]


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch's generators, from 1; 0 is that of the initial weights."""
    return seed * 1_000_003 + epoch  # a prime above any number of epochs: no two runs share one


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
