"""Train a model, measure it under both protocols, and publish it as a version."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charrnn.errors import missing_package
from charrnn.files import hold, remove_tree
from charrnn.model.facts import EpochRecord, Provenance
from charrnn.model.provenance import library_versions
from charrnn.model.version import ModelVersion, save_version, set_alias
from charrnn.recipes.metric_lines import label_lines, metrics_row
from charrnn.recipes.models import Promotion, Registration, promote, register
from charrnn.recipes.requests import PromoteRequest, RegisterRequest, TrainRequest
from charrnn.recipes.runner import Advance, Runner
from charrnn.reports.model import model_markdown, model_report
from charrnn.scoring.scorer import pick_device
from charrnn.training.baselines import Baseline, baselines
from charrnn.training.corpus import Corpus, load_corpus
from charrnn.training.evidence import check_trainable
from charrnn.training.outside import Outside, outside_of
from charrnn.training.presets import PRESETS, Preset, TrainConfig, with_overrides
from charrnn.training.protocol import Protocol, ProtocolResult, run_protocol
from charrnn.training.release import make_version

_CHECKPOINTS = ".training"  # folder in that of the versions
PromoteOne = Callable[[PromoteRequest], Promotion]


@dataclass(frozen=True)
class Trained:
    """A new version, called the candidate, and the training loss at the end of each run of the
    seed protocol, in nats."""

    version: ModelVersion
    seed_losses: list[float]

    def lines(self) -> list[str]:
        """Return the lines about a new version: metrics under both protocols, and by label."""
        version, facts = self.version, self.version.facts
        honest, seed = facts.metrics.honest, facts.metrics.seed
        lines = [
            f"version     {version.name}, preset {facts.preset}, "
            f"temperature {version.temperature:.3f}",
            *([f"characters  {facts.text_rules.text}"] if facts.text_rules else []),
            "",
            f"{'honest protocol':38}  accuracy  macro-F1   top-3     NLL     ECE",
            metrics_row(f"{version.name} on test ({honest.test.count} names)", honest.test),
            metrics_row(f"{version.name} on validation", honest.validation),
            *(metrics_row(name, m) for name, m in facts.baselines.get("honest", {}).items()),
        ]
        if seed:
            lines += [
                "",
                "seed protocol (random 80/20 of all rows, leaky)",
                *(metrics_row(f"{version.name}, run {i}", m) for i, m in enumerate(seed)),
                *(metrics_row(name, m) for name, m in facts.baselines.get("seed", {}).items()),
                f"accuracy {_mean_and_deviation([m.accuracy for m in seed])}, training loss "
                f"{_mean_and_deviation(self.seed_losses)}, {len(seed)} seeds",
            ]
        of_seed = ["", *label_lines("seed protocol, run 0", seed[0])] if seed else []
        return [*lines, "", *label_lines("honest test", honest.test), *of_seed, ""]


@dataclass(frozen=True)
class Release:
    """What followed a training; None for what was not requested."""

    promotion: Promotion | None
    registration: Registration | None

    def lines(self) -> list[str]:
        """Return the lines about what followed a training."""
        lines = self.promotion.lines() if self.promotion else []
        return lines + (self.registration.lines() if self.registration else [])


def train(request: TrainRequest, runner: Runner) -> Trained:
    """Fit a preset under both protocols and publish it as a new version, the candidate.

    Sets torch to one thread: the matrices are small, so more gain little, and the bits of the
    weights depend on their number.

    Raises:
        CharrnnError: an option, the data or the folder of versions is at fault. Checkpoints stay
            for ``resume``.
    """
    if request.baselines and find_spec("sklearn") is None:
        raise missing_package("the n-gram baseline of a training", "train", "baselines")
    torch.set_num_threads(1)
    device = str(pick_device(request.device))
    corpus = load_corpus(request.data, scratch=request.models)
    preset = with_overrides(
        PRESETS[request.preset].settled(corpus, request.script),
        seed=request.seed,
        epochs=request.epochs,
        batch_size=request.batch_size,
        learning_rate=request.learning_rate,
    )
    check_trainable(corpus, preset.symbols)
    outside = outside_of(load_corpus(request.outside), corpus) if request.outside else None
    shared = (corpus, outside, device, request, runner)

    def fit(protocol: Protocol, preset: Preset) -> ProtocolResult:
        title = f"{protocol} protocol, seed {preset.train.seed}"
        return runner.step(f"fit {title}", fit_protocol, title, protocol, preset, *shared)

    with hold(request.models / ".lock", runner.holder):
        honest = fit("honest", preset)
        seeds = 0 if preset.train.sparse else request.seeds  # the notebook's tables are small
        seed_runs = [
            fit("seed", with_overrides(preset, seed=seed))
            for seed in range(request.seed, request.seed + seeds)
        ]
        compared = {}
        if request.baselines:
            compared = runner.step("baselines", measure_baselines, corpus, preset.train)
        created = runner.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        provenance = Provenance(created, device, torch.get_num_threads(), library_versions())
        seed_metrics = [run.test.metrics for run in seed_runs]
        version = make_version(corpus, preset, honest, seed_metrics, compared, provenance, outside)
        version = runner.step("publish version", publish_version, version, request.models)
        remove_tree(request.models / _CHECKPOINTS)
    return Trained(version, [run.fit.history[-1].loss for run in seed_runs])


def fit_protocol(
    title: str,
    protocol: Protocol,
    preset: Preset,
    corpus: Corpus,
    outside: Outside | None,
    device: str,
    request: TrainRequest,
    runner: Runner,
) -> ProtocolResult:
    """Fit one network, keeping a checkpoint per epoch, and measure it; progress is shown under
    ``title``."""
    with (
        runner.device_slot(device.partition(":")[0]),
        runner.progress(title, 100 * (2 if preset.teacher else 1), "%") as advance,
    ):
        shown = _Shown(title, advance, runner)
        return run_protocol(
            corpus,
            preset,
            protocol,
            device=device,
            checkpoints=request.models / _CHECKPOINTS,
            resume=request.resume,
            on_epoch=shown.epoch,
            on_names=shown.names,
            outside=outside.calibration if outside else None,
        )


class _Shown:
    """Shows how far the fits of a preset are, in percent of the names to read by each, with the
    speed and the loss of the last epoch, and logs every epoch."""

    def __init__(self, title: str, advance: Advance, runner: Runner) -> None:
        self.title, self.advance, self.now, self.log = title, advance, runner.now, runner.log
        self.percent, self.loss = 0, ""
        self.started, self.first = self.now(), 0
        self.epoch_started, self.last_epoch = self.started, 0

    def epoch(self, record: EpochRecord) -> None:
        """Log an epoch: its figures, its time, and which ones an earlier try had done."""
        self.loss = f"loss {record.loss:.4f}, "
        now, epoch = self.now(), record.epoch
        text = f"{self.title}, epoch {epoch}: {self.loss}"
        if record.validation_accuracy is not None:
            text += f"validation accuracy {record.validation_accuracy:.4f}, "
        text += f"{(now - self.epoch_started).total_seconds():.1f} s"
        if epoch not in (1, self.last_epoch + 1):
            text += f"; epochs 1 to {epoch - 1} are of an earlier try"
        self.log(text)
        self.epoch_started, self.last_epoch = now, epoch

    def names(self, done: int, left: int) -> None:
        """Show that a fit has read ``done`` names, which a resumed one need not have done now."""
        percent = 100 * done // (done + left)
        if percent < self.percent or not self.first:  # the first step of a fit
            self.started, self.first, self.percent = self.now(), done, 0
            self.epoch_started = self.started
        if percent > self.percent:
            seconds = (self.now() - self.started).total_seconds()
            speed = f"{(done - self.first) / seconds:,.0f} names/s" if seconds else ""
            self.advance(percent - self.percent, f"{self.loss}{speed}")
            self.percent = percent


def measure_baselines(corpus: Corpus, train: TrainConfig) -> dict[str, dict[str, Baseline]]:
    """Return protocol → name → baseline, of the protocols that a preset is fitted under."""
    protocols: tuple[Protocol, ...] = ("honest",) if train.sparse else ("honest", "seed")
    return {protocol: baselines(corpus, protocol, train.seed) for protocol in protocols}


def publish_version(version: ModelVersion, models: Path) -> ModelVersion:
    """Save the version with its report and point the alias candidate at it."""
    reports = {"report.html": model_report(version), "report.md": model_markdown(version)}
    saved = save_version(models, version, reports)
    set_alias(models, "candidate", saved.name)
    return saved


def release(trained: Trained, request: TrainRequest, promote_one: PromoteOne = promote) -> Release:
    """Promote and register a new version, as far as the request asks for it.

    Args:
        promote_one: promotes a version; by default the recipe ``promote``.
    """
    of_version: dict[str, Any] = {"version": trained.version.name, "models": request.models}
    promotion = registration = None
    if request.promote != "never":
        force = request.promote == "always"
        promotion = promote_one(PromoteRequest(**of_version, data=request.data, force=force))
    if request.mlflow:
        registration = register(RegisterRequest(**of_version, mlflow=request.mlflow))
    return Release(promotion, registration)


def _mean_and_deviation(values: Sequence[float]) -> str:
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=min(1, len(values) - 1)):.4f} sd"
