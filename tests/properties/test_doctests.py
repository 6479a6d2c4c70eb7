"""The examples in docstrings give what they show."""

import doctest
import importlib
from pathlib import Path

import pytest

import charrnn

PACKAGE = Path(charrnn.__file__).parent
MODULES = sorted(
    ".".join(("charrnn", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    )
    for path in PACKAGE.rglob("*.py")
    if ">>>" in path.read_text()
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_give_what_they_show(module: str) -> None:
    done = doctest.testmod(importlib.import_module(module))
    assert done.attempted > 0
    assert done.failed == 0
