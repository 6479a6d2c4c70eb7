"""Who may import whom, and what a module says it exports."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import charrnn

PACKAGE = Path(charrnn.__file__).parent
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
NO_POLARS = ["text", "vocabulary", "model", "calibration", "training", "inference", "corpus"]
NO_TORCH = ["tables", "staging", "runs"]
OPTIONAL = {"prefect", "sklearn", "matplotlib", "fastapi", "sqlalchemy", "rich",
            "ray", "deltalake", "mlflow", "s3fs"}  # fmt: skip


def imports_of(module: str, top_level_only: bool = False) -> set[str]:
    """Return the dotted names that a module of charrnn imports."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            found.add(str(node.module))
            found.update(f"{node.module}.{name.name}" for name in node.names)
    return found


def packages_of(module: str) -> set[str]:
    return {name.split(".")[0] for name in imports_of(module)}


def below(module: str) -> set[str]:
    """Return the module and all of charrnn that it imports, directly or not."""
    found, open_ends = set(), [module]
    while open_ends:
        current = open_ends.pop()
        if current not in found:
            found.add(current)
            names = {n.split(".")[1] for n in imports_of(current) if n.startswith("charrnn.")}
            open_ends.extend(names & set(MODULES))
    return found


def natural(name: str) -> list[tuple[int, int | str]]:
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def order_of(name: str) -> tuple[int, list[tuple[int, int | str]]]:
    """The order of ruff's RUF022: constants, then classes, then the rest."""
    kind = 0 if len(name) > 1 and name.isupper() else 1 if name[0].isupper() else 2
    return kind, natural(name)


def test_the_package_is_where_the_tests_look() -> None:
    assert {*NO_POLARS, *NO_TORCH, "versions", "scoring"} <= set(MODULES)
    assert "corpus" in below("training")


@pytest.mark.parametrize("module", ["__init__", *MODULES])
def test_the_library_knows_nothing_of_the_flows(module: str) -> None:
    assert not packages_of(module) & {"prefect", "flows", "tests"}


@pytest.mark.parametrize("module", NO_POLARS)
def test_the_network_side_never_imports_polars(module: str) -> None:
    assert {m for m in below(module) if "polars" in packages_of(m)} == set()


@pytest.mark.parametrize("module", NO_TORCH)
def test_the_table_side_never_imports_torch(module: str) -> None:
    assert {m for m in below(module) if "torch" in packages_of(m)} == set()


@pytest.mark.parametrize("module", MODULES)
def test_optional_packages_are_imported_where_they_are_used(module: str) -> None:
    top_level = {name.split(".")[0] for name in imports_of(module, top_level_only=True)}
    assert not top_level & OPTIONAL


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_itself_through_others(module: str) -> None:
    others = {n.split(".")[1] for n in imports_of(module) if n.startswith("charrnn.")}
    assert not [other for other in others & set(MODULES) if module in below(other)]


def test_importing_the_package_does_no_work() -> None:
    assert imports_of("__init__") == set()


@pytest.mark.parametrize("module", MODULES)
def test_public_names_exist_and_are_sorted(module: str) -> None:
    imported = importlib.import_module(f"charrnn.{module}")
    names = imported.__all__
    assert names == sorted(names, key=order_of)
    assert len(names) == len(set(names)) > 0
    assert [name for name in names if not hasattr(imported, name) or name.startswith("_")] == []


def test_a_fresh_interpreter_imports_everything_without_the_optional_packages() -> None:
    program = (
        "import sys, importlib\n"
        f"for module in {MODULES!r}: importlib.import_module('charrnn.' + module)\n"
        f"print(sorted({OPTIONAL!r} & set(sys.modules)), 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True
    )
    assert (done.stderr, done.stdout) == ("", "[] True\n")
