"""Training examples on the device, and the batches of one epoch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from charrnn.model.network import ModelConfig
from charrnn.model.novelty import name_hashes
from charrnn.model.vocabulary import Encoded, Vocabulary, batches
from charrnn.training.frequencies import USUAL
from charrnn.training.mapped import Column, blocks_of
from charrnn.training.name_keys import script_of
from charrnn.training.presets import TrainConfig
from charrnn.training.splits import ExampleBlocks, Examples

_COUNTED = 2**13  # examples whose n-grams are counted at a time
_BLOCK = 2**6  # rows that stay together in an epoch of a pass
_MOST_TIMES = 16  # that a frequent name is read in an epoch
_SORTED_BATCHES = 16  # batches sorted by length together: little padding, still a random order


@dataclass(frozen=True)
class SoftLabels:
    """Unlabelled names with a teacher's probabilities, float32 ``(N, K)``, of which ``per_epoch``
    are drawn anew for every epoch."""

    names: list[str]
    probabilities: npt.NDArray[np.float32]
    per_epoch: int


@dataclass(frozen=True)
class Batch:
    """B examples of a step, on the device.

    Attributes:
        ids: ``(B, T)``, padded.
        lengths: ``(B,)``; None where all are T.
        targets: probabilities of the outputs ``(B, K)``, or label ids, int64 ``(B,)``.
        log_priors: log shares of the outputs ``(B, K)`` or ``(K,)``, for the logit adjustment.
        weights: how much each example counts, ``(B,)``, with a mean of 1 over all of them; None
            where all count alike.
    """

    ids: Tensor
    lengths: Tensor | None
    targets: Tensor
    log_priors: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True)
class TrainingData:
    """N examples on the device: first the labelled ones, then those with soft labels.

    Attributes:
        ids: ``(N, T)``, padded.
        lengths: ``(N,)``, at least 1.
        targets: probabilities ``(N, K)``, one-hot for names of one label; K is the number of the
            network's outputs.
        log_priors: log shares of the outputs among the labelled examples of each of S scripts,
            ``(S, K)``.
        scripts: of the labelled examples, ``(N,)``.
        adjusted: which examples the logit adjustment is for, ``(N,)``: those of one label.
        labelled: number of labelled examples, outliers included; all of them are used in every
            epoch.
        drawn: examples with soft labels that are drawn for an epoch.
    """

    ids: Tensor
    lengths: Tensor
    targets: Tensor
    log_priors: Tensor
    scripts: Tensor
    adjusted: Tensor
    labelled: int
    drawn: int

    @property
    def rounds(self) -> int:
        """Number of epochs in a pass over the examples."""
        return 1

    def batch(self, rows: Tensor) -> Batch:
        """Return the examples of the row numbers ``rows``, int64 ``(B,)``."""
        on_device = rows.to(self.ids.device)
        lengths = self.lengths[on_device]
        ids = self.ids[on_device, : int(lengths.max())]
        targets, log_priors = self.targets[on_device], self.log_priors_of(on_device)
        return Batch(ids, lengths, targets, log_priors)

    def ngram_ids(self) -> Iterator[Tensor]:
        """Yield the ids of the labelled examples, int64 ``(B, T)`` each."""
        for first in range(0, self.labelled, _COUNTED):
            yield self.ids[first : min(first + _COUNTED, self.labelled)].long()

    def log_priors_of(self, rows: Tensor) -> Tensor:
        """Return ``log_priors`` for each of B rows, ``(B, K)``; 0 for those that need no
        adjustment."""
        return self.log_priors[self.scripts[rows]] * self.adjusted[rows][:, None]

    def batches(self, train: TrainConfig, epoch: int) -> list[Tensor]:
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


@dataclass(frozen=True)
class SparseData:
    """N examples on the host, in mapped files where they are many: see ``mapped.Column``.

    Attributes:
        encoded: the names; ``unknown`` and ``letters``, which training does not read, are 0.
        label_ids: int64 ``(N,)``.
        weights: float32 ``(N,)``; None where all count alike.
        mean_weight: of these.
        log_priors: log shares of the outputs, ``(K,)``, on the device.
        round_size: names of an epoch, at most; 0: all.
    """

    encoded: Encoded
    label_ids: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32] | None
    mean_weight: np.float32
    log_priors: Tensor
    round_size: int

    @property
    def rounds(self) -> int:
        """Number of epochs in a pass over the examples."""
        return math.ceil(len(self.label_ids) / (self.round_size or len(self.label_ids)))

    def batches(self, train: TrainConfig, epoch: int) -> list[Tensor]:
        """Return one epoch's batches, each int64 row numbers ``(B,)`` of names of one length.

        A pass is shuffled by blocks of rows, and what an epoch has of it by rows.
        """
        N, (one_pass, part) = len(self.label_ids), divmod(epoch - 1, self.rounds)
        block = min(_BLOCK, N // self.rounds)
        blocks = np.random.default_rng((train.seed, 0, one_pass)).permutation(math.ceil(N / block))
        own = np.array_split(blocks, self.rounds)[part]
        rows = (own[:, None] * block + np.arange(block)).reshape(-1)
        draw = np.random.default_rng((train.seed, 1, epoch))
        rows = draw.permutation(rows[rows < N])
        groups = list(batches(self.encoded.lengths[rows], train.batch_size))
        return [torch.from_numpy(rows[groups[i]]) for i in draw.permutation(len(groups)).tolist()]

    def batch(self, rows: Tensor) -> Batch:
        """Return the examples of the row numbers ``rows``, int64 ``(B,)``, names of one length."""
        chosen, device = rows.numpy(), self.log_priors.device
        weights = None
        if self.weights is not None:
            weights = torch.from_numpy(self.weights[chosen] / self.mean_weight).to(device)
        return Batch(
            ids=torch.from_numpy(self.encoded.padded(chosen)[0]).to(device),
            lengths=None,
            targets=torch.from_numpy(self.label_ids[chosen]).to(device),
            log_priors=self.log_priors,
            weights=weights,
        )

    def ngram_ids(self) -> Iterator[Tensor]:
        """Yield the ids of the examples, int64 ``(B, T)`` each."""
        device = self.log_priors.device
        for block in blocks_of(len(self.label_ids)):
            for rows in batches(self.encoded.lengths[block], _COUNTED):
                ids = self.encoded.padded(block.start + rows)[0]
                yield torch.from_numpy(ids).to(device).long()


def sparse_data(
    vocabulary: Vocabulary,
    examples: Examples,
    config: ModelConfig,
    train: TrainConfig,
    device: torch.device,
) -> SparseData:
    """Encode the examples, the outliers among them where the network has an output for these."""
    outliers = _outliers(vocabulary, examples, config)
    if outliers:
        blocks = ExampleBlocks(examples.scratch)
        blocks.extend(examples)
        blocks.extend(Examples.of(outliers, np.full(len(outliers), config.label_count)))
        examples = blocks.whole(examples.outliers)
    label_ids, weights = examples.label_ids, examples.weights
    counts = np.zeros(config.outputs)
    for rows in blocks_of(len(label_ids)):
        counts += np.bincount(label_ids[rows], weights[rows], config.outputs)
    shares = counts / weights.sum()
    log_priors = torch.from_numpy(np.log(np.maximum(shares, 1e-6)).astype(np.float32))
    return SparseData(
        encoded=_encoded(vocabulary, examples),
        label_ids=label_ids,
        weights=weights if examples.has_frequencies else None,
        mean_weight=weights.mean(),
        log_priors=log_priors.to(device),
        round_size=train.round_size,
    )


def _encoded(vocabulary: Vocabulary, examples: Examples) -> Encoded:
    """Return the names of N examples, encoded by blocks; see ``SparseData``."""
    scratch, N = examples.scratch, len(examples.names)
    flat, starts = Column(np.uint8, scratch), Column(np.int64, scratch)
    lengths, first, longest = Column(np.int64, scratch), 0, 0
    for rows in blocks_of(N):
        block = vocabulary.encode(examples.names[rows])
        flat.append(block.flat)
        starts.append(block.starts + first)
        lengths.append(block.lengths)
        first, longest = first + len(block.flat), max(longest, int(block.lengths.max()))
    flat.append(np.zeros(longest + 8, np.uint8))
    nothing = np.broadcast_to(np.int64(0), N)
    return Encoded(flat.whole(), starts.whole(), lengths.whole(), nothing, nothing, vocabulary)


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
    ``merge_shared`` see ``TrainConfig``."""
    outliers = _outliers(vocabulary, examples, config)
    outputs = np.concatenate((examples.label_ids, np.full(len(outliers), config.label_count)))
    names = examples.names.to_pylist() + outliers
    targets = np.eye(config.outputs, dtype=np.float32)[outputs]
    shares = targets.mean(axis=0)
    if merge_shared:
        word = USUAL if examples.has_frequencies else 1
        words = np.full(len(outliers), word, np.float32)
        frequencies = np.append(examples.weights, words)
        # Of a name on several lists, long ones have less common names, and frequencies are known
        # roughly: hence the root.
        weights = np.sqrt(shares[outputs] * frequencies)
        names, targets = _merged(names, targets * weights[:, None], frequencies, vocabulary)
    labelled, adjusted = len(names), (targets == 1).any(axis=1)
    scripts, log_priors = _priors_by_script(names, targets, config.label_count)
    if soft_labels:
        names = names + soft_labels.names
        targets = np.concatenate((targets, soft_labels.probabilities))
        adjusted = np.append(adjusted, np.zeros(len(soft_labels.names), bool))
        scripts = np.append(scripts, np.zeros(len(soft_labels.names), np.int64))
    ids, lengths = vocabulary.encode(pa.array(names)).padded()
    return TrainingData(
        ids=torch.from_numpy(ids).to(device),
        lengths=torch.from_numpy(np.maximum(lengths, 1)).to(device),
        targets=torch.from_numpy(targets).to(device),
        log_priors=torch.from_numpy(log_priors).to(device),
        scripts=torch.from_numpy(scripts).to(device),
        adjusted=torch.from_numpy(adjusted).to(device),
        labelled=labelled,
        drawn=soft_labels.per_epoch if soft_labels else 0,
    )


def _priors_by_script(
    names: list[str], targets: npt.NDArray[np.float32], label_count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the script of each of N names, ``(N,)``, and the log priors of the outputs in each of
    S scripts, ``(S, K)``: the loss is to count labels alike among the names of a script, however
    much of a label's names is in another one, and its outliers as much as all of its names. A label
    without names of a script counts as if all were its, which teaches that it has none."""
    codes = pa.array(list(map(script_of, names))).dictionary_encode()
    scripts = codes.indices.to_numpy().astype(np.int64)
    sums = np.zeros((len(codes.dictionary), targets.shape[1]), np.float32)
    np.add.at(sums, scripts, targets)
    labels, outliers = np.split(sums, [label_count], axis=1)
    of_names = np.maximum(labels.sum(axis=1, keepdims=True), 1e-6)
    shares = np.where(labels > 0, labels / of_names, 1)
    usual = 1 / np.maximum((labels > 0).sum(axis=1, keepdims=True), 1)  # share of a label
    of_outliers = usual * np.where(outliers > 0, outliers / of_names, 1)
    return scripts, np.log(np.hstack((shares, of_outliers))).astype(np.float32)


def _outliers(vocabulary: Vocabulary, examples: Examples, config: ModelConfig) -> list[str]:
    """Return the outliers to learn from: those in which ``vocabulary`` reads two letters or more,
    since where one symbol stands for a script, names and other words look alike."""
    outliers = examples.outliers.to_pylist() if config.none_output else []
    read = [vocabulary.decode(vocabulary.encode_one(text)) for text in outliers]
    letters = [{c for c in text if c.isalpha()} for text in read]
    return [text for text, known in zip(outliers, letters, strict=True) if len(known) > 1]


def _merged(
    names: list[str],
    targets: npt.NDArray[np.float32],
    frequencies: npt.NDArray[np.float32],
    vocabulary: Vocabulary,
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Return one row for all of the N rows of a name, as ``vocabulary`` reads it, whose target they
    share in proportion to theirs, ``(N, K)``; a frequent name's row several times, by the highest
    of its ``frequencies``, ``(N,)``: such names are a few of a list, and many rows of a table."""
    hashes = name_hashes(vocabulary.encode(pa.array(names)))
    _, first, row = np.unique(hashes, return_index=True, return_inverse=True)
    outputs = np.zeros((len(first), targets.shape[1]), np.float32)
    np.maximum.at(outputs, row, targets)
    ordered = outputs[np.argsort(first)]
    merged = ordered / ordered.sum(axis=1, keepdims=True)
    highest = np.zeros(len(first), np.float32)
    np.maximum.at(highest, row, frequencies)
    times = np.clip(np.sqrt(highest / USUAL), 1, _MOST_TIMES).astype(np.int64)
    rows = np.repeat(np.arange(len(first)), times[np.argsort(first)])
    kept = np.sort(first)[rows].tolist()
    return [names[i] for i in kept], merged[rows]
