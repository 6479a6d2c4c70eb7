"""Train the default preset on made-up names and print time, memory and quality.

    python tests/bench/train_size.py --rows 1_000_000 --labels 100
    python tests/bench/train_size.py --rows 10_000_000 --rounds 1      # of a pass of several
    python tests/bench/train_size.py --rows 10_000_000 --narrow       # memory of all else

A labelled table is made and ingested by ``charrnn ingest``, then loaded, split, fitted, calibrated
and measured as ``charrnn train`` does it, in this process and one thread. Then distinct names are
scored by the new version. With ``--rounds`` the fit ends after so many epochs, and nothing else is
measured. Beside the time of each stage stand its peak of anonymous memory, which the kernel cannot
take back, and the peak of all memory so far, mapped files included.
"""

import argparse
import resource
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import torch
from common import circumstances
from ingest import measure as ingest
from ingest import write
from labelled_names import SCRIPTS, LabelledNames

from charrnn.model.facts import EpochRecord, Provenance
from charrnn.scoring.options import ScoreOptions
from charrnn.scoring.scorer import Scorer
from charrnn.training.baselines import ngram_probabilities
from charrnn.training.corpus import load_corpus
from charrnn.training.evidence import check_trainable
from charrnn.training.presets import PRESETS, with_overrides
from charrnn.training.protocol import run_protocol, split_of
from charrnn.training.release import make_version

NARROW = {"hidden_size": 8, "embedding_size": 8, "ngram_buckets": 2**10}


class EnoughError(Exception):
    """The epochs that were asked for are done."""


class Stages:
    """Prints what each stage took, in CPU and elapsed seconds, and peaks of memory."""

    def __init__(self) -> None:
        self.cpu, self.elapsed = time.process_time(), time.perf_counter()
        self.anonymous = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            kilobytes = status.partition("RssAnon:")[2].split()[0]
            self.anonymous = max(self.anonymous, int(kilobytes) / 2**20)
            time.sleep(0.02)

    def __call__(self, stage: str) -> float:
        cpu, elapsed = time.process_time(), time.perf_counter()
        used = cpu - self.cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{stage:12} {used:8.1f} s CPU {elapsed - self.elapsed:8.1f} s "
            f"{self.anonymous:6.2f} GB anonymous {peak:6.2f} GB",
            flush=True,
        )
        self.cpu, self.elapsed, self.anonymous = cpu, elapsed, 0
        return used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--scripts", nargs="+", default=["latin"], choices=SCRIPTS)
    parser.add_argument("--epochs", type=int, help="passes, instead of the preset's")
    parser.add_argument("--rounds", type=int, help="end after so many epochs")
    parser.add_argument("--narrow", action="store_true", help="one fast pass of a small network")
    parser.add_argument("--scratch", type=Path, help="folder for the table and for mapped files")
    parser.add_argument("--peer", action="store_true", help="also fit scikit-learn's regression")
    parser.add_argument("--score", type=int, default=200_000, help="distinct names to score")
    arguments = parser.parse_args()
    print(circumstances("torch"))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        measure_training(arguments, Path(folder))


def measure_training(arguments: argparse.Namespace, folder: Path) -> None:
    """Print what the training of a table takes, whose files are in ``folder``."""
    made_up, data = LabelledNames(arguments.labels, arguments.scripts), folder / "names.parquet"
    write(folder / "people.parquet", made_up, arguments.rows, "parquet")
    cpu, peak = ingest(folder / "people.parquet", data)
    print(f"ingest       {cpu:8.1f} s CPU {peak:6.2f} GB", flush=True)
    stage = Stages()
    corpus = load_corpus(data, folder)
    stage("load corpus")
    preset = with_overrides(PRESETS["default"].settled(corpus), epochs=arguments.epochs)
    if arguments.narrow:
        train = replace(preset.train, epochs=1, batch_size=2**14)
        preset = replace(preset, model=preset.model | NARROW, train=train)
    stage("vocabulary")
    check_trainable(corpus, preset.symbols)
    stage("evidence")
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
    test = result.test.metrics
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
