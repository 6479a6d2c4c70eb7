"""Train a model, measure it under both protocols, and publish it as a version.

python flows/train.py
python flows/train.py --preset seed --seeds 3
python flows/train.py --resume
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.command import new_app, progress, run, say, this_process
from flows.models import COMMANDS, MODELS, promote_version
from flows.tracking import device_slot, note, task
from flows.tracking import plain_flow as flow

if TYPE_CHECKING:  # torch takes a second to import; --help should not
    from charrnn.model.facts import Metrics, Provenance
    from charrnn.model.version import ModelVersion
    from charrnn.training.baselines import Baseline
    from charrnn.training.corpus import Corpus
    from charrnn.training.presets import Preset
    from charrnn.training.protocol import ProtocolResult


@task(name="fit")
def fit_protocol(
    corpus: "Corpus",
    preset: "Preset",
    protocol: Literal["honest", "seed"],
    device: str,
    checkpoints: Path,
    resume: bool,
) -> "ProtocolResult":
    """Fit one network, keeping a checkpoint per epoch, and measure it."""
    from charrnn.training.protocol import run_protocol

    with (
        device_slot(device.partition(":")[0]),
        progress(f"{protocol} seed {preset.train.seed}", preset.all_epochs, "epochs") as advance,
    ):
        return run_protocol(
            corpus,
            preset,
            protocol,
            device=device,
            checkpoints=checkpoints,
            resume=resume,
            on_epoch=lambda record: advance(1, f"loss {record.loss:.4f}"),
        )


@task(name="baselines")
def measure_baselines(corpus: "Corpus", seed: int) -> "dict[str, dict[str, Baseline]]":
    """Measure the baselines under both protocols."""
    from charrnn.training.baselines import baselines

    return {p: baselines(corpus, p, seed) for p in ("honest", "seed")}


@task(name="publish version")
def publish_version(version: "ModelVersion", models: Path) -> "ModelVersion":
    """Save the version with its report, and call it the candidate."""
    from charrnn.model.version import save_version, set_alias
    from charrnn.reports.model import model_markdown, model_report

    saved = save_version(
        models,
        version,
        {
            "report.html": model_report(version),
            "report.md": model_markdown(version),
        },
    )
    set_alias(models, "candidate", saved.name)
    return saved


@flow(name="train", flow_run_name="train {preset}")
def train(
    *,
    preset: Literal["seed", "default", "tiny"] = "default",
    data: str = "data/names.parquet",
    models: str = "outputs/models",
    device: str = "auto",
    seed: int = 0,
    seeds: int = 1,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    baselines: Annotated[bool, Parameter(negative="--no-baselines")] = True,
    resume: bool = False,
    promote: Literal["gate", "always", "never"] = "gate",
    mlflow: str = "",
) -> str:
    """Fit a preset under both protocols and publish it as a new model version.

    Args:
        preset: seed (the notebook's recipe), default (the best small one) or tiny (the fastest).
        data: the table that ingest wrote.
        models: folder of the model versions.
        device: auto, cpu, cuda or cuda:N.
        seed: of the version's weights, and the first of the seed protocol's.
        seeds: how many runs of the seed protocol to do; 0 leaves it out.
        epochs: instead of the preset's, and instead of its teacher's.
        batch_size: instead of the preset's.
        learning_rate: instead of the preset's.
        baselines: also measure the majority label and character n-grams.
        resume: go on from the checkpoints of an interrupted training of the same data and recipe.
        promote: let champion point at the new version: gate (unless it is worse on the test
            fold or was measured on other data), always or never.
        mlflow: an MLflow tracking server (URI) at which to log and register the version as well.

    Returns:
        The version's name, such as v0001.
    """
    import torch

    from charrnn.errors import ConfigError
    from charrnn.files import hold, remove_tree
    from charrnn.reports.model import model_markdown
    from charrnn.scoring.scorer import pick_device
    from charrnn.training.corpus import load_corpus
    from charrnn.training.presets import PRESETS, with_overrides, with_seed
    from charrnn.training.release import make_version

    if seeds < 0:
        raise ConfigError(f"seeds are {seeds}; give 0 or more")
    chosen = with_overrides(
        PRESETS[preset],
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    # The matrices are small: more threads gain little, and the bits would depend on their number.
    torch.set_num_threads(1)
    root, where = Path(models), str(pick_device(device))
    corpus = load_corpus(Path(data))
    checkpoints = root / ".training"
    with hold(root / ".lock", this_process()):
        honest = fit_protocol(corpus, chosen, "honest", where, checkpoints, resume)
        seed_runs = [
            fit_protocol(corpus, with_seed(chosen, s), "seed", where, checkpoints, resume)
            for s in range(seed, seed + seeds)
        ]
        compared = measure_baselines(corpus, seed) if baselines else {}
        version = publish_version(
            make_version(
                corpus, chosen, honest, [r.test for r in seed_runs], compared, _provenance(where)
            ),
            root,
        )
        remove_tree(checkpoints)
    lines = describe(version, [run.fit.history[-1].loss for run in seed_runs])
    note("model-card", model_markdown(version).decode(), f"Model {version.name}")
    for line in lines:
        say(line)
    if promote != "never":
        promote_version(version.name, models=models, force=promote == "always")
    if mlflow:
        register(version.name, mlflow=mlflow, models=root)
    return version.name


def register(
    version: str = "champion", *, mlflow: str, models: Path = MODELS, name: str = "charrnn"
) -> None:
    """Log a version at an MLflow tracking server and register it with the aliases that it has
    here, unless it is there; then only its aliases are moved.

    Args:
        version: a version or an alias.
        mlflow: URI of the server, such as http://127.0.0.1:5000 or sqlite:///mlflow.db.
        models: folder of the model versions.
        name: of the experiment and of the registered model.
    """
    from charrnn.errors import without_password
    from charrnn.integrations.mlflow import register_version

    number = register_version(models, version, mlflow, name=name)
    say(f"registered  {version} as version {number} of {name} at {without_password(mlflow)}")


def describe(version: "ModelVersion", seed_losses: list[float]) -> list[str]:
    """Return the lines that a person wants to see after training."""
    import numpy as np

    metrics, compared = version.facts.metrics, version.facts.baselines
    test = metrics.honest.test
    lines = [
        f"version     {version.name}, preset {version.facts.preset}, "
        f"temperature {version.temperature:.3f}",
        "",
        f"{'honest protocol':38}  accuracy  macro-F1   top-3     NLL     ECE",
    ]

    def row(name: str, m: "Metrics") -> str:
        return (
            f"{name:38} {m.accuracy:>9.4f} {m.macro_f1:>9.4f} {m.top3:>7.4f} "
            f"{m.nll:>7.4f} {m.ece:>7.4f}"
        )

    lines += [
        row(f"{version.name} on test ({test.count} names)", test),
        row(f"{version.name} on validation", metrics.honest.validation),
        *(row(name, m) for name, m in compared.get("honest", {}).items()),
    ]
    if metrics.seed:
        lines += ["", "seed protocol (random 80/20 of all rows, leaky)"]
        lines += [row(f"{version.name}, run {i}", m) for i, m in enumerate(metrics.seed)]
        lines += [row(name, m) for name, m in compared.get("seed", {}).items()]
        accuracy = np.array([m.accuracy for m in metrics.seed])
        losses = np.array(seed_losses)
        ddof = min(1, len(accuracy) - 1)
        lines += [
            f"accuracy {accuracy.mean():.4f} ± {accuracy.std(ddof=ddof):.4f} sd, training loss "
            f"{losses.mean():.4f} ± {losses.std(ddof=ddof):.4f} sd, {len(accuracy)} seeds"
        ]
    lines += [
        "",
        *_label_lines("honest test", test),
    ]
    if metrics.seed:
        lines += ["", *_label_lines("seed protocol, run 0", metrics.seed[0])]
    return [*lines, ""]


def _label_lines(title: str, metrics: "Metrics") -> list[str]:
    """Return a table of what each label reaches; the interval is of the recall, 95 % Wilson."""
    return [
        f"{title:22} {'names':>6} {'precision':>10} {'recall':>7} {'interval':>15} {'F1':>8}",
        *(
            f"{m.label:22} {m.count:>6} {m.precision:>10.3f} {m.recall:>7.3f} "
            f"  {m.recall_low:.3f} to {m.recall_high:.3f} {m.f1:>7.3f}"
            for m in metrics.labels
        ),
    ]


def _provenance(device: str) -> "Provenance":
    import torch

    from charrnn.model.facts import Provenance
    from charrnn.model.provenance import library_versions

    return Provenance(
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        device=device,
        threads=torch.get_num_threads(),
        libraries=library_versions(),
    )


app = new_app(
    "  python flows/train.py\n"
    "  python flows/train.py --preset seed --seeds 3\n"
    "  python flows/train.py --resume\n"
    "  python flows/train.py evaluate champion --on labelled.parquet\n"
    "  python flows/train.py compare champion candidate"
)
app.default(train)
for name, command in COMMANDS.items():
    app.command(command, name=name)
app.command(register)

if __name__ == "__main__":
    run(app)
