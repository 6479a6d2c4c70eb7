"""What errors say."""

import pytest

from charrnn.errors import storage_error


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
