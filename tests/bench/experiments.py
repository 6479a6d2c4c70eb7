"""What was tried for the default and tiny presets, measured on validation names, as a table.

    python tests/bench/experiments.py                   # all; about half an hour on one core
    python tests/bench/experiments.py --only tau cell   # those whose name contains one of these

Every variant is fitted without fold 9 (the test fold, never looked at here) for validation folds 8
and 7, and measured on both together: about 3,600 names, so one standard error of the accuracy is
0.6 points. Differences below that are not findings. Writes docs/experiments.md.
"""

import argparse
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load
from torch import Tensor, nn

from charrnn.calibration import fit_temperature, softmax
from charrnn.corpus import Corpus, Examples, Split, honest_split, load_corpus
from charrnn.evaluation import evaluate, ngram_probabilities
from charrnn.inference import logits_of
from charrnn.model import CharRNN, ModelConfig, NgramTable
from charrnn.synthetic import synthetic_names
from charrnn.text import normalise
from charrnn.training import PRESETS, Preset, Taught, fit

VALIDATION_FOLDS = (8, 7)


# --- networks that the library does not have ------------------------------------------------------


class PackedGRU(CharRNN):
    """Two layers of torch's own bidirectional GRU, the n-grams as they are."""

    layers, attend = 2, False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        E, H = config.embedding_size, config.hidden_size
        del self.forward_rnn, self.backward_rnn
        self.gru = nn.GRU(E, H, self.layers, batch_first=True, bidirectional=True,
                          dropout=0.2 if self.layers > 1 else 0.0)  # fmt: skip
        self.score = nn.Linear(2 * H, 1) if self.attend else None
        if self.attend:
            self.h2o = nn.Linear(4 * H, config.label_count)

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        ids = ids.long()
        own = torch.full((len(ids),), ids.shape[1]) if lengths is None else lengths.clamp(min=1)
        assert self.embedding is not None
        x = self.embedding(ids)
        if self.training:
            kept = x.new_ones(len(ids), 1, x.shape[2])
            x = x * nn.functional.dropout(kept, self.config.input_dropout)
        packed = nn.utils.rnn.pack_padded_sequence(x, own, batch_first=True, enforce_sorted=False)
        hidden, last = self.gru(packed)
        pooled = torch.cat((last[-2], last[-1]), dim=1)
        if self.score is not None:
            states, _ = nn.utils.rnn.pad_packed_sequence(hidden, batch_first=True)
            inside = torch.arange(states.shape[1]) < own[:, None]
            weight = self.score(states)[:, :, 0].masked_fill(~inside, -torch.inf).softmax(dim=1)
            pooled = torch.cat((pooled, (weight[:, :, None] * states).sum(dim=1)), dim=1)
        logits = self.h2o(self.dropout(pooled))
        return logits if self.ngrams is None else logits + self.ngrams(ids, lengths)


class Attention(PackedGRU):
    """One layer, and an attention-weighted mean of the states beside the last ones."""

    layers, attend = 1, True


class NgramsOnly(CharRNN):
    """The wide part alone: a linear model of hashed n-grams."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        del self.forward_rnn, self.embedding
        self.embedding = None

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        assert isinstance(self.ngrams, NgramTable)
        return self.h2o.bias + self.ngrams(ids.long(), lengths)


# --- variants -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """One line of the table: a preset with changes, a network, a way to change the examples.

    With several ``seeds`` the probabilities are averaged (an ensemble), or with ``pick`` the seed
    best on every second validation name is taken and measured on the others. ``average_last``
    averages the weights of that many last epochs. ``taught_by_default`` adds made-up names with
    the default's answers.
    """

    name: str
    preset: str = "default"
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    build: Callable[[ModelConfig], CharRNN] = CharRNN
    examples: Callable[[Corpus, Examples], Examples] = lambda corpus, examples: examples
    seeds: Sequence[int] = (0,)
    pick: bool = False
    average_last: int = 0
    taught_by_default: bool = False


def with_typos(corpus: Corpus, examples: Examples) -> Examples:
    """Add to every name a copy in which one character is dropped, doubled or swapped."""
    draw = random.Random(0)
    noisy = []
    for name in map(normalise, examples.names):
        i = draw.randrange(len(name))
        dropped, doubled = name[:i] + name[i + 1 :], name[: i + 1] + name[i:]
        swapped = name[:i] + name[i : i + 2][::-1] + name[i + 2 :]
        noisy.append(draw.choice((dropped, doubled, swapped)) or name)
    return Examples(examples.names + noisy, np.tile(examples.label_ids, 2))


def without_doubtful(corpus: Corpus, examples: Examples) -> Examples:
    """Drop names whose label a model of the other half gives less than 1 %."""
    preset, half = PRESETS["default"], np.arange(len(examples.names)) % 2
    kept = []
    for side in (0, 1):
        rows = np.flatnonzero(half != side)
        other = np.flatnonzero(half == side)
        learned = Examples([examples.names[i] for i in rows], examples.label_ids[rows])
        fitted = fit(
            preset.model_config(len(corpus.labels)), preset.train, preset.vocabulary, learned
        )
        p = softmax(_logits(fitted.network, preset, [examples.names[i] for i in other]), 1.2)
        kept += other[p[np.arange(len(other)), examples.label_ids[other]] >= 0.01].tolist()
    rows = np.sort(np.array(kept))
    return Examples([examples.names[i] for i in rows], examples.label_ids[rows])


def backwards(corpus: Corpus, examples: Examples) -> Examples:
    """Turn every name round."""
    return Examples([normalise(name)[::-1] for name in examples.names], examples.label_ids)


BOTH = {"cell": "gru", "bidirectional": True}
VARIANTS = [
    Variant("default"),
    Variant("default, seed 1", seeds=(1,)),
    Variant("default, seed 2", seeds=(2,)),
    Variant("two directions", model={"bidirectional": True}),
    Variant("narrower: 64 hidden", model={"hidden_size": 64}),
    Variant("wider: 256 hidden", model={"hidden_size": 256}),
    Variant("pooling: last, mean and maximum", model={"pooling": "last_mean_max"}),
    Variant("no n-grams", model={"ngram_buckets": 0}),
    Variant("n-grams alone, no recurrence", build=NgramsOnly),
    Variant("n-grams in 2^13 buckets", model={"ngram_buckets": 2**13}),
    Variant("n-grams in 2^17 buckets", model={"ngram_buckets": 2**17}),
    Variant("logit adjustment 0", train={"logit_adjustment": 0.0}),
    Variant("logit adjustment 0.5", train={"logit_adjustment": 0.5}),
    Variant("logit adjustment 1 (balanced)", train={"logit_adjustment": 1.0}),
    Variant("label smoothing 0.05", train={"label_smoothing": 0.05}),
    Variant("doubtful labels dropped", examples=without_doubtful),
    Variant("character noise", examples=with_typos),
    Variant("weights of the last 4 epochs averaged", average_last=4),
    Variant("best of 3 seeds", seeds=(0, 1, 2), pick=True),
    Variant("ensemble of 3", seeds=(0, 1, 2)),
    Variant("taught by itself on made-up names", taught_by_default=True),
    Variant("tiny", preset="tiny", taught_by_default=True),
    Variant("tiny, not taught", preset="tiny"),
    Variant("tiny, not taught, right to left", preset="tiny", examples=backwards),
    Variant("seed", preset="seed"),
    Variant("cell: GRU", model={"cell": "gru"}),
    Variant("cell: LSTM", model={"cell": "lstm"}),
    Variant("cell: GRU, two directions", model=BOTH),
    Variant("cell: GRU, two directions, seed 1", model=BOTH, seeds=(1,)),
    Variant("cell: GRU, two directions, 2 layers", model=BOTH, build=PackedGRU),
    Variant("cell: GRU, two directions, attention pooling", model=BOTH, build=Attention),
    Variant("cell: GRU, two directions, no n-grams", model={**BOTH, "ngram_buckets": 0}),
]


# --- measuring ------------------------------------------------------------------------------------


class Experiments:
    """Fits variants on one corpus; remembers the plain default, which others learn from."""

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        self.corpus = corpus
        self.folder = folder
        self._teachers: dict[int, CharRNN] = {}

    def logits(self, variant: Variant, fold: int, seed: int) -> tuple[Any, CharRNN]:
        """Fit once; return the validation logits, ``(M, L)``, and the network."""
        split, base = self.split(fold), PRESETS[variant.preset]
        preset = replace(
            base,
            model={**base.model, **variant.model},
            train=replace(base.train, seed=seed, **variant.train),
        )
        checkpoint = self.folder / "last"
        states: list[dict[str, Tensor]] = []

        def keep(_: Any) -> None:
            tensors = load(checkpoint.read_bytes()[32:])
            network = {k: v for k, v in tensors.items() if k.startswith("network.")}
            states.append({k.removeprefix("network."): v for k, v in network.items()})

        fitted = fit(
            preset.model_config(len(self.corpus.labels)),
            preset.train,
            preset.vocabulary,
            variant.examples(self.corpus, split.train),
            taught=self.taught(fold, split) if variant.taught_by_default else None,
            build=variant.build,
            checkpoint=checkpoint if variant.average_last else None,
            on_epoch=keep if variant.average_last else lambda record: None,
        )
        network = fitted.network
        if variant.average_last:
            last = states[-variant.average_last :]
            mean = {name: torch.stack([s[name] for s in last]).mean(dim=0) for name in last[0]}
            network.load_state_dict(mean)
        names = split.validation.names
        if variant.examples is backwards:
            names = backwards(self.corpus, split.validation).names
        return _logits(network, preset, names), network

    def split(self, fold: int) -> Split:
        """Return the split without the test fold, validated on ``fold``."""
        return honest_split(self.corpus, test_fold=9, validation_fold=fold)

    def taught(self, fold: int, split: Split) -> Taught:
        """Return made-up names with the plain default's calibrated probabilities."""
        preset, tiny = PRESETS["default"], PRESETS["tiny"]
        if fold not in self._teachers:
            self._teachers[fold] = self.logits(VARIANTS[0], fold, 0)[1]
        teacher = self._teachers[fold]
        held_out = _logits(teacher, preset, split.validation.names)
        temperature = fit_temperature(held_out, split.validation.label_ids)
        names = synthetic_names(
            [normalise(n) for n in split.train.names],
            split.train.label_ids.tolist(),
            tiny.synthetic,
            0,
        )
        probabilities = softmax(_logits(teacher, preset, names), temperature)
        return Taught(names, probabilities.astype(np.float32), tiny.synthetic_per_epoch)

    def measure(self, variant: Variant) -> dict[str, Any]:
        """Fit a variant for both validation folds; return its figures on all their names."""
        started, found, truth, network = time.perf_counter(), [], [], None
        for fold in VALIDATION_FOLDS:
            labels = self.split(fold).validation.label_ids
            candidates = []
            for seed in variant.seeds:
                logits, network = self.logits(variant, fold, seed)
                candidates.append(softmax(logits, fit_temperature(logits, labels)))
            if variant.pick:
                scores = [(p[::2].argmax(axis=1) == labels[::2]).mean() for p in candidates]
                found.append(candidates[int(np.argmax(scores))][1::2])
                truth.append(labels[1::2])
            else:
                found.append(np.mean(candidates, axis=0))
                truth.append(labels)
        seconds = (time.perf_counter() - started) / len(VALIDATION_FOLDS)
        metrics = evaluate(np.concatenate(found), np.concatenate(truth), self.corpus.labels)
        assert network is not None
        networks = 1 if variant.pick else len(variant.seeds)
        return {
            "metrics": metrics,
            "seconds": seconds,
            "parameters": networks * sum(p.numel() for p in network.parameters()),
            "speed": names_per_second(network, variant) / networks,
        }

    def ngrams(self) -> dict[str, Any]:
        """Measure the n-gram baseline the same way."""
        found, truth, started = [], [], time.perf_counter()
        for fold in VALIDATION_FOLDS:
            split = self.split(fold)
            train, held_out = (
                [normalise(n) for n in part.names] for part in (split.train, split.validation)
            )
            found.append(
                ngram_probabilities(train, split.train.label_ids, held_out, len(self.corpus.labels))
            )
            truth.append(split.validation.label_ids)
        seconds = (time.perf_counter() - started) / len(VALIDATION_FOLDS)
        metrics = evaluate(np.concatenate(found), np.concatenate(truth), self.corpus.labels)
        return {"metrics": metrics, "seconds": seconds, "parameters": 0, "speed": 0.0}


def names_per_second(network: CharRNN, variant: Variant, count: int = 20_000) -> float:
    """Return distinct names scored per second by ``logits_of``, encoding left out."""
    vocabulary = PRESETS[variant.preset].vocabulary
    draw = random.Random(0)
    names = ["".join(draw.choices("aeiouklmnrst", k=draw.randint(4, 10))) for _ in range(count)]
    encoded = vocabulary.encode(pa.array(names))
    started = time.perf_counter()
    logits_of(network, encoded)
    return count / (time.perf_counter() - started)


def _logits(network: CharRNN, preset: Preset, names: list[str]) -> Any:
    return logits_of(network, preset.vocabulary.encode(pa.array(names)))


def line(name: str, found: dict[str, Any]) -> str:
    m = found["metrics"]
    return (
        f"| {name} | {m.accuracy:.2%} | {m.macro_f1:.3f} | {m.nll:.3f} | {m.ece:.3f} | "
        f"{found['parameters']:,} | {found['speed']:,.0f} | {found['seconds']:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/names.parquet"))
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--output", type=Path, default=Path("docs/experiments.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    corpus = load_corpus(arguments.data)
    lines = [
        "# What was tried",
        "",
        f"Made by `python tests/bench/experiments.py` on {datetime.now(UTC):%Y-%m-%d}, "
        f"{platform.machine()}, {os.cpu_count()} cores (shared), one thread, torch "
        f"{torch.__version__}. Validation folds {VALIDATION_FOLDS[0]} and {VALIDATION_FOLDS[1]} "
        "together, the test fold unseen; one temperature per fit. One standard error of an "
        "accuracy is about 0.6 points. Every variant is the default with the one change named.",
        "",
        "| variant | accuracy | macro-F1 | NLL | ECE | parameters | names/s | training s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    chosen = [v for v in VARIANTS if not arguments.only or any(w in v.name for w in arguments.only)]
    with tempfile.TemporaryDirectory() as folder:
        experiments = Experiments(corpus, Path(folder))
        for variant in chosen:
            lines.append(line(variant.name, experiments.measure(variant)))
            print(lines[-1], flush=True)
            arguments.output.parent.mkdir(exist_ok=True)
            arguments.output.write_text("\n".join(lines) + "\n")
        lines.append(line("char 1-5-grams + logistic regression", experiments.ngrams()))
    arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
