"""The two evaluation protocols: split, fit, calibrate, measure.

* **honest**: no name is in two parts of the split, and junk is dropped. Validation chooses the
  epoch and, without outside names, the temperature; test is only measured. The weights of a version
  come from here.
* **seed**: a random 80/20 split of all rows, as in the original notebook, with duplicates in both
  parts; for comparison with its published accuracy. There is no validation part, so the temperature
  stays 1.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import torch

from charrnn.errors import DataError
from charrnn.model.calibration import (
    Floats,
    LabelIds,
    by_part,
    fit_confidence,
    fit_joint_temperature,
    fit_temperature,
    softmax,
)
from charrnn.model.engine import logits_of
from charrnn.model.facts import EpochRecord, Metrics
from charrnn.model.network import CharRNN
from charrnn.model.normalise import Normalisation, normalise_array
from charrnn.model.novelty import NoveltyScale, surprise
from charrnn.model.vocabulary import GIVEN, Encoded, Vocabulary
from charrnn.scoring.scorer import unscorable
from charrnn.training.batches import SoftLabels
from charrnn.training.corpus import Corpus, given_names
from charrnn.training.fit import Checkpoint, FitResult, fit
from charrnn.training.mapped import blocks_of, column_of
from charrnn.training.metrics import evaluate, rows_of_confidence
from charrnn.training.outside import LEAST, balanced_weights
from charrnn.training.presets import Preset
from charrnn.training.spellings import has_other_spellings, joined_names, other_spellings, unspaced
from charrnn.training.splits import (
    ExampleBlocks,
    Examples,
    Split,
    honest_split,
    seed_split,
    spaced_rows,
)
from charrnn.training.synthetic import synthetic_names

Protocol = Literal["honest", "seed"]
_MOST_RESPELLED = 2**20  # of the training names: those of more are Python objects for too long


@dataclass(frozen=True)
class Answers:
    """The answers of a fitted network for N names.

    Attributes:
        metrics: of the probabilities.
        probabilities: calibrated, ``(N, L)``.
        logits: of all outputs, uncalibrated, ``(N, K)``.
        label_ids: the truth, ``(N,)``.
        refused: names that scoring gives no label, ``(N,)``.
    """

    metrics: Metrics
    probabilities: Floats
    logits: npt.NDArray[np.float32]
    label_ids: npt.NDArray[np.int64]
    refused: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ProtocolResult:
    """A fit under one protocol, and its answers for validation and test names.

    Attributes:
        learned: what was fitted to, other spellings among them.
        temperature: 1 under ``seed``.
        given_temperature: that of given names; None where it is the same.
        novelty: the scale of novelty.
        validation: None under ``seed``, as the scale is.
    """

    fit: FitResult
    learned: Examples
    temperature: float
    given_temperature: float | None
    novelty: NoveltyScale | None
    validation: Answers | None
    test: Answers


def split_of(corpus: Corpus, protocol: Protocol, seed: int, *, spellings: bool = False) -> Split:
    """Return the protocol's split; only ``seed`` depends on the seed. For ``spellings`` see
    ``honest_split``.

    Raises:
        DataError: a part that must not be empty is.
    """
    honest = protocol == "honest"
    split = honest_split(corpus, spellings=spellings) if honest else seed_split(corpus, seed)
    parts = ("train", "test", "validation") if honest else ("train", "test")
    if empty := [part for part in parts if not len(getattr(split, part).names)]:
        raise DataError(
            f"the {protocol} split of {len(corpus.names)} rows leaves {', '.join(empty)} empty; "
            "ingest more names"
        )
    return split


def run_protocol(
    corpus: Corpus,
    preset: Preset,
    protocol: Protocol,
    *,
    device: torch.device | str = "cpu",
    checkpoints: Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    on_names: Callable[[int, int], None] = lambda done, left: None,
    split: Split | None = None,
    teacher: ProtocolResult | None = None,
    outside: Examples | None = None,
) -> ProtocolResult:
    """Fit ``preset`` under a protocol and measure it.

    Args:
        preset: settled (``Preset.settled``); its ``train.seed`` is the seed of the fit and of the
            seed protocol's split. A preset with a teacher fits that first, on the same split.
        checkpoints: folder with one file per fit; None writes none.
        resume: continue from the files in ``checkpoints``; see ``training.fit``.
        on_epoch: called after every epoch, those of the teacher included.
        on_names: called after every step; see ``training.fit``.
        split: replaces the protocol's own, for rotation.
        teacher: a fitted teacher, to be used instead of fitting one.
        outside: names of other lists, on whose surnames the temperature is fitted, every label
            counting alike, instead of on the validation part.

    Raises:
        DataError: a part of the split is empty.
    """
    vocabulary = preset.symbols
    spellings = vocabulary.normalisation.composes
    split = split or split_of(corpus, protocol, preset.train.seed, spellings=spellings)
    soft_labels = None
    if preset.teacher:
        teacher = teacher or run_protocol(
            corpus,
            preset.teacher,
            protocol,
            device=device,
            checkpoints=checkpoints,
            resume=resume,
            on_epoch=on_epoch,
            on_names=on_names,
            split=split,
            outside=outside,
        )
        soft_labels = _soft_labels(teacher, preset.teacher.symbols, preset, split.train)
    identity = identity_of(corpus, preset, protocol)
    learned = respelled(split.train, vocabulary.normalisation)
    fitted = fit(
        preset.model_config(len(corpus.labels)),
        preset.train,
        vocabulary,
        learned,
        validation=split.validation if len(split.validation.names) else None,
        soft_labels=soft_labels,
        device=device,
        checkpoint=Checkpoint(checkpoints / f"{identity[:16]}.safetensors", identity, resume)
        if checkpoints
        else None,
        on_epoch=on_epoch,
        on_names=on_names,
    )
    return _measure(fitted, learned, vocabulary, split, corpus.labels, outside)


def respelled(examples: Examples, rules: Normalisation) -> Examples:
    """Return the examples and, where ``rules`` keep accents, as further ones their other spellings
    (``other_spellings``), those of outliers too, and full names without a space
    (``joined_names``). Where there are given names, outliers of one word are outliers as given
    names, too. Of more than ``_MOST_RESPELLED`` names to respell, or to join, evenly spaced
    ones are taken."""
    if not rules.composes:
        return examples
    has_others = column_of(
        (has_other_spellings(texts, rules) for _, texts in _normalised(examples, rules)),
        np.bool_,
        examples.scratch,
    )
    chosen = examples.take(spaced_rows(has_others, _MOST_RESPELLED))
    columns = (normalise_array(chosen.names, rules), chosen.label_ids, chosen.weights)
    further = [
        (spelling, label_id, weight)
        for name, label_id, weight in zip(*(column.tolist() for column in columns), strict=True)
        for spelling in other_spellings(name, rules)
    ]
    words = examples.outliers.to_pylist()
    words += [spelling for word in words for spelling in other_spellings(word, rules)]
    blocks = [examples.names[rows] for rows in blocks_of(len(examples.names))]
    if any(given_names(names).any() for names in blocks):
        usual = float(examples.weights.mean(dtype=np.float64))
        is_unspaced = column_of(map(unspaced, blocks), np.bool_, examples.scratch)
        chosen = examples.take(spaced_rows(is_unspaced, _MOST_RESPELLED))
        joined = joined_names(chosen.names, chosen.label_ids, chosen.weights)
        further += [(*pair, usual) for pair in joined]
        words += [GIVEN + word for word in words if len(word.split()) == 1]
    schema = {"name": pl.String, "label_id": pl.Int64, "weight": pl.Float32}
    added = pl.DataFrame(further, schema, orient="row")
    keys = pl.Series("key", normalise_array(added["name"].to_arrow(), rules))
    pair = ("key", "label_id")
    added = added.with_columns(keys).unique(pair, keep="first", maintain_order=True)
    for block, texts in _normalised(examples, rules) if further else ():
        known = pl.DataFrame({"key": texts, "label_id": examples.label_ids[block]})
        added = added.join(known, on=pair, how="anti", maintain_order="left")
    with_added = ExampleBlocks(examples.scratch)
    with_added.extend(examples)
    label_ids, weights = added["label_id"].to_numpy(), added["weight"].to_numpy()
    with_added.extend(Examples.of(added["name"].to_arrow(), label_ids, weights=weights))
    return with_added.whole(pa.array(list(dict.fromkeys(words)), pa.large_string()))


def _normalised(
    examples: Examples, rules: Normalisation
) -> Iterator[tuple[slice, pa.LargeStringArray]]:
    """Yield blocks of rows, and their normalised names."""
    for rows in blocks_of(len(examples.names)):
        yield rows, normalise_array(examples.names[rows], rules)


def _measure(
    fitted: FitResult,
    learned: Examples,
    vocabulary: Vocabulary,
    split: Split,
    labels: Sequence[str],
    outside: Examples | None,
) -> ProtocolResult:
    """Fit temperature and scale of novelty, on the outside names, surnames and given names apart,
    else on the validation part, where there is one, and measure the network."""
    network, L = fitted.network, len(labels)
    temperature, given_temperature = 1.0, None

    def answers(examples: Examples, encoded: Encoded, logits: npt.NDArray[np.float32]) -> Answers:
        temperatures = by_part(examples.given, temperature, given_temperature)
        probabilities = softmax(logits[:, :L], temperatures)
        refused = unscorable(encoded, examples.names) != 0
        metrics = evaluate(probabilities, examples.label_ids, labels, refused)
        return Answers(metrics, probabilities, logits, examples.label_ids, refused)

    validation, novelty = None, None
    if len(split.validation.names):
        label_ids = split.validation.label_ids
        encoded = vocabulary.encode(split.validation.names)
        logits = logits_of(network, encoded)
        rows = rows_of_confidence(unscorable(encoded, split.validation.names) != 0)
        if network.config.label_groups:
            _sharpen(network, logits[rows], label_ids[rows])
            logits = logits_of(network, encoded)
        elif not outside:
            temperature = fit_temperature(logits[rows, :L], label_ids[rows])
        novelty = NoveltyScale.of(surprise(torch.from_numpy(logits[rows]), L))
        if outside:
            others = logits_of(network, vocabulary.encode(outside.names))
            ids, surnames = outside.label_ids, ~outside.given
            weights = balanced_weights(ids[surnames], LEAST)
            novelty = NoveltyScale.of(surprise(torch.from_numpy(others[surnames]), L), weights)
            if not network.config.label_groups:
                temperature = _fit_part(others[:, :L], ids, surnames)
                if outside.given.any() and GIVEN in vocabulary.symbols:
                    given_temperature = _fit_part(others[:, :L], ids, outside.given)
        validation = answers(split.validation, encoded, logits)
    encoded = vocabulary.encode(split.test.names)
    test = answers(split.test, encoded, logits_of(network, encoded))
    temperatures = (temperature, given_temperature)
    return ProtocolResult(fitted, learned, *temperatures, novelty, validation, test)


def _fit_part(
    logits: npt.NDArray[np.float32], label_ids: LabelIds, rows: npt.NDArray[np.bool_]
) -> float:
    """Return the temperature of the outside names ``rows``, bool ``(N,)``: of the surnames, or of
    the given names."""
    weights = balanced_weights(label_ids[rows], LEAST)
    return fit_confidence(logits[rows].astype(np.float64), label_ids[rows], weights)


def _sharpen(
    network: CharRNN, logits: npt.NDArray[np.float32], label_ids: npt.NDArray[np.int64]
) -> None:
    """Fit one temperature to the groups and to the labels in them, by the logits ``(M, K)`` of
    names with label ids ``(M,)``, and divide both by it, for good: that of all logits would need
    all of them in scoring."""
    G, S = network.config.label_groups, network.config.group_size
    places = network.places.numpy().astype(np.int64)
    flat = np.full((len(logits), G * S), -np.inf)
    flat[:, places] = logits
    grid = flat.reshape(-1, G, S)
    group, slot = np.divmod(places[label_ids], S)
    own = grid[np.arange(len(grid)), group]
    of_group = np.logaddexp.reduce(grid, axis=2)
    network.sharpen(fit_joint_temperature([(of_group, group), (own, slot)]))


def _soft_labels(
    teacher: ProtocolResult, vocabulary: Vocabulary, preset: Preset, train: Examples
) -> SoftLabels:
    """Return synthetic names with the teacher's calibrated probabilities."""
    names = synthetic_names(
        normalise_array(train.names, vocabulary.normalisation).to_pylist(),
        train.label_ids.tolist(),
        preset.synthetic,
        preset.train.seed,
    )
    texts = pa.array(names, pa.large_string())
    logits = logits_of(teacher.fit.network, vocabulary.encode(texts))
    is_given = given_names(texts)
    temperatures = by_part(is_given, teacher.temperature, teacher.given_temperature)
    probabilities = softmax(logits, temperatures).astype(np.float32)
    return SoftLabels(names, probabilities, preset.synthetic_per_epoch)


def identity_of(corpus: Corpus, preset: Preset, protocol: Protocol) -> str:
    """Return a digest of all that decides a fit: data, recipe, seed and protocol."""
    content = {
        "data": corpus.digest,
        "protocol": protocol,
        "model": preset.model,
        "synthetic": [preset.synthetic, preset.synthetic_per_epoch],
        "teacher": identity_of(corpus, preset.teacher, protocol) if preset.teacher else "",
        "train": asdict(preset.train),
        "vocabulary": asdict(preset.symbols),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
