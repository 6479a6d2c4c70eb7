"""Prefect's forms: every parameter of every flow is described, and bounded where its option is."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect_server import ROOT

_PREFECT = """
import json, sys
from prefect.exceptions import ParameterTypeError, SignatureMismatchError
from prefect.flows import load_flow_from_entrypoint
asked, *entrypoints = sys.argv[1:]
flows = {entrypoint: load_flow_from_entrypoint(entrypoint) for entrypoint in entrypoints}
score, answers = flows["flows/score.py:score"], []
for parameters in json.loads(asked):
    try:
        valid = score.validate_parameters({"source": "people.csv", **parameters})
        answers.append(score.serialize_parameters(valid))
    except (ParameterTypeError, SignatureMismatchError) as refused:
        answers.append(str(refused))
forms = {entrypoint: flow.parameters.model_dump() for entrypoint, flow in flows.items()}
print(json.dumps([forms, answers]))
"""
VALID = {"scoring": {"top_k": 2}, "compute": {"workers": None, "batch_size": 8}, "models": "m"}
REFUSED: list[dict[str, Any]] = [
    {"scoring": {"top_k": 0}}, {"compute": {"engine": "spark"}}, {"force": "maybe"},
    {"scoring": {"topk": 1}}, {"csv": {"workers": 1}}, {"top_k": 1},
]  # fmt: skip


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Any]]:
    """What Prefect says in a process of its own: the schema of the parameters of each flow in
    prefect.yaml and of the other two, and its answers to ``VALID`` and ``REFUSED``."""
    entries = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    entrypoints = {entry["entrypoint"] for entry in entries}
    home = tmp_path_factory.mktemp("prefect")
    done = subprocess.run(
        [sys.executable, "-c", _PREFECT, json.dumps([VALID, *REFUSED]), *entrypoints,
         "flows/challenge.py:challenge", "flows/pipeline.py:pipeline"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PREFECT_HOME": str(home), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    forms, answers = json.loads(done.stdout.splitlines()[-1])
    return {Path(entrypoint).stem: form for entrypoint, form in forms.items()}, answers


@pytest.fixture(scope="module")
def forms(said: tuple[dict[str, Any], list[Any]]) -> dict[str, dict[str, Any]]:
    return said[0]


def test_parameters_are_checked_before_a_run_begins(
    said: tuple[dict[str, Any], list[Any]],
) -> None:
    """Refused: out of bounds, no choice, of another type, unknown in a group or beside it."""
    first, *others = said[1]
    assert (first["scoring"]["top_k"], first["scoring"]["name_column"]) == (2, "name")
    assert (first["compute"]["batch_size"], first["models"]) == (8, "m")
    assert [isinstance(answer, str) for answer in others] == [True] * len(REFUSED)
    assert "scoring.top_k: Input should be greater than or equal to 1" in others[0]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, "examples:\n  python flows/deployments.py"),
        (["nonsense"], 2, "(see --help)"),
        ([], 70, "error: the Prefect API does not answer"),
    ],
)
def test_the_command_that_serves_answers_in_words(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "flows/deployments.py"), *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT),
             "PREFECT_API_URL": "http://127.0.0.1:9/api"},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert words in done.stdout + done.stderr


def fields_of(form: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the fields of a form, those of its groups among them."""
    groups = [form, *form.get("definitions", {}).values()]
    return {name: field for group in groups for name, field in group["properties"].items()}


def test_every_field_of_every_form_is_described(forms: dict[str, dict[str, Any]]) -> None:
    assert set(forms) == {
        "challenge", "inbox", "ingest", "monitor", "pipeline", "score", "train"
    }  # fmt: skip
    for flow, form in forms.items():
        fields = fields_of(form)
        assert fields, flow
        assert [name for name, field in fields.items() if not field.get("description")] == [], flow


@pytest.mark.parametrize(
    ("flow", "name", "expected"),
    [
        ("score", "top_k", {"type": "integer", "minimum": 1, "default": 3}),
        ("score", "min_confidence", {"type": "number", "minimum": 0, "maximum": 1}),
        ("score", "coverage_target", {"minimum": 0, "exclusiveMaximum": 1}),
        ("score", "engine", {"enum": ["local", "ray"], "default": "local"}),
        ("score", "on_drift", {"enum": ["ignore", "warn", "fail"], "default": "warn"}),
        ("score", "quote", {"enum": ['"', "'", "none"], "default": '"'}),
        ("score", "device", {"type": "string", "pattern": "^(auto|cpu|cuda(:[0-9]+)?)$"}),
        ("score", "on_bad_line", {"enum": ["refuse", "reject"], "default": "refuse"}),
        ("score", "workers", {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}),
        ("inbox", "names", {"enum": ["keep", "hash", "omit"], "default": "keep"}),
        ("inbox", "settle_seconds", {"type": "number", "minimum": 0, "default": 10.0}),
        ("inbox", "folder", {"type": "string", "default": "data/inbox"}),
        ("challenge", "sample", {"type": "integer", "minimum": 0, "default": 0}),
        ("monitor", "last", {"type": "integer", "minimum": 1, "default": 100}),
    ],
)
def test_a_form_shows_choices_bounds_and_defaults(
    forms: dict[str, dict[str, Any]], flow: str, name: str, expected: dict[str, Any]
) -> None:
    field = fields_of(forms[flow])[name]
    assert {key: field.get(key) for key in expected} == expected


def test_a_form_demands_what_has_no_default(forms: dict[str, dict[str, Any]]) -> None:
    assert forms["score"]["required"] == ["source"]
    assert forms["challenge"]["required"] == ["source"]
    assert forms["inbox"].get("required", []) == []
