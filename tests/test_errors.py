"""What errors say."""

import pytest

from charrnn.errors import storage_error, without_password


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
