"""Measure the presets and baselines as the README quotes them, and write docs/quality.md.

    python tests/bench/quality.py      # 3 seeds, 5 rotations
    python tests/bench/quality.py --seeds 1 --rotations 0

Both protocols with several seeds; paired bootstrap intervals against the n-gram baseline; and a
rotation of the honest protocol over further folds, whose pooled test names (five times as many) say
more about calibration than one fold can. Needs the table that ingest writes.
"""

import argparse
import os
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charrnn.calibration import calibration_noise
from charrnn.corpus import honest_split, load_corpus
from charrnn.evaluation import Metrics, evaluate, paired_bootstrap
from charrnn.model import CharRNN
from charrnn.protocols import Baseline, ProtocolResult, baselines, run_protocol, with_seed
from charrnn.training import PRESETS

NGRAMS = "char 1-5-grams + logistic regression"
COLUMNS = (
    ("accuracy", lambda m: m.accuracy, "{:.2%}"),
    ("macro-F1", lambda m: m.macro_f1, "{:.3f}"),
    ("NLL", lambda m: m.nll, "{:.3f}"),
    ("ECE", lambda m: m.ece, "{:.3f}"),
    ("top-3", lambda m: m.top3, "{:.2%}"),
    ("acc. at 90 %", lambda m: m.selective["0.9"], "{:.2%}"),
    ("acc. at 80 %", lambda m: m.selective["0.8"], "{:.2%}"),
)


def table(rows: dict[str, Sequence[Metrics]], seconds: dict[str, float]) -> list[str]:
    """Return a Markdown table of means and standard deviations over seeds."""
    head = ["model", *(name for name, _, _ in COLUMNS), "training"]
    lines = [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for name, found in rows.items():
        cells = []
        for _, get, form in COLUMNS:
            values = np.array([get(m) for m in found])
            spread = f" ± {form.format(values.std(ddof=1))}" if len(values) > 1 else ""
            cells.append(form.format(values.mean()) + spread)
        took = f"{seconds[name]:.0f} s" if name in seconds else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {took} |")
    return lines


class Bench:
    """All fits of one run of this command."""

    def __init__(self, data: Path, device: str) -> None:
        self.corpus = load_corpus(data)
        self.device = device
        self.seconds: dict[str, list[float]] = {}

    def fit(self, name: str, protocol: Any, seed: int, **extra: Any) -> ProtocolResult:
        started = time.perf_counter()
        preset = with_seed(PRESETS[name], seed)
        result = run_protocol(self.corpus, preset, protocol, device=self.device, **extra)
        taken = time.perf_counter() - started
        self.seconds.setdefault(name, []).append(taken)
        print(
            f"{datetime.now(UTC):%H:%M:%S} {name} {protocol} seed {seed}: accuracy "
            f"{result.test.accuracy:.4f}, macro-F1 {result.test.macro_f1:.4f}, NLL "
            f"{result.test.nll:.4f}, ECE {result.test.ece:.4f}, T {result.temperature:.3f}, "
            f"loss {result.fit.history[-1].loss:.4f}, {taken:.0f} s",
            flush=True,
        )
        return result

    def protocol(self, protocol: Any, seeds: int) -> dict[str, list[ProtocolResult]]:
        """Fit all presets under a protocol with several seeds; tiny learns from that default."""
        found: dict[str, list[ProtocolResult]] = {"default": [], "tiny": [], "seed": []}
        for seed in range(seeds):
            default = self.fit("default", protocol, seed)
            found["default"].append(default)
            found["tiny"].append(self.fit("tiny", protocol, seed, teacher=default))
            found["seed"].append(self.fit("seed", protocol, seed))
        return found

    def rotation(self, rotations: int) -> dict[str, Metrics | tuple[Any, Any]]:
        """Fit default and baseline with other test folds; return pooled probabilities, truth."""
        ours, theirs, truth = [], [], []
        for i in range(rotations):
            split = honest_split(self.corpus, test_fold=9 - 2 * i, validation_fold=8 - 2 * i)
            fitted = self.fit("default", "honest", 0, split=split)
            ours.append(fitted.test_probabilities)
            theirs.append(baselines(self.corpus, "honest", 0, split)[NGRAMS].probabilities)
            truth.append(split.test.label_ids)
        return {
            "pooled": (np.concatenate(ours), np.concatenate(truth)),
            "baseline": (np.concatenate(theirs), np.concatenate(truth)),
        }


def mean_seconds(bench: Bench) -> dict[str, float]:
    return {name: float(np.mean(taken)) for name, taken in bench.seconds.items()}


def paired_lines(runs: list[ProtocolResult], other: Baseline) -> list[str]:
    lines = [
        f"Paired bootstrap of `default` minus {NGRAMS} on the honest test names (2,000 resamples):",
        "",
        "| seed | accuracy | 95 % interval | macro-F1 | 95 % interval |",
        "|---|---:|---|---:|---|",
    ]
    for seed, run in enumerate(runs):
        d = paired_bootstrap(run.test_probabilities, other.probabilities, run.test_labels)
        cells = [
            f"{mean:+.4f} | {low:+.4f} to {high:+.4f}"
            for mean, low, high in (d.accuracy, d.macro_f1)
        ]
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    return lines


def rotation_lines(bench: Bench, rotations: int) -> list[str]:
    found = bench.rotation(rotations)
    labels = bench.corpus.labels
    rows = {}
    for name, key in (("default", "pooled"), (NGRAMS, "baseline")):
        probabilities, truth = found[key]
        rows[name] = [evaluate(probabilities, truth, labels)]
    ours, truth = found["pooled"]
    noise, high = calibration_noise(ours)
    d = paired_bootstrap(ours, found["baseline"][0], truth)
    return [
        f"## Rotation: {rotations} test folds pooled, {len(truth):,} names",
        "",
        *table(rows, {}),
        "",
        f"`default` minus {NGRAMS}: accuracy {d.accuracy[0]:+.4f} ({d.accuracy[1]:+.4f} to "
        f"{d.accuracy[2]:+.4f}), macro-F1 {d.macro_f1[0]:+.4f} ({d.macro_f1[1]:+.4f} to "
        f"{d.macro_f1[2]:+.4f}). A perfectly calibrated model with these confidences would show an "
        f"ECE of {noise:.4f} by chance (95th percentile {high:.4f}).",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/names.parquet"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rotations", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("docs/quality.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bench = Bench(arguments.data, arguments.device)
    lines = [
        "# Quality of the presets",
        "",
        f"Made by `python tests/bench/quality.py --seeds {arguments.seeds} --rotations "
        f"{arguments.rotations}` on {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, "
        f"{os.cpu_count()} cores, {arguments.threads} thread, device {arguments.device}, torch "
        f"{torch.__version__}. Mean ± standard deviation over seeds. Training seconds are of a "
        "shared machine; those of `tiny` come on top of its teacher's.",
        "",
    ]
    parameters = {
        name: sum(p.numel() for p in CharRNN(preset.model_config(18)).parameters())
        for name, preset in PRESETS.items()
    }
    for protocol in ("honest", "seed"):
        runs = bench.protocol(protocol, arguments.seeds)
        other = baselines(bench.corpus, protocol, 0)  # type: ignore[arg-type]
        rows = {name: [r.test for r in found] for name, found in runs.items()}
        rows |= {name: [b.metrics] for name, b in other.items()}
        lines += [
            f"## {protocol.capitalize()} protocol, {runs['default'][0].test.count:,} names",
            "",
        ]
        lines += [*table(rows, mean_seconds(bench)), ""]
        if protocol == "honest":
            noise, high = calibration_noise(runs["default"][0].test_probabilities)
            lines += [*paired_lines(runs["default"], other[NGRAMS]), ""]
            lines += [
                f"With so few names a perfectly calibrated model would show an ECE of {noise:.4f} "
                f"by chance (95th percentile {high:.4f}).",
                "",
            ]
        arguments.output.parent.mkdir(exist_ok=True)
        arguments.output.write_text("\n".join(lines))
    if arguments.rotations:
        lines += rotation_lines(bench, arguments.rotations)
    lines += ["Parameters: " + ", ".join(f"{k} {v:,}" for k, v in parameters.items()) + ".", ""]
    arguments.output.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
