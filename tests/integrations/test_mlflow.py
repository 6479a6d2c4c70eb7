"""Registering versions with MLflow: files, figures and aliases arrive, once."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from model_facts import facts_of

import charrnn
from charrnn import Scorer
from charrnn.errors import ConfigError, ModelError, StorageError
from charrnn.integrations import mlflow as mlflow_registry
from charrnn.integrations.mlflow import register_version
from charrnn.model.facts import EpochRecord, ModelFacts
from charrnn.model.version import ModelVersion, load_version, save_version, set_alias
from flows.train import train

pytest.importorskip("mlflow", reason="the extra charrnn-names[mlflow] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow and its database's library


def facts(labels: tuple[str, ...]) -> ModelFacts:
    """Two epochs and a test accuracy of 0.75."""
    history = (EpochRecord(1, 2.0, None, None), EpochRecord(2, 1.5, None, None))
    document = asdict(facts_of(labels, train={"epochs": 2, "seed": 7}, history=history))
    document["metrics"]["honest"]["test"]["accuracy"] = 0.75
    return msgspec.convert(document, ModelFacts)


@pytest.fixture(scope="module")
def empty_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database of MLflow; making one takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client_of(f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture
def server(empty_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_server, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def root(tiny_version: ModelVersion, tmp_path: Path) -> Path:
    """Two versions; the first is the champion."""
    folder = tmp_path / "models"
    save_version(
        folder,
        replace(tiny_version, facts=facts(tiny_version.labels)),
        {"report.html": b"<p>report</p>"},
    )
    save_version(folder, replace(tiny_version, facts=facts(tiny_version.labels), temperature=0.3))
    set_alias(folder, "champion", "v0001")
    return folder


def client_of(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def test_parameters_metrics_files_and_alias_arrive(server: str, root: Path, tmp_path: Path) -> None:
    assert register_version(root, "champion", server) == "1"
    client = client_of(server)
    found = client.get_model_version_by_alias("charrnn", "champion")
    version = load_version(root / "v0001")
    assert found.tags == {"digest": version.digest, "version": "v0001"}
    run = client.get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["preset"] == "default"
    assert run.data.params["seed"] == "7"
    assert run.data.tags["torch"] == "2.13.0"
    assert run.data.params["model.hidden_size"] == str(version.config.hidden_size)
    assert run.data.metrics["honest.test.accuracy"] == 0.75
    history = client.get_metric_history(found.run_id, "epoch.loss")
    assert [(m.step, m.value) for m in history] == [(1, 2.0), (2, 1.5)]
    copy = client.download_artifacts(found.run_id, "model/data/v0001", str(tmp_path))
    assert load_version(Path(copy)).digest == version.digest
    assert found.source.endswith(f"{found.run_id}/artifacts/model")


def test_a_registered_version_predicts_by_its_alias(
    server: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import pandas as pd

    register_version(root, "champion", server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    model = mlflow.pyfunc.load_model("models:/charrnn@champion")
    names = pd.DataFrame({"name": ["Katoro", None, "Burghof"]}, index=[7, 8, 9])
    answers = model.predict(names)
    expected = Scorer(load_version(root / "v0001")).score(names["name"])
    columns = model.metadata.get_output_schema().input_names()
    assert list(answers) == columns == list(expected)[1:]
    assert answers.index.to_list() == [7, 8, 9]
    for column in columns:
        kind = model.metadata.get_output_schema().input_dict()[column].type.name
        assert kind == ("float" if "confidence" in column else "string")
        if kind == "string":  # no label and no reason are an empty string
            assert answers[column].to_list() == expected[column].astype(object).fillna("").to_list()
        else:
            pd.testing.assert_series_equal(answers[column], expected[column])
    assert str(model.metadata.get_input_schema().input_names()) == "['name']"
    needed = mlflow.pyfunc.get_model_dependencies("models:/charrnn@champion")
    assert f"charrnn-names=={charrnn.__version__}" in Path(needed).read_text()


def test_a_version_is_registered_once_and_its_aliases_move(server: str, root: Path) -> None:
    assert register_version(root, "v0001", server) == "1"
    assert register_version(root, "v0001", server) == "1"
    assert register_version(root, "v0002", server) == "2"
    client = client_of(server)
    assert str(client.get_model_version_by_alias("charrnn", "champion").version) == "1"
    set_alias(root, "champion", "v0002")
    assert register_version(root, "champion", server) == "2"
    assert str(client.get_model_version_by_alias("charrnn", "champion").version) == "2"
    assert len(client.search_model_versions("name='charrnn'")) == 2
    experiment = client.get_experiment_by_name("charrnn")
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_what_fails_before_the_end_is_not_registered_and_can_be_done_again(
    server: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("gone\nsecond line")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifacts", fail)
        with pytest.raises(StorageError, match=r"cannot be used: ConnectionError: gone$"):
            register_version(root, "v0001", server)
    assert client_of(server).search_model_versions("name='charrnn'") == []
    assert register_version(root, "v0001", server) == "1"


def test_training_registers_what_it_publishes(
    server: str, corpus_path: Path, tmp_path: Path
) -> None:
    name = train(
        preset="default", data=corpus_path, models=tmp_path / "new", device="cpu",
        seeds=0, epochs=1, baselines=False, mlflow=server,
    )  # fmt: skip
    client = client_of(server)
    for alias in ("candidate", "champion"):
        assert client.get_model_version_by_alias("charrnn", alias).tags["version"] == name
    run = client.get_run(client.get_model_version("charrnn", "1").run_id)
    test = load_version(tmp_path / "new" / name).facts.metrics.honest.test
    assert run.data.metrics["honest.test.accuracy"] == pytest.approx(test.accuracy)


@pytest.mark.parametrize(
    ("reference", "error"), [("pretrained", ConfigError), ("v0009", ModelError)]
)
def test_what_is_no_version_here_is_refused(
    reference: str, error: type[Exception], server: str, root: Path
) -> None:
    with pytest.raises(error):
        register_version(root, reference, server)


def test_numbers_are_found_by_dotted_name_and_nothing_else_is() -> None:
    document = {"a": {"b": 1, "c": [1, 2], "d": True}, "e": 0.5, "f": None, "g": "x"}
    assert list(mlflow_registry._numbers(document)) == [("a.b", 1.0), ("e", 0.5)]
