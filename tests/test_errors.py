"""What errors say."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Interval

from charrnn.errors import ConfigError, check_fields, storage_error, without_password


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no answer", "s3://b cannot be reached: TimeoutError: no answer"),
        ("\nno answer\n  at line 1", "s3://b cannot be reached: TimeoutError: no answer"),
        ("", "s3://b cannot be reached: TimeoutError"),
    ],
)
def test_a_librarys_error_is_told_in_one_line(text: str, said: str) -> None:
    assert str(storage_error("s3://b cannot be reached", TimeoutError(text))) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://me:s3cret@host:5000/x", "http://host:5000/x"),
        ("postgresql://me:s3:cret@db/x, or s3://me@b", "postgresql://db/x, or s3://b"),
        ("sqlite:////tmp/a@b.db", "sqlite:////tmp/a@b.db"),
        ("http://host/a@b", "http://host/a@b"),
        ("me@example.org at http://host", "me@example.org at http://host"),
    ],
)
def test_no_password_is_shown(text: str, said: str) -> None:
    assert without_password(text) == said
    assert str(storage_error("MLflow", TimeoutError(text))) == f"MLflow: TimeoutError: {said}"


@dataclass(frozen=True)
class Record:
    workers: Annotated[int, Ge(1)] | None = None
    batch_size: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    share: Annotated[float, Interval(ge=0, lt=1)] = 0.5
    names: Literal["keep", "omit"] = "keep"
    anything: str = ""


@pytest.mark.parametrize("fields", [
    {"workers": 0}, {"workers": "1"}, {"batch_size": 0}, {"batch_size": "all"},
    {"batch_size": None}, {"share": 1.0}, {"share": math.nan}, {"share": -0.1}, {"share": None},
    {"names": "hide"}, {"names": 3}, {"names": None},
])  # fmt: skip
def test_a_field_outside_its_annotation_is_refused_by_name(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(ConfigError, match=f"{name} must be .*got {fields[name]!r}") as caught:
        check_fields(Record(**fields))
    assert caught.value.option == name


@pytest.mark.parametrize(
    "fields", [{}, {"workers": 1}, {"batch_size": 5}, {"share": 0}, {"anything": 7}]
)
def test_fields_within_their_annotations_pass(fields: dict[str, Any]) -> None:
    check_fields(Record(**fields))


def test_message_about_a_field_says_bounds_and_choices() -> None:
    with pytest.raises(ConfigError, match="batch_size must be ≥ 1 or auto, got 0"):
        check_fields(Record(batch_size=0))
    with pytest.raises(ConfigError, match="share must be ≥ 0 and < 1, got 2"):
        check_fields(Record(share=2))
    with pytest.raises(ConfigError, match="names must be keep or omit, got 'hide'"):
        check_fields(Record(names="hide"))  # type: ignore[arg-type]
