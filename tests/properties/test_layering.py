"""Who may import whom, and what a module says it exports."""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import charrnn

PACKAGE = Path(charrnn.__file__).parent
# The staircase: a package imports only packages that come after it here.
STAIRCASE = ("cli", "recipes", "reports", "integrations", "runs", "training", "monitoring",
             "scoring", "model", "tables", "files", "errors")  # fmt: skip
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
)
OPTIONAL = {"prefect", "sklearn", "fastapi", "sqlalchemy", "rich",
            "ray", "deltalake", "mlflow", "s3fs", "jinja2",
            "faker", "mimesis", "wordfreq"}  # fmt: skip
NO_TORCH = ("tables", "files", "errors")


def parsed(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())


@functools.cache
def imports_of(module: str, top_level_only: bool = False) -> frozenset[str]:
    """Return the dotted names of the modules that a module of charrnn imports."""
    tree = parsed(module)
    nodes = tree.body if top_level_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            found.add(str(node.module))
            found.update(f"{node.module}.{name.name}" for name in node.names)
    return frozenset(found)


def own_imports(module: str) -> set[str]:
    """Return the modules of charrnn that a module imports."""
    return {name.removeprefix("charrnn.") for name in imports_of(module)} & set(MODULES)


def below(module: str) -> set[str]:
    """Return the module and all of charrnn that it imports, directly or not."""
    found, open_ends = set(), [module]
    while open_ends:
        current = open_ends.pop()
        if current not in found:
            found.add(current)
            open_ends.extend(own_imports(current))
    return found


def test_every_module_stands_on_the_staircase() -> None:
    assert {module.split(".")[0] for module in MODULES} <= set(STAIRCASE)


@pytest.mark.parametrize("module", MODULES)
def test_a_package_imports_only_packages_below_it(module: str) -> None:
    own = module.split(".")[0]
    upward = [
        other
        for other in own_imports(module)
        if STAIRCASE.index(other.split(".")[0]) < STAIRCASE.index(own)
    ]
    assert upward == []


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_itself_through_others(module: str) -> None:
    assert not [other for other in own_imports(module) if module in below(other)]


@pytest.mark.parametrize("module", MODULES)
def test_the_library_knows_nothing_of_the_flows(module: str) -> None:
    assert not {n.split(".")[0] for n in imports_of(module)} & {"prefect", "flows", "tests"}


@pytest.mark.parametrize("module", [m for m in MODULES if m.split(".")[0] in NO_TORCH])
def test_the_table_side_never_imports_torch(module: str) -> None:
    assert {m for m in below(module) if "torch" in imports_of(m)} == set()


@pytest.mark.parametrize("module", MODULES)
def test_optional_packages_are_imported_where_they_are_used(module: str) -> None:
    top_level = {name.split(".")[0] for name in imports_of(module, top_level_only=True)}
    assert not top_level & OPTIONAL


@pytest.mark.parametrize("module", MODULES)
def test_no_private_name_crosses_modules(module: str) -> None:
    """Names without a leading underscore are a module's public ones; there is no other list."""
    taken = [
        name.name
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("charrnn")
        for name in node.names
    ]
    assert [name for name in taken if name.startswith("_") and not name.startswith("__")] == []


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


def test_importing_the_package_does_no_work() -> None:
    program = "import sys, charrnn; print('torch' in sys.modules, 'polars' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False False\n"


def test_every_imported_package_is_a_dependency() -> None:
    """What the environment has by chance, a user's may lack."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["ray"], *extras["delta"], *extras["s3"]]
    declared += [*extras["mlflow"], *extras["train"]]
    named = {re.split(r"[\[<>= ]", line)[0].lower().replace("_", "-") for line in declared}
    imported = {name.split(".")[0] for module in MODULES for name in imports_of(module)}
    distributions = packages_distributions()
    third_party = imported - sys.stdlib_module_names - {"charrnn", "fsspec", "triton"}
    # s3fs needs fsspec; triton comes with torch's builds for a GPU.
    lacking = [
        package
        for package in third_party
        if not {name.lower().replace("_", "-") for name in distributions[package]} & named
    ]
    assert lacking == []
