"""Measure the presets and baselines as docs/models.md quotes them, and write docs/quality.md.

    python tests/bench/quality.py      # all; about 45 minutes on one core
    python tests/bench/quality.py --presets tutorial --rotations 5   # a quarter of that

Three measurements: the honest protocol with every fold as the test fold once, all test names
pooled; its own fold 9 with several seeds, with paired bootstrap intervals against the n-gram
baseline; and the seed protocol on several random splits, the same for all models. Needs the table
that ingest writes.
"""

import argparse
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from charrnn.model.calibration import Floats, calibration_noise
from charrnn.model.facts import Metrics, PairedDifference
from charrnn.model.network import to_stored
from charrnn.training.baselines import baselines
from charrnn.training.corpus import load_corpus
from charrnn.training.metrics import evaluate
from charrnn.training.name_keys import FOLDS
from charrnn.training.paired import paired_bootstrap
from charrnn.training.presets import PRESETS, with_overrides
from charrnn.training.protocol import Protocol, ProtocolResult, run_protocol, split_of
from charrnn.training.splits import Split, honest_split

NGRAMS = "char 1-5-grams + logistic regression"
LOOKED_AT = (8, 7, 6)  # validation folds that the presets were chosen on (experiments.py)
COLUMNS = (
    ("accuracy", lambda m: m.accuracy, "{:.2%}"),
    ("macro-F1", lambda m: m.macro_f1, "{:.3f}"),
    ("NLL", lambda m: m.nll, "{:.3f}"),
    ("ECE", lambda m: m.ece, "{:.3f}"),
    ("top-3", lambda m: m.top3, "{:.2%}"),
    ("acc. at 90 %", lambda m: m.selective["0.9"], "{:.2%}"),
    ("acc. at 80 %", lambda m: m.selective["0.8"], "{:.2%}"),
)


@dataclass(frozen=True)
class Answers:
    """A model's probabilities, ``(N, L)``, for N test names, and the truth."""

    probabilities: Floats
    truth: np.ndarray
    metrics: Metrics


Rows = dict[str, list[Answers]]  # by model; one per seed or split


class Bench:
    """All fits of one run of this command."""

    def __init__(self, data: Path, device: str, presets: Sequence[str]) -> None:
        self.corpus = load_corpus(data)
        self.presets = presets
        self.device = device
        self.seconds: dict[str, list[float]] = {}
        self.sizes: dict[str, str] = {}

    def measure(
        self, names: Sequence[str], protocol: Protocol, seed: int, split: Split, rows: Rows
    ) -> None:
        """Fit the presets ``names`` and the baselines on one split and add what they answer to
        ``rows``; tiny learns from this default."""
        runs: dict[str, ProtocolResult] = {}
        for name in names:
            teacher = runs.get("default") if name == "tiny" else None
            runs[name] = run = self.fit(name, protocol, seed, split, teacher)
            answers = Answers(run.test.probabilities, run.test.label_ids, run.test.metrics)
            rows.setdefault(name, []).append(answers)
        if protocol == "honest" and NGRAMS in rows and seed:
            return  # the split is the same for all seeds, and baselines have none
        for name, b in baselines(self.corpus, protocol, seed, split).items():
            answers = Answers(b.probabilities, split.test.label_ids, b.metrics)
            rows.setdefault(name, []).append(answers)

    def fit(
        self,
        name: str,
        protocol: Protocol,
        seed: int,
        split: Split,
        teacher: ProtocolResult | None = None,
    ) -> ProtocolResult:
        started = time.process_time()
        preset = with_overrides(PRESETS[name], seed=seed).settled(self.corpus)
        result = run_protocol(
            self.corpus, preset, protocol, device=self.device, split=split, teacher=teacher
        )
        taken, test = time.process_time() - started, result.test.metrics
        self.seconds.setdefault(name, []).append(taken)
        stored = to_stored(result.fit.network.state_dict(), result.fit.network.config).values()
        self.sizes[name] = (
            f"{name} {sum(t.numel() for t in stored):,} "
            f"({sum(t.numel() * t.element_size() for t in stored) / 1000:,.0f} KB)"
        )
        print(
            f"{datetime.now(UTC):%H:%M:%S} {name} {protocol} seed {seed}: accuracy "
            f"{test.accuracy:.4f}, macro-F1 {test.macro_f1:.4f}, NLL "
            f"{test.nll:.4f}, ECE {test.ece:.4f}, T {result.temperature:.3f}, "
            f"loss {result.fit.history[-1].loss:.4f}, {taken:.0f} s",
            flush=True,
        )
        return result

    def pooled(self, found: Sequence[Answers]) -> Answers:
        """Return the answers of several test parts as those of one."""
        probabilities = np.concatenate([a.probabilities for a in found])
        truth = np.concatenate([a.truth for a in found])
        return Answers(probabilities, truth, evaluate(probabilities, truth, self.corpus.labels))

    # --- sections of the page ---------------------------------------------------------------------

    def rotation_lines(self, rotations: int) -> tuple[list[str], Rows]:
        rows: Rows = {}
        folds = sorted(range(FOLDS), key=lambda fold: (fold in LOOKED_AT, -fold))[:rotations]
        for fold in folds:  # every name is a test name once
            split = honest_split(self.corpus, test_fold=fold, validation_fold=(fold - 1) % FOLDS)
            self.measure(self.presets, "honest", 0, split, rows)
        pooled = {name: [self.pooled(found)] for name, found in rows.items()}
        clean = [i for i, fold in enumerate(folds) if fold not in LOOKED_AT]
        if len(clean) < len(folds):
            for name in ("tutorial", NGRAMS):
                some = [rows[name][i] for i in clean]
                pooled[f"{name}, {len(clean)} folds no choice was made on"] = [self.pooled(some)]
        ours, theirs = pooled["tutorial"][0], pooled[NGRAMS][0]
        error = np.sqrt(ours.metrics.accuracy * (1 - ours.metrics.accuracy) / len(ours.truth))
        by_fold = [a.metrics for a in rows["tutorial"]]
        difference = paired_bootstrap(ours.probabilities, theirs.probabilities, ours.truth)
        lines = [
            f"## {'Every name once' if len(folds) == FOLDS else 'Rotation'}: {len(folds)} test "
            f"folds pooled, {len(ours.truth):,} names",
            "",
            "The honest figure. Each of these folds is the test fold once, the fold below it the "
            "validation fold (temperature), the other eight train; so every name in it is measured "
            "once, by a model that never saw it. The protocol's own test fold alone has "
            f"{by_fold[0].count:,} names: one standard error of an accuracy is 0.9 points there "
            f"and {100 * error:.1f} here, and folds differ (accuracy of `default` "
            f"{min(m.accuracy for m in by_fold):.2%} to {max(m.accuracy for m in by_fold):.2%}, "
            f"top-3 {min(m.top3 for m in by_fold):.2%} to {max(m.top3 for m in by_fold):.2%}). An "
            "ECE is above 0 even for a perfectly calibrated model, by chance, and the more so the "
            "fewer names there are: the last column is what such a model with the same "
            "confidences would show (mean; 95th percentile). Seed 0. Test folds: "
            f"{', '.join(map(str, folds))}; the presets were chosen on "
            f"{', '.join(map(str, LOOKED_AT))}.",
            "",
            *table(pooled, {}),
            "",
            f"`default` minus {NGRAMS}: {interval(difference)}.",
            "",
        ]
        return lines, pooled

    def honest_lines(self, seeds: int) -> tuple[list[str], Rows]:
        rows: Rows = {}
        split = split_of(self.corpus, "honest", 0)
        for seed in range(seeds):
            self.measure(self.presets, "honest", seed, split, rows)
        other = rows[NGRAMS][0]
        lines = [
            f"## Honest protocol, fold 9: {len(other.truth):,} names",
            "",
            f"Mean ± standard deviation over {seeds} seeds on one split.",
            "",
            *table(rows, mean_seconds(self)),
            "",
            f"`default` minus {NGRAMS}, paired bootstrap (2,000 resamples):",
            "",
        ]
        for seed, ours in enumerate(rows["tutorial"]):
            found = paired_bootstrap(ours.probabilities, other.probabilities, ours.truth)
            lines.append(f"- seed {seed}: {interval(found)}")
        return [*lines, ""], rows

    def seed_lines(self, splits: int) -> tuple[list[str], Rows]:
        rows: Rows = {}
        for seed in range(splits):
            self.measure(self.presets, "seed", seed, split_of(self.corpus, "seed", seed), rows)
        pairs = zip(rows["tutorial"], rows[NGRAMS], strict=True)
        gain = np.array([a.metrics.accuracy - b.metrics.accuracy for a, b in pairs])
        lines = [
            f"## Seed protocol: {splits} random splits, {len(rows['default'][0].truth):,} names "
            "each",
            "",
            "The notebook's: all rows, 80/20, duplicates on both sides, no temperature. Seeds 0 to "
            f"{splits - 1}, fixed beforehand, decide split and weights; every model is measured on "
            "every split. Mean ± standard deviation over splits.",
            "",
            *table(rows, {}),
            "",
            f"`default` minus {NGRAMS}, split by split: accuracy "
            f"{', '.join(f'{100 * g:+.2f}' for g in gain)} points. Accuracy of `default` by split: "
            f"{', '.join(f'{a.metrics.accuracy:.2%}' for a in rows['default'])}.",
            "",
        ]
        return lines, rows


def table(rows: Rows, seconds: dict[str, float]) -> list[str]:
    """Return a Markdown table of means and standard deviations over each model's answers."""
    timed = ["training"] if seconds else []
    head = ["model", *(name for name, _, _ in COLUMNS), "ECE by chance", *timed]
    lines = [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for name, found in rows.items():
        cells = []
        for _, get, form in COLUMNS:
            values = np.array([get(a.metrics) for a in found])
            spread = f" ± {form.format(values.std(ddof=1))}" if len(values) > 1 else ""
            cells.append(form.format(values.mean()) + spread)
        mean, high = np.mean([calibration_noise(a.probabilities) for a in found], axis=0)
        cells.append(f"{mean:.3f}; {high:.3f}")
        if seconds:
            cells.append(f"{seconds[name]:.0f} s" if name in seconds else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def interval(difference: PairedDifference) -> str:
    """Return a paired difference and its 95 % interval in words."""
    accuracy, f1 = difference.accuracy, difference.macro_f1
    return (
        f"accuracy {100 * accuracy[0]:+.2f} points ({100 * accuracy[1]:+.2f} to "
        f"{100 * accuracy[2]:+.2f}), macro-F1 {f1[0]:+.3f} ({f1[1]:+.3f} to {f1[2]:+.3f})"
    )


def bar_lines(honest: Rows, pooled: Rows, seed: Rows) -> list[str]:
    """Return the bars set for ``default`` beside what it reaches."""
    bars = (
        ("accuracy", ">=", 0.84), ("macro-F1", ">=", 0.54), ("NLL", "<=", 0.54),
        ("ECE", "<=", 0.02), ("top-3", ">=", 0.95), ("acc. at 90 %", ">=", 0.89),
        ("acc. at 80 %", ">=", 0.93),
    )  # fmt: skip
    known = {name: (get, form) for name, get, form in COLUMNS}

    def cell(rows: Rows, name: str, sign: str, bar: float) -> str:
        get, form = known[name]
        value = float(np.mean([get(a.metrics) for a in rows["tutorial"]]))
        met = value >= bar if sign == ">=" else value <= bar
        return f"{form.format(value)} {'met' if met else '**missed**'}"

    lines = [
        "## Bars of `default`",
        "",
        "| bar | fold 9, mean over seeds | test folds pooled |",
        "|---|---:|---:|",
    ]
    for name, sign, bar in bars:
        cells = [cell(rows, name, sign, bar) for rows in (honest, pooled)]
        shown = known[name][1].format(bar)
        lines.append(f"| {name} {sign} {shown} | {' | '.join(cells)} |")
    chance = [calibration_noise(rows["tutorial"][0].probabilities)[0] for rows in (honest, pooled)]
    lines += [
        f"| *ECE of a perfectly calibrated model* | {chance[0]:.3f} | {chance[1]:.3f} |",
        "",
        f"Seed protocol, accuracy >= 85.50%: {cell(seed, 'accuracy', '>=', 0.855)} "
        f"({NGRAMS} on the same splits: "
        f"{np.mean([a.metrics.accuracy for a in seed[NGRAMS]]):.2%}).",
        "",
    ]
    return lines


def mean_seconds(bench: Bench) -> dict[str, float]:
    return {name: float(np.mean(taken)) for name, taken in bench.seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/names.parquet"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--rotations", type=int, default=FOLDS)
    parser.add_argument("--presets", nargs="+", default=["tutorial", "seed"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("docs/quality.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bench = Bench(arguments.data, arguments.device, arguments.presets)
    pooled_lines, pooled = bench.rotation_lines(arguments.rotations)
    honest_lines, honest = bench.honest_lines(arguments.seeds)
    seed_lines, seed = bench.seed_lines(arguments.splits)
    lines = [
        "# Quality of the presets",
        "",
        f"Made by `python tests/bench/quality.py --seeds {arguments.seeds} --splits "
        f"{arguments.splits} --rotations {arguments.rotations} --presets "
        f"{' '.join(arguments.presets)}` on {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, "
        f"{os.cpu_count()} cores (shared), {arguments.threads} thread, device "
        f"{arguments.device}, torch {torch.__version__}. Training is in seconds of "
        "processor time; that of `tiny` comes on top of its teacher's."
        + "".join(
            f" `{name}` was left out of this run."
            for name in PRESETS
            if name not in arguments.presets
        ),
        "",
        *pooled_lines,
        *bar_lines(honest, pooled, seed),
        *honest_lines,
        *seed_lines,
        f"Numbers that a file holds of the network: {', '.join(bench.sizes.values())}.",
        "",
    ]
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
