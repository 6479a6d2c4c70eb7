"""Log a model version as an MLflow run, and register it there with its aliases.

MLflow gets the version as a model of its flavour ``python_function``, which holds a copy of the
version's files and no pickle, its training options as parameters and its results as metrics. The
version is registered last, and one whose digest is registered is not logged again, so an
interrupted call can be repeated.

    model = mlflow.pyfunc.load_model("models:/charrnn@champion")
    model.predict(pandas.DataFrame({"name": ["Burghof", None]}))
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import charrnn
from charrnn.errors import ConfigError, missing_package, storage_errors
from charrnn.model.version import PRETRAINED, ModelVersion, aliases, load_version, resolve

_METRICS_PER_CALL = 1000  # MLflow's limit


def register_version(root: Path, reference: str, uri: str, *, name: str = "charrnn") -> str:
    """Log and register a version at an MLflow tracking server, unless it is registered, and set its
    aliases there; return its MLflow version number.

    Args:
        root: folder of the versions.
        reference: a version or an alias in it.
        uri: of the tracking server, such as ``http://127.0.0.1:5000`` or ``sqlite:///mlflow.db``.
        name: of the MLflow experiment and of the registered model.

    Raises:
        ConfigError: MLflow is missing, or the version is packaged with the library.
        ModelError: there is no such version, or it is damaged.
        StorageError: the server cannot be reached, or refuses a request.
    """
    if reference in PRETRAINED:
        raise ConfigError(
            f"{reference!r} is packaged with charrnn; only versions in {root} can be registered"
        )
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reports its use by default
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise missing_package("MLflow", "mlflow") from None
    version = resolve(reference, root)
    with storage_errors(f"MLflow at {uri} cannot be used"):  # also of requests, of SQLAlchemy
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        if not client.search_registered_models(f"name='{name}'"):
            client.create_registered_model(name)
        registered = client.search_model_versions(
            f"name='{name}' and tags.digest='{version.digest}'"
        )
        if registered:
            number = str(registered[0].version)
        else:
            run = _log_run(client, root / version.name, version, name)
            created = client.create_model_version(
                name,
                source=f"{run.info.artifact_uri}/model",
                run_id=run.info.run_id,
                tags={"digest": version.digest, "version": version.name},
            )
            number = str(created.version)
        for alias, target in aliases(root).items():
            if target == version.name:
                client.set_registered_model_alias(name, alias, number)
    return number


def _log_run(client: Any, folder: Path, version: ModelVersion, name: str) -> Any:
    """Log parameters, metrics and files as a finished run, and return it."""
    from mlflow.entities import Metric, Param

    facts, provenance = version.facts, version.facts.provenance
    moment = int(datetime.fromisoformat(provenance.created).timestamp() * 1000)  # ms since 1970
    experiment = client.get_experiment_by_name(name)
    run = client.create_run(
        experiment.experiment_id if experiment else client.create_experiment(name),
        run_name=version.name,
        start_time=moment,
        tags={
            "digest": version.digest,
            "created": provenance.created,
            "device": provenance.device,
            "threads": str(provenance.threads),
            **provenance.libraries,
        },
    )
    parameters = {
        "preset": facts.preset,
        "data_digest": facts.data_digest,
        "examples": facts.examples,
        **facts.train,
        **{f"model.{key}": value for key, value in asdict(version.config).items()},
        "temperature": version.temperature,
        "labels": len(version.labels),
    }
    metrics = [
        *((key, value, 0) for key, value in _numbers(asdict(facts.metrics))),
        *(
            (f"epoch.{key}", value, record.epoch)
            for record in facts.history
            for key, value in _numbers(asdict(record))
            if key != "epoch"
        ),
    ]
    client.log_batch(run.info.run_id, params=[Param(k, str(v)) for k, v in parameters.items()])
    for start in range(0, len(metrics), _METRICS_PER_CALL):
        batch = metrics[start : start + _METRICS_PER_CALL]
        client.log_batch(
            run.info.run_id, metrics=[Metric(k, v, moment, step) for k, v, step in batch]
        )
    with TemporaryDirectory() as temporary:
        save_model(folder, version, Path(temporary) / "model")
        client.log_artifacts(run.info.run_id, temporary)
    client.set_terminated(run.info.run_id)
    return run


def save_model(folder: Path, version: ModelVersion, path: Path) -> None:
    """Write a version as an MLflow model of the flavour ``python_function``.

    Its input is a column ``name``; its output the columns of ``Scorer.score``, with labels, status
    and reason as strings. ``folder`` is the version's, ``path`` that of the model.
    """
    import pandas as pd  # type: ignore[import-untyped]
    from mlflow import __version__, pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    scored = _ScoringModel(version).predict(pd.DataFrame({"name": pd.Series([], dtype="str")}))
    outputs = [
        ColSpec("float" if dtype == "float32" else "string", name)
        for name, dtype in scored.dtypes.items()
    ]
    torch = version.facts.provenance.libraries["torch"].partition("+")[0]
    pyfunc.save_model(
        path,
        loader_module=__name__,
        data_path=str(folder),
        signature=ModelSignature(Schema([ColSpec("string", "name")]), Schema(outputs)),
        input_example=pd.DataFrame({"name": ["Exampleton", "Samplesson"]}),
        pip_requirements=[
            f"charrnn-names=={charrnn.__version__}",
            f"mlflow-skinny=={__version__}",
            f"torch=={torch}",
            "pandas",
        ],
    )


class _ScoringModel:
    """What MLflow loads: a model with a method ``predict``."""

    def __init__(self, version: ModelVersion) -> None:
        from charrnn.scoring.scorer import Scorer

        self.scorer = Scorer(version, "auto")

    def predict(self, table: Any, params: dict[str, Any] | None = None) -> Any:
        """Return a pandas DataFrame with one row per row of ``table``, whose column ``name`` holds
        the names, and with its index. No label and no reason are an empty string: MLflow's function
        for Spark makes the text "nan" of a null among strings."""
        scored = self.scorer.score(table["name"]).drop(columns="name")
        categories = scored.select_dtypes("category").columns
        return scored.astype(dict.fromkeys(categories, "object")).fillna(
            dict.fromkeys(categories, "")
        )


def _load_pyfunc(path: str) -> _ScoringModel:
    """Load a model that ``save_model`` wrote; MLflow calls it with the path of its data."""
    return _ScoringModel(load_version(Path(path)))


def _numbers(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers in nested dictionaries with their dotted names; lists are skipped."""
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)
