"""The bars of the source tree hold, and the script that measures them finds what it looks for."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bars() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests/bench")
        return importlib.import_module("bars")


def written(root: Path, **files: str) -> Path:
    """Write files whose path has ``__`` for ``/`` and no suffix."""
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_cycles_of_files_and_of_packages_are_found(bars: ModuleType, tmp_path: Path) -> None:
    root = written(
        tmp_path,
        charrnn__model__a="from charrnn.tables import b",
        charrnn__tables__b="import charrnn.model.c",
        charrnn__model__c="",
        charrnn__errors="def f():\n    from charrnn.files import x",
        charrnn__files="import charrnn.errors",
    )
    graph = bars.import_graph(bars.Source.read(root))
    assert sorted(bars.cycles(graph)) == ["charrnn/errors.py", "charrnn/files.py"]
    packages = bars.cycles(bars.package_graph(graph))
    assert sorted(packages) == ["errors.py", "files.py", "model", "tables"]


def test_lookups_by_string_are_found_outside_the_two_modules(
    bars: ModuleType, tmp_path: Path
) -> None:
    reads = "manifest['rows']\nrun.facts.get('x')\nother['rows']\nmanifest[rows]\n"
    root = written(tmp_path, charrnn__runs__manifest=reads, charrnn__cli=reads, flows__score=reads)
    places = ["charrnn/cli.py:1", "charrnn/cli.py:2", "flows/score.py:1", "flows/score.py:2"]
    assert sorted(bars.string_lookups(bars.Source.read(root))) == places


def test_docstrings_without_a_shape_are_found(bars: ModuleType, tmp_path: Path) -> None:
    text = '''
def bare(x): pass
def _hidden(x: Tensor): pass
def silent(x: Tensor) -> None:
    """Do it (quickly, of course)."""
class Cell:
    def forward(self, x: Tensor) -> Tensor:
        """Return logits, ``(B, L)``."""
    def weights(self) -> dict[str, Tensor]:
        """Return the weights by name."""
'''
    source = bars.Source.read(written(tmp_path, charrnn__model__network=text))
    assert bars.without_docstring(source) == ["charrnn/model/network.py:bare"]
    assert bars.without_shape(source) == ["charrnn/model/network.py:silent"]


def test_docstrings_do_not_count_as_lines_of_a_function(bars: ModuleType, tmp_path: Path) -> None:
    text = 'def f(\n    self, a, *, b\n):\n    """One.\n\n    Two.\n    """\n    a()\n    b()\n'
    source = bars.Source.read(written(tmp_path, charrnn__cli=text))
    [(_, function)] = source.functions()
    measured = (bars.code_lines(function), bars.body_lines(function), bars.parameters(function))
    assert measured == (5, 2, 2)
