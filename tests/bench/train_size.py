"""Train the default preset on made-up names and print time, memory and quality.

    python tests/bench/train_size.py --rows 1_000_000 --labels 100
    python tests/bench/train_size.py --rows 10_000_000 --rounds 1      # of a pass of several

The corpus is made in memory, as ``load_corpus`` returns one, and split, fitted, calibrated and
measured as ``charrnn train`` does it, in this process and one thread. Then distinct names are
scored by the new version. With ``--rounds`` the fit ends after so many epochs, and nothing else is
measured.
"""

import argparse
import resource
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from common import circumstances
from labelled_names import SCRIPTS, LabelledNames

from charrnn.model.facts import EpochRecord, Provenance
from charrnn.scoring.options import ScoreOptions
from charrnn.scoring.scorer import Scorer
from charrnn.training.baselines import ngram_probabilities
from charrnn.training.corpus import Corpus
from charrnn.training.name_keys import FOLDS
from charrnn.training.presets import PRESETS, with_overrides
from charrnn.training.protocol import run_protocol, split_of
from charrnn.training.release import make_version


def corpus_of(made_up: LabelledNames, rows: int) -> Corpus:
    """Return a corpus of ``rows`` made-up names; equal names are in one fold."""
    names, label_ids = made_up.rows(0, rows)
    keys = pc.utf8_lower(names)
    codes = keys.dictionary_encode().indices.to_numpy().astype(np.uint64)
    folds = ((codes * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) % np.uint64(FOLDS)
    return Corpus(
        names=names,
        normalised=keys,
        label_ids=label_ids.astype(np.int32),
        folds=folds.astype(np.int8),
        weights=np.ones(rows, np.float32),
        sources=pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["made up"]),
        labels=tuple(made_up.label_names),
        digest="0" * 64,
        outliers=pa.array([], pa.large_string()),
        outlier_folds=np.zeros(0, np.int8),
        counted=True,
    )


class EnoughError(Exception):
    """The epochs that were asked for are done."""


class Stages:
    """Prints what each stage took, in CPU and elapsed seconds, and the peak memory so far."""

    def __init__(self) -> None:
        self.cpu, self.elapsed = time.process_time(), time.perf_counter()

    def __call__(self, stage: str) -> float:
        cpu, elapsed = time.process_time(), time.perf_counter()
        used = cpu - self.cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{stage:12} {used:8.1f} s CPU {elapsed - self.elapsed:8.1f} s {peak:6.2f} GB",
            flush=True,
        )
        self.cpu, self.elapsed = cpu, elapsed
        return used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--scripts", nargs="+", default=["latin"], choices=SCRIPTS)
    parser.add_argument("--epochs", type=int, help="passes, instead of the preset's")
    parser.add_argument("--rounds", type=int, help="end after so many epochs")
    parser.add_argument("--peer", action="store_true", help="also fit scikit-learn's regression")
    parser.add_argument("--score", type=int, default=200_000, help="distinct names to score")
    arguments = parser.parse_args()
    print(circumstances("torch"))
    torch.set_num_threads(1)
    stage = Stages()
    made_up = LabelledNames(arguments.labels, arguments.scripts)
    corpus = corpus_of(made_up, arguments.rows)
    stage("make up")
    preset = with_overrides(PRESETS["default"].settled(corpus), epochs=arguments.epochs)
    stage("vocabulary")
    read: list[int] = []

    def epoch(record: EpochRecord) -> None:
        print("  ", record, flush=True)
        stage(f"epoch {record.epoch}")
        if record.epoch == arguments.rounds:
            raise EnoughError

    def names(done: int, left: int) -> None:
        if not read:
            stage("examples")
        read[:] = done, left

    started = time.process_time()
    try:
        result = run_protocol(corpus, preset, "honest", on_epoch=epoch, on_names=names)
        stage("measure")
    except EnoughError:
        result = None
    done, left = read
    print(
        f"{done:,} of {done + left:,} names of {preset.train.epochs} passes read, "
        f"{done / (time.process_time() - started):,.0f} a second of CPU"
    )
    if result is None:
        return
    provenance = Provenance("2026-01-01T00:00:00Z", "cpu", 1, {})
    version = make_version(corpus, preset, result, [], {}, provenance)
    stage("make version")
    test = result.test
    print(
        f"test: {test.count:,} names, accuracy {test.accuracy:.4f}, NLL {test.nll:.4f}, "
        f"ECE {test.ece:.4f}"
    )
    if arguments.peer:
        split = split_of(corpus, "honest", 0)
        stage("split")
        parts = [part.names.to_pylist() for part in (split.train, split.test)]
        found = ngram_probabilities(parts[0], split.train.label_ids, parts[1], arguments.labels)
        stage("peer")
        accuracy = (found.argmax(axis=1) == split.test.label_ids).mean()
        print(f"char 1-5-grams + logistic regression: accuracy {accuracy:.4f}")
    names, _ = made_up.rows(2**40, 2 * arguments.score)
    distinct = names.unique().slice(0, arguments.score)
    scorer = Scorer(version)
    stage("load")
    scorer.predict(distinct, ScoreOptions())
    used = stage("score")
    print(f"{len(distinct) / used:,.0f} different names scored a second of CPU")
    if version.config.label_groups:
        tested = split_of(corpus, "honest", 0).test
        of_few, of_all = (
            scorer.predict(tested.names, ScoreOptions(probabilities=every)).ranked[:, 0]
            for every in (False, True)
        )
        right = [(found == tested.label_ids).mean() for found in (of_few, of_all)]
        print(
            f"{(of_few == of_all).mean():.1%} of test names get the label of all logits; "
            f"accuracy {right[0]:.4f}, by all {right[1]:.4f}"
        )


if __name__ == "__main__":
    main()
