"""What was tried for the default and tiny presets, measured on validation names, as a table.

    python tests/bench/experiments.py                    # all; 1.5 hours on one core for each seed
    python tests/bench/experiments.py --only cell tiny   # those whose name contains one of these

Every variant is fitted without fold 9 (the test fold, never looked at here) for validation folds
8, 7 and 6, once for every seed, and measured on all names of these folds, calibrated by one
temperature a fit. What the fits answer is kept in ``--results``, so that an interrupted run goes
on, and the page, docs/experiments.md, always has every variant with results. A variant is compared
name by name with the default of the same folds and seeds; the standard error of that says what
other names would have given, not what other seeds would.
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
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load
from torch import Tensor, nn

from charrnn.model.calibration import fit_temperature, softmax
from charrnn.model.engine import logits_of
from charrnn.model.network import CharRNN, ModelConfig, NgramTable, to_stored
from charrnn.model.normalise import normalise, normalise_array
from charrnn.model.vocabulary import LATIN_VOCABULARY
from charrnn.training.baselines import ngram_probabilities
from charrnn.training.batches import SoftLabels
from charrnn.training.corpus import Corpus, load_corpus
from charrnn.training.fit import Checkpoint, fit
from charrnn.training.metrics import evaluate
from charrnn.training.name_keys import key_hashes
from charrnn.training.presets import PRESETS, Preset
from charrnn.training.splits import Examples, Split, honest_split
from charrnn.training.synthetic import synthetic_names

FOLDS = (8, 7, 6)
NGRAMS = "char 1-5-grams + logistic regression"
WORDS = "## What it says"  # from here on the page is written by hand, and kept
HEAD = """# What was tried

Made by `python tests/bench/experiments.py --seeds {seeds}` on {date}, {machine}, {cores} cores \
(shared), one thread, torch {torch}.

Every variant is the default with the one change named, fitted without the test fold for \
validation folds 8, 7 and 6 and as many seeds as its second column says, and measured on all \
{names} names of these folds; one temperature a fit. Δ: minus the default of the same seeds, name \
by name, ± its standard error; that leaves out what another seed does (two seeds of `128 \
hidden, no second task` differ by 0.3 points and 0.006 nats). KB: what a file holds of the \
network. Names/s: different names in a second of processor time, encoded beforehand; empty for \
networks that the engine does not know. Training is in seconds of processor time, with the fits of \
a teacher.
"""


# --- networks that the library does not have ------------------------------------------------------


class Packed(CharRNN):
    """A recurrence of torch's own, the n-grams as they are. ``reads`` says what the labels are told
    by beside the last states: an attention-weighted mean, or the mean and the maximum."""

    cell: type[nn.RNNBase] = nn.GRU
    layers, both, reads = 1, True, ""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        E, H, D = config.embedding_size, config.hidden_size, config.hidden_size * (1 + self.both)
        del self.forward_rnn
        self.rnn = self.cell(E, H, self.layers, batch_first=True, bidirectional=self.both,
                             dropout=0.2 if self.layers > 1 else 0.0)  # fmt: skip
        self.score = nn.Linear(D, 1)
        self.h2o = nn.Linear(D * {"": 1, "attention": 2, "pooling": 3}[self.reads], config.rows)

    def states_and_logits(
        self, ids: Tensor, lengths: Tensor | None = None, *, every_state: bool = True
    ) -> tuple[Tensor, Tensor]:
        ids = ids.long()
        own = torch.full((len(ids),), ids.shape[1]) if lengths is None else lengths.clamp(min=1)
        assert self.embedding is not None
        x = self.embedding(ids)
        if self.training:
            kept = x.new_ones(len(ids), 1, x.shape[2])
            x = x * nn.functional.dropout(kept, self.config.input_dropout)
        packed = nn.utils.rnn.pack_padded_sequence(x, own, batch_first=True, enforce_sorted=False)
        hidden, last = self.rnn(packed)
        last = last[0] if self.cell is nn.LSTM else last
        read = [*last[-1 - self.both :]]
        states, _ = nn.utils.rnn.pad_packed_sequence(
            hidden, batch_first=True, total_length=ids.shape[1]
        )
        inside = (torch.arange(ids.shape[1]) < own[:, None])[:, :, None]
        if self.reads == "attention":
            weight = self.score(states).masked_fill(~inside, -torch.inf).softmax(dim=1)
            read.append((weight * states).sum(dim=1))
        if self.reads == "pooling":
            read.append(states.sum(dim=1) / own[:, None])
            read.append(states.masked_fill(~inside, -torch.inf).amax(dim=1))
        logits = self.h2o(self.dropout(torch.cat(read, dim=1)))
        logits = logits if self.ngrams is None else logits + self.ngrams(ids, lengths)
        return states[:, :, : self.config.hidden_size], logits


def packed(**options: Any) -> type[Packed]:
    """Return ``Packed`` with other class attributes."""
    return type("Packed", (Packed,), options)


class FiveGrams(CharRNN):
    """The wide part sees 5-grams, too."""

    class Table(NgramTable):
        ORDERS = (1, 2, 3, 4, 5)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.ngrams = self.Table(config.ngram_buckets, config.label_count, config.ngram_dropout)


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

    With several ``members`` the probabilities of as many seeds are averaged (an ensemble), or with
    ``pick`` the seed best on one half of the validation names answers for the other.
    ``average_last`` averages the weights of that many last epochs. ``taught`` adds names with the
    default's answers: made-up ones, or the training names, answered by one that did not see them.
    """

    name: str
    preset: str = "tutorial"
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    build: Callable[[ModelConfig], CharRNN] = CharRNN
    examples: Callable[[Corpus, Examples], Examples] = lambda corpus, examples: examples
    members: int = 1
    pick: bool = False
    average_last: int = 0
    taught: Literal["", "made-up", "out-of-fold"] = ""

    @property
    def fitted_as(self) -> str:
        """The name of its fits: variants that only differ in what is done with the answers share
        them."""
        plain = replace(self, members=1, pick=False)
        return "default" if plain == Variant(self.name) else self.name

    def of_seed(self, seed: int) -> Preset:
        """Return the preset with this variant's changes."""
        base = PRESETS[self.preset]
        base = replace(base, vocabulary=base.vocabulary or LATIN_VOCABULARY)
        return replace(
            base,
            model={**base.model, **self.model},
            train=replace(base.train, seed=seed, **self.train),
        )


def with_typos(corpus: Corpus, examples: Examples) -> Examples:
    """Add to every name a copy in which one character is dropped, doubled or swapped."""
    draw = random.Random(0)
    noisy = []
    for name in map(normalise, examples.names.to_pylist()):
        i = draw.randrange(len(name))
        dropped, doubled = name[:i] + name[i + 1 :], name[: i + 1] + name[i:]
        swapped = name[:i] + name[i : i + 2][::-1] + name[i + 2 :]
        noisy.append(draw.choice((dropped, doubled, swapped)) or name)
    return Examples.of(examples.names.to_pylist() + noisy, np.tile(examples.label_ids, 2))


def out_of_fold(corpus: Corpus, examples: Examples) -> Any:
    """Return the default's probabilities for its own training names, float32 ``(N, L)``, each from
    a fit on the half of the names that it is not in."""
    preset, L = PRESETS["tutorial"], len(corpus.labels)
    half = key_hashes(normalise_array(examples.names)) % 2  # that of the fold
    found = np.zeros((len(half), L), np.float32)
    for side in (0, 1):
        rows, other = np.flatnonzero(half != side), np.flatnonzero(half == side)
        learned = Examples.of(examples.names.take(pa.array(rows)), examples.label_ids[rows])
        fitted = fit(preset.model_config(L), preset.train, preset.vocabulary, learned)
        logits = _logits(fitted.network, preset, examples.names.take(pa.array(other)).to_pylist())
        found[other] = softmax(logits, fit_temperature(logits, examples.label_ids[other]))
    return found


def without_doubtful(corpus: Corpus, examples: Examples) -> Examples:
    """Drop names whose label a model of the other half gives less than 1 %."""
    p = out_of_fold(corpus, examples)
    rows = np.flatnonzero(p[np.arange(len(p)), examples.label_ids] >= 0.01)
    return Examples.of(examples.names.take(pa.array(rows)), examples.label_ids[rows])


def backwards(corpus: Corpus, examples: Examples) -> Examples:
    """Turn every name round."""
    return Examples.of(
        [normalise(name)[::-1] for name in examples.names.to_pylist()], examples.label_ids
    )


NARROW, TABLE_18 = {"hidden_size": 128}, {"ngram_buckets": 2**18}
LABELS_ONLY = {"next_character": 0.0}
VARIANTS = [
    Variant("default"),
    Variant("no second task", train=LABELS_ONLY),
    Variant("second task, weight 0.1", train={"next_character": 0.1}),
    Variant("second task, weight 0.5", train={"next_character": 0.5}),
    Variant("second task, weight 1", train={"next_character": 1.0}),
    Variant("64 hidden", model={"hidden_size": 64}),
    Variant("128 hidden", model=NARROW),
    Variant("128 hidden, no second task", model=NARROW, train=LABELS_ONLY),
    Variant("160 hidden", model={"hidden_size": 160}),
    Variant("192 hidden", model={"hidden_size": 192}),
    Variant("192 hidden, no second task", model={"hidden_size": 192}, train=LABELS_ONLY),
    Variant("320 hidden", model={"hidden_size": 320}),
    Variant("384 hidden", model={"hidden_size": 384}),
    Variant("128 hidden, embedding of 96", model={**NARROW, "embedding_size": 96}),
    Variant("two directions of 64", model={"hidden_size": 64}, build=packed(cell=nn.RNN)),
    Variant("two directions of 128", model=NARROW, build=packed(cell=nn.RNN)),
    Variant(
        "128 hidden, pooling: last, mean and maximum",
        model=NARROW,
        build=packed(cell=nn.RNN, both=False, reads="pooling"),
    ),
    Variant(
        "192 hidden, pooling: last, mean and maximum",
        model={"hidden_size": 192},
        build=packed(cell=nn.RNN, both=False, reads="pooling"),
    ),
    Variant("128 hidden, cell: GRU", model=NARROW, build=packed(both=False)),
    Variant("128 hidden, cell: LSTM", model=NARROW, build=packed(cell=nn.LSTM, both=False)),
    Variant("128 hidden, cell: GRU, two directions", model=NARROW, build=packed()),
    Variant(
        "128 hidden, cell: GRU, two directions, 2 layers, no second task",
        model=NARROW,
        train=LABELS_ONLY,
        build=packed(layers=2),
    ),
    Variant(
        "128 hidden, cell: GRU, two directions, attention pooling, no second task",
        model=NARROW,
        train=LABELS_ONLY,
        build=packed(reads="attention"),
    ),
    Variant("no n-grams", model={"ngram_buckets": 0}),
    Variant("n-grams alone, no recurrence", train=LABELS_ONLY, build=NgramsOnly),
    Variant("n-grams in 2^13 rows", model={"ngram_buckets": 2**13}),
    Variant("n-grams in 2^15 rows", model={"ngram_buckets": 2**15}),
    Variant("n-grams in 2^16 rows", model={"ngram_buckets": 2**16}),
    Variant("n-grams in 2^18 rows", model=TABLE_18),
    Variant("1- to 5-grams in 2^18 rows", model=TABLE_18, build=FiveGrams),
    Variant("n-gram dropout 0.3", model={"ngram_dropout": 0.3}),
    Variant("dropout 0.35", model={"dropout": 0.35}),
    Variant("dropout 0.6", model={"dropout": 0.6}),
    Variant("input dropout 0.3", model={"input_dropout": 0.3}),
    Variant("weight decay 0.1", train={"weight_decay": 0.1}),
    Variant("learning rate 3e-3", train={"learning_rate": 3e-3}),
    Variant("learning rate 6e-3", train={"learning_rate": 6e-3}),
    Variant("batches of 64", train={"batch_size": 64}),
    Variant("16 epochs", train={"epochs": 16}),
    Variant("logit adjustment 0", train={"logit_adjustment": 0.0}),
    Variant("logit adjustment 0.1", train={"logit_adjustment": 0.1}),
    Variant("logit adjustment 0.5", train={"logit_adjustment": 0.5}),
    Variant("logit adjustment 1 (balanced)", train={"logit_adjustment": 1.0}),
    Variant("label smoothing 0.05", train={"label_smoothing": 0.05}),
    Variant("doubtful labels dropped", examples=without_doubtful),
    Variant("out-of-fold answers beside the labels", taught="out-of-fold"),
    Variant("character noise", examples=with_typos),
    Variant("weights of the last 4 epochs averaged", average_last=4),
    Variant("best of 3 seeds", members=3, pick=True),
    Variant("ensemble of 3", members=3),
    Variant("taught by itself on made-up names", taught="made-up"),
    Variant("tiny", preset="tiny", taught="made-up"),
    Variant("tiny, not taught", preset="tiny"),
    Variant("tiny, not taught, second task", preset="tiny", train={"next_character": 0.3}),
    Variant("tiny, not taught, right to left", preset="tiny", examples=backwards),
    Variant("seed", preset="seed"),
]


# --- measuring ------------------------------------------------------------------------------------


class Experiments:
    """Fits variants on one corpus and keeps what the fits answer, one file for each in
    ``results``: logits ``(M, L)`` of a fold's names, seconds of processor time, bytes stored."""

    def __init__(self, corpus: Corpus, results: Path) -> None:
        self.corpus = corpus
        self.results = results
        self.splits = {f: honest_split(corpus, test_fold=9, validation_fold=f) for f in FOLDS}
        self.truth = np.concatenate([s.validation.label_ids for s in self.splits.values()])
        results.mkdir(parents=True, exist_ok=True)

    def path(self, name: str, fold: int, seed: int) -> Path:
        return self.results / f"{name.replace('/', ' ')} fold {fold} seed {seed}.npz"

    def ensure(self, variant: Variant, seed: int) -> None:
        """Fit a variant for all folds where that was not done before."""
        for member in range(variant.members):
            for fold, split in self.splits.items():
                path = self.path(variant.fitted_as, fold, seed + member)
                if not path.exists():
                    np.savez(path, **self._fitted(variant, split, seed + member))

    def ensure_ngrams(self) -> None:
        """Fit the n-gram baseline likewise; it has no seed."""
        for fold, split in self.splits.items():
            path = self.path(NGRAMS, fold, 0)
            if path.exists():
                continue
            started, labels = time.process_time(), len(self.corpus.labels)
            parts = [
                [normalise(n) for n in p.names.to_pylist()] for p in (split.train, split.validation)
            ]
            found = ngram_probabilities(parts[0], split.train.label_ids, parts[1], labels)
            np.savez(path, logits=np.log(found), seconds=time.process_time() - started, bytes=0)

    def _fitted(self, variant: Variant, split: Split, seed: int) -> dict[str, Any]:
        preset, started = variant.of_seed(seed), time.process_time()
        network = self._network(variant, split, seed)
        seconds = time.process_time() - started
        names = split.validation.names.to_pylist()
        if variant.examples is backwards:
            names = backwards(self.corpus, split.validation).names.to_pylist()
        kept = to_stored(network.state_dict(), network.config).values()
        stored = sum(t.numel() * t.element_size() for t in kept)
        return {"logits": _logits(network, preset, names), "seconds": seconds, "bytes": stored}

    def _network(self, variant: Variant, split: Split, seed: int) -> CharRNN:
        preset = variant.of_seed(seed)
        states: list[dict[str, Tensor]] = []
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "last"

            def keep(_: Any) -> None:
                tensors = load(checkpoint.read_bytes()[32:])
                prefix = "model.network."
                network = {k: v for k, v in tensors.items() if k.startswith(prefix)}
                states.append({k.removeprefix(prefix): v for k, v in network.items()})

            network = fit(
                preset.model_config(len(self.corpus.labels)),
                preset.train,
                preset.vocabulary,
                variant.examples(self.corpus, split.train),
                soft_labels=self._taught(variant, split, seed),
                build=variant.build,
                checkpoint=Checkpoint(checkpoint) if variant.average_last else None,
                on_epoch=keep if variant.average_last else lambda record: None,
            ).network
        if variant.average_last:
            last = states[-variant.average_last :]
            mean = {name: torch.stack([s[name] for s in last]).mean(dim=0) for name in last[0]}
            network.load_state_dict(mean)
        return network

    def _taught(self, variant: Variant, split: Split, seed: int) -> SoftLabels | None:
        """Return further names with the plain default's calibrated probabilities."""
        if variant.taught == "out-of-fold":
            names = split.train.names.to_pylist()
            return SoftLabels(names, out_of_fold(self.corpus, split.train), len(names) // 2)
        if not variant.taught:
            return None
        default, tiny = PRESETS["tutorial"], PRESETS["tiny"]
        teacher = self._network(VARIANTS[0], split, seed)
        held_out = _logits(teacher, default, split.validation.names.to_pylist())
        temperature = fit_temperature(held_out, split.validation.label_ids)
        names = synthetic_names(
            [normalise(n) for n in split.train.names.to_pylist()],
            split.train.label_ids.tolist(),
            tiny.synthetic,
            seed,
        )
        probabilities = softmax(_logits(teacher, default, names), temperature)
        return SoftLabels(names, probabilities.astype(np.float32), tiny.synthetic_per_epoch)

    # --- the table --------------------------------------------------------------------------------

    def answers(self, variant: Variant, seed: int) -> Any:
        """Return a variant's calibrated probabilities for all names of all folds, or None where
        fits are missing."""
        found = []
        for fold, split in self.splits.items():
            labels, candidates = split.validation.label_ids, []
            for member in range(variant.members):
                path = self.path(variant.fitted_as, fold, seed + member)
                if not path.exists():
                    return None
                logits = np.load(path)["logits"]
                candidates.append(softmax(logits, fit_temperature(logits, labels)))
            if variant.pick:
                right = np.array([p.argmax(axis=1) == labels for p in candidates])
                halves = [right[:, 1::2].mean(axis=1), right[:, ::2].mean(axis=1)]
                best = np.array([int(np.argmax(h)) for h in halves])  # for even, for odd names
                rows = np.arange(len(labels))
                found.append(np.array(candidates)[best[rows % 2], rows])
            else:
                found.append(np.mean(candidates, axis=0))
        return np.concatenate(found)

    def line(self, variant: Variant, seeds: Sequence[int], speed: str = "") -> str:
        """Return a variant's line of the table, or "" without results for any of the seeds."""
        ours = {s: p for s in seeds if (p := self.answers(variant, s)) is not None}
        if not ours:
            return ""
        metrics = [evaluate(p, self.truth, self.corpus.labels) for p in ours.values()]
        mean = {
            name: float(np.mean([getattr(m, name) for m in metrics]))
            for name in ("accuracy", "macro_f1", "nll", "ece", "top3")
        }
        differences = [
            per_name(p, self.truth) - per_name(self.answers(VARIANTS[0], s), self.truth)
            for s, p in ours.items()
        ]
        gap = np.mean(differences, axis=0)  # (3, N)
        error = gap.std(axis=1) / np.sqrt(gap.shape[1])
        paired = [
            f"{d:{form}} ± {e:{form[1:]}}" if variant.name != "default" else ""
            for d, e, form in zip(gap.mean(axis=1), error, ("+.2f", "+.4f", "+.2f"), strict=True)
        ]
        fits = [np.load(self.path(variant.fitted_as, fold, s)) for s in ours for fold in FOLDS]
        size = variant.members * np.mean([f["bytes"] for f in fits]) / 1000
        if variant.pick:
            size /= variant.members
        seconds = variant.members * np.mean([f["seconds"] for f in fits])
        cells = (
            variant.name, str(len(ours)), f"{mean['accuracy']:.2%}", paired[0],
            f"{mean['macro_f1']:.3f}", f"{mean['nll']:.4f}", paired[1], f"{mean['top3']:.2%}",
            paired[2], f"{mean['ece']:.3f}", f"{size:,.0f}" if size else "", speed,
            f"{seconds:.0f}",
        )  # fmt: skip
        return f"| {' | '.join(cells)} |"

    def speed(self, variant: Variant) -> str:
        """Return the names per second, "" for a network that the engine cannot share work in."""
        if variant.build is not CharRNN:
            return ""
        config = variant.of_seed(0).model_config(len(self.corpus.labels))
        members = 1 if variant.pick else variant.members
        return f"{names_per_second(CharRNN(config).eval(), variant) / members:,.0f}"


def per_name(probabilities: Any, truth: Any) -> Any:
    """Return for every name, ``(3, N)``: right (100 or 0), NLL, and right among the first three."""
    rows = np.arange(len(truth))
    among = (np.argsort(-probabilities, axis=1)[:, :3] == truth[:, None]).any(axis=1)
    nll = -np.log(np.maximum(probabilities[rows, truth], 1e-12))
    return np.stack((100.0 * (probabilities.argmax(axis=1) == truth), nll, 100.0 * among))


def names_per_second(network: CharRNN, variant: Variant, count: int = 20_000) -> float:
    """Return distinct names scored per second by ``logits_of``, encoding left out; best of 3."""
    vocabulary = variant.of_seed(0).symbols
    draw = random.Random(0)
    names = ["".join(draw.choices("aeiouklmnrst", k=draw.randint(4, 10))) for _ in range(count)]
    encoded = vocabulary.encode(pa.array(names))
    taken = []
    for _ in range(3):
        started = time.process_time()
        logits_of(network, encoded)
        taken.append(time.process_time() - started)
    return count / min(taken)


def _logits(network: CharRNN, preset: Preset, names: list[str]) -> Any:
    return logits_of(network, preset.vocabulary.encode(pa.array(names)))


def page(experiments: Experiments, seeds: Sequence[int], speeds: dict[str, str]) -> str:
    """Return the page's table of every variant with results."""
    lines = [
        "| variant | seeds | accuracy | Δ, points | macro-F1 | NLL | Δ | top-3 | Δ, points | ECE "
        "| KB | names/s | training s |",
        "|---|" + "---:|" * 12,
    ]
    for variant in VARIANTS:
        line = experiments.line(variant, seeds, speeds.get(variant.name, ""))
        lines += [line] if line else []
    baseline = experiments.line(Variant(NGRAMS, build=NgramsOnly), [0])
    return "\n".join([*lines, *([baseline] if baseline else [])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/names.parquet"))
    parser.add_argument("--only", nargs="*", help="variants whose name contains one of these")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path("outputs/experiments"))
    parser.add_argument("--output", type=Path, default=Path("docs/experiments.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(arguments.seeds)
    experiments = Experiments(load_corpus(arguments.data), arguments.results)
    chosen = VARIANTS
    if arguments.only is not None:
        chosen = [v for v in VARIANTS if any(w in v.name for w in arguments.only)]
    for seed in seeds:
        for variant in (VARIANTS[0], *chosen):
            experiments.ensure(variant, seed)
            print(experiments.line(variant, seeds), flush=True)
    if arguments.only is None:
        experiments.ensure_ngrams()
    speeds = {
        v.name: experiments.speed(v) for v in VARIANTS if experiments.answers(v, 0) is not None
    }
    text = HEAD.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=platform.machine(),
        cores=os.cpu_count(),
        torch=torch.__version__,
        names=f"{len(experiments.truth):,}",
        seeds=arguments.seeds,
    )
    table = page(experiments, seeds, speeds)
    old = arguments.output.read_text() if arguments.output.exists() else ""
    words = old[old.index(WORDS) :] if WORDS in old else WORDS + "\n"
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(f"{text}\n{table}\n\n{words}")


if __name__ == "__main__":
    main()
