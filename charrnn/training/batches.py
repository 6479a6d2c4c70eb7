"""Training examples on the device, and the batches of one epoch."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from charrnn.errors import DataError
from charrnn.model.network import ModelConfig
from charrnn.model.novelty import name_hashes
from charrnn.model.vocabulary import Vocabulary
from charrnn.training.presets import TrainConfig
from charrnn.training.splits import Examples

_SORTED_BATCHES = 16  # batches sorted by length together: little padding, still a random order


@dataclass(frozen=True)
class SoftLabels:
    """Unlabelled names with a teacher's probabilities, float32 ``(N, K)``, of which ``per_epoch``
    are drawn anew for every epoch."""

    names: list[str]
    probabilities: npt.NDArray[np.float32]
    per_epoch: int


@dataclass(frozen=True)
class TrainingData:
    """N examples on the device: first the labelled ones, then those with soft labels.

    Attributes:
        ids: ``(N, T)``, padded.
        lengths: ``(N,)``, at least 1.
        targets: probabilities ``(N, K)``, one-hot for names of one label; K is the number of the
            network's outputs.
        log_priors: log shares of the outputs among the labelled examples, ``(K,)``.
        adjusted: which examples the logit adjustment is for, ``(N,)``: those of one label.
        labelled: number of labelled examples, outliers included; all of them are used in every
            epoch.
        drawn: examples with soft labels that are drawn for an epoch.
    """

    ids: Tensor
    lengths: Tensor
    targets: Tensor
    log_priors: Tensor
    adjusted: Tensor
    labelled: int
    drawn: int

    def log_priors_of(self, rows: Tensor) -> Tensor:
        """Return ``log_priors`` for each of B rows, ``(B, K)``; 0 for those that need no
        adjustment."""
        return self.log_priors * self.adjusted[rows][:, None]

    def batches(self, train: TrainConfig) -> list[Tensor]:
        """Return one epoch's batches, each int64 row numbers ``(B,)``.

        Draws from torch's global generator.
        """
        rows = torch.arange(self.labelled)
        if self.drawn:
            soft = torch.randperm(len(self.ids) - self.labelled)[: self.drawn]
            rows = torch.cat((rows, self.labelled + soft))
        rows = rows[torch.randperm(len(rows))]
        if not train.by_length:
            return list(torch.split(rows, train.batch_size))
        lengths = self.lengths.cpu()
        batches: list[Tensor] = []
        for block in torch.split(rows, _SORTED_BATCHES * train.batch_size):
            by_length = block[torch.argsort(lengths[block], stable=True)]
            batches += torch.split(by_length, train.batch_size)
        return [batches[i] for i in torch.randperm(len(batches)).tolist()]


def training_data(
    vocabulary: Vocabulary,
    examples: Examples,
    soft_labels: SoftLabels | None,
    config: ModelConfig,
    device: torch.device,
    *,
    merge_shared: bool = False,
) -> TrainingData:
    """Encode the examples, the outliers among them where the network has an output for these and
    ``vocabulary`` letters that tell them from names, and move them to ``device``; for
    ``merge_shared`` see ``TrainConfig``.

    Raises:
        DataError: there are no labelled examples.
    """
    if not len(examples.names):
        raise DataError("there are no training examples")
    outliers = examples.outliers.to_pylist() if config.none_output else []
    outliers = [text for text in outliers if _has_letters_to_tell(text, vocabulary)]
    outputs = np.concatenate((examples.label_ids, np.full(len(outliers), config.label_count)))
    names = examples.names.to_pylist() + outliers
    targets = np.eye(config.outputs, dtype=np.float32)[outputs]
    shares = targets.mean(axis=0)
    if merge_shared:
        names, targets = _merged(names, targets, vocabulary)
    labelled, adjusted = len(names), (targets == 1).any(axis=1)
    if soft_labels:
        names = names + soft_labels.names
        targets = np.concatenate((targets, soft_labels.probabilities))
        adjusted = np.append(adjusted, np.zeros(len(soft_labels.names), bool))
    ids, lengths = vocabulary.encode(pa.array(names)).padded()
    return TrainingData(
        ids=torch.from_numpy(ids).to(device),
        lengths=torch.from_numpy(np.maximum(lengths, 1)).to(device),
        targets=torch.from_numpy(targets).to(device),
        log_priors=torch.from_numpy(np.log(np.maximum(shares, 1e-6))).to(device),
        adjusted=torch.from_numpy(adjusted).to(device),
        labelled=labelled,
        drawn=soft_labels.per_epoch if soft_labels else 0,
    )


def _has_letters_to_tell(text: str, vocabulary: Vocabulary) -> bool:
    """Return whether ``vocabulary`` reads two letters or more in a text: where one symbol stands
    for a script, names and other words look alike."""
    return len({c for c in vocabulary.decode(vocabulary.encode_one(text)) if c.isalpha()}) > 1


def _merged(
    names: list[str],
    targets: npt.NDArray[np.float32],
    vocabulary: Vocabulary,
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Return one row for all rows of a name, as ``vocabulary`` reads it: its outputs share the
    target equally."""
    hashes = name_hashes(vocabulary.encode(pa.array(names)))
    _, first, row = np.unique(hashes, return_index=True, return_inverse=True)
    outputs = np.zeros((len(first), targets.shape[1]), np.float32)
    np.maximum.at(outputs, row, targets)
    order = np.argsort(first)
    merged = outputs[order] / outputs[order].sum(axis=1, keepdims=True)
    return [names[i] for i in first[order].tolist()], merged
