"""Training examples on the device, and the batches of one epoch."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from charrnn.errors import DataError
from charrnn.model.vocabulary import Vocabulary
from charrnn.training.corpus import Examples
from charrnn.training.presets import TrainConfig

_SORTED_BATCHES = 16  # batches sorted by length together: little padding, still a random order


@dataclass(frozen=True)
class SoftLabels:
    """Unlabelled names with a teacher's probabilities, float32 ``(N, L)``, of which ``per_epoch``
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
        targets: probabilities ``(N, L)``, one-hot for labelled examples.
        log_priors: log label shares of the labelled examples, ``(L,)``.
        labelled: number of labelled examples; all of them are used in every epoch.
        drawn: examples with soft labels that are drawn for an epoch.
    """

    ids: Tensor
    lengths: Tensor
    targets: Tensor
    log_priors: Tensor
    labelled: int
    drawn: int

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
    label_count: int,
    device: torch.device,
) -> TrainingData:
    """Encode the examples and move them to ``device``; ``label_count`` is L.

    Raises:
        DataError: there are no labelled examples.
    """
    if not examples.names:
        raise DataError("there are no training examples")
    names = examples.names + (soft_labels.names if soft_labels else [])
    ids, lengths = vocabulary.encode(pa.array(names)).padded()
    targets = np.eye(label_count, dtype=np.float32)[examples.label_ids]
    shares = targets.mean(axis=0)
    if soft_labels:
        targets = np.concatenate((targets, soft_labels.probabilities))
    return TrainingData(
        ids=torch.from_numpy(ids).to(device),
        lengths=torch.from_numpy(np.maximum(lengths, 1)).to(device),
        targets=torch.from_numpy(targets).to(device),
        log_priors=torch.from_numpy(np.log(np.maximum(shares, 1e-6))).to(device),
        labelled=len(examples.names),
        drawn=soft_labels.per_epoch if soft_labels else 0,
    )
