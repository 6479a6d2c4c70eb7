"""Measure how the source tree is built, and print its bars as a Markdown table.

python tests/bench/bars.py        # exits 1 if a bar is missed that is not open

Open bars are those that are known to be missed: they are shown as missed, and held to the figure
that was reached, so that they can only get better.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FunctionDef = ast.FunctionDef | ast.AsyncFunctionDef
ARRAYS = re.compile(r"\b(Tensor|NDArray|ndarray)\b")
STATE_DICT = re.compile(r"\b(dict|Mapping)\[str, Tensor\]")  # its shapes are the network's
SHAPE = re.compile(r"``\([^()]*,[^()]*\)``|\bshape\b|\bscalar\b|\bsee ``")
OPEN = {"lines of the library": 27_238}  # bar → the most that it may have until it is met
HOLDERS = re.compile(r"(^|_)(manifest|facts)$")  # names that hold a manifest or facts


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar: what is measured, its limit and what the tree has."""

    name: str
    limit: str
    measured: str
    met: bool

    @property
    def fails(self) -> bool:
        """Whether the bar is missed and not open, or open and worse than it was."""
        if self.met or self.name not in OPEN:
            return not self.met
        return int(self.measured.split()[0].replace(",", "")) > OPEN[self.name]


@dataclass(frozen=True)
class Source:
    """The parsed Python files of the library and the flows, by path below ``root``."""

    root: Path
    modules: dict[str, ast.Module]
    lines: dict[str, int]

    @classmethod
    def read(cls, root: Path) -> "Source":
        """Parse every Python file in ``charrnn/`` and ``flows/``."""
        paths = [
            path for name in ("charrnn", "flows") for path in sorted((root / name).rglob("*.py"))
        ]
        texts = {path.relative_to(root).as_posix(): path.read_text() for path in paths}
        return cls(
            root,
            {path: ast.parse(text) for path, text in texts.items()},
            {path: text.count("\n") for path, text in texts.items()},
        )

    def functions(self, below: str = "") -> Iterator[tuple[str, FunctionDef]]:
        """Yield path and definition of each function and method, nested ones included.

        GPU kernels are left out: each is one function by construction, its parameters addresses and
        sizes.
        """
        for path, module in self.modules.items():
            if path.startswith(below):
                for node in ast.walk(module):
                    if isinstance(node, FunctionDef) and not _is_kernel(node):
                        yield path, node

    def flow_files(self) -> dict[str, int]:
        """Return the lines of each file that defines a Prefect flow."""
        return {
            path: self.lines[path]
            for path, function in self.functions("flows/")
            if any(ast.unparse(d).startswith("flow(") for d in function.decorator_list)
        }


def _is_kernel(function: FunctionDef) -> bool:
    return any(
        ast.unparse(decorator).split(".")[-1] == "jit" for decorator in function.decorator_list
    )


def import_graph(source: Source) -> dict[str, set[str]]:
    """Return for each file of the library the files of it that it imports, at any level."""
    graph: dict[str, set[str]] = {}
    for path, module in source.modules.items():
        if not path.startswith("charrnn/"):
            continue
        names: set[str] = set()
        for node in ast.walk(module):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        files = {name.replace(".", "/") + ".py" for name in names}
        graph[path] = (files & source.modules.keys()) - {path}
    return graph


def cycles(graph: dict[str, set[str]]) -> list[str]:
    """Return the nodes from which a path of imports leads back to themselves."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        open_ends = [start]
        while open_ends:
            for other in graph.get(open_ends.pop(), set()) - seen:
                seen.add(other)
                open_ends.append(other)
        return seen

    return [node for node in graph if node in reachable(node)]


def package_graph(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the graph of packages (or files directly in ``charrnn/``) that one of files makes."""

    def package(path: str) -> str:
        return path.split("/")[1]

    packages: dict[str, set[str]] = {}
    for path, others in graph.items():
        if path != "charrnn/__init__.py":
            own = package(path)
            packages.setdefault(own, set()).update({package(p) for p in others} - {own})
    return packages


def body_lines(function: FunctionDef) -> int:
    """Return the lines from the first statement after the docstring to the end."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def code_lines(function: FunctionDef) -> int:
    """Return the lines from ``def`` to the end, without those of the docstring."""
    total = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        total -= (function.body[0].end_lineno or 0) - function.body[0].lineno + 1
    return total


def parameters(function: FunctionDef) -> int:
    """Return how many parameters a function has, ``self`` and ``cls`` not counted."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([argument for argument in every if argument.arg not in ("self", "cls")])


def string_lookups(source: Source) -> list[str]:
    """Return where a manifest or facts are read by a string, outside their own modules."""
    own = {"charrnn/runs/manifest.py", "charrnn/model/facts.py"}
    places = []
    for path, module in source.modules.items():
        for node in ast.walk(module):
            if isinstance(node, ast.Subscript):
                holder, key = node.value, node.slice
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "get"
                and node.args
            ):
                holder, key = node.func.value, node.args[0]
            else:
                continue
            name = getattr(holder, "id", getattr(holder, "attr", ""))
            is_text = isinstance(key, ast.Constant) and isinstance(key.value, str)
            if path not in own and is_text and HOLDERS.search(name):
                places.append(f"{path}:{node.lineno}")
    return places


def public_functions(source: Source) -> Iterator[tuple[str, FunctionDef]]:
    """Yield the public functions and methods of the library; not overloads, not nested ones."""

    def below(path: str, nodes: list[ast.stmt]) -> Iterator[tuple[str, FunctionDef]]:
        for node in nodes:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from below(path, node.body)
            elif isinstance(node, FunctionDef) and not node.name.startswith("_"):
                decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
                if "overload" not in decorators:
                    yield path, node

    for path, module in source.modules.items():
        if path.startswith("charrnn/"):
            yield from below(path, module.body)


def without_docstring(source: Source) -> list[str]:
    """Return the public functions that have no docstring."""
    return [
        f"{path}:{function.name}"
        for path, function in public_functions(source)
        if ast.get_docstring(function) is None
    ]


def without_shape(source: Source) -> list[str]:
    """Return the public functions of arrays whose docstring gives no shape."""
    places = []
    for path, function in public_functions(source):
        every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        annotations = [argument.annotation for argument in every] + [function.returns]
        words = " ".join(ast.unparse(annotation) for annotation in annotations if annotation)
        if ARRAYS.search(STATE_DICT.sub("", words)) and not SHAPE.search(
            ast.get_docstring(function) or ""
        ):
            places.append(f"{path}:{function.name}")
    return places


def entries(root: Path) -> list[str]:
    """Return the tracked files and folders directly in ``charrnn/``."""
    listed = subprocess.run(
        ["git", "ls-files", "charrnn"], cwd=root, capture_output=True, text=True, check=True
    )
    return sorted({path.split("/")[1] for path in listed.stdout.splitlines()})


def at_most(name: str, limit: int, size: int, place: str = "") -> Bar:
    """A bar for a size; ``place`` is where it was measured."""
    where = f" (`{place}`)" if place else ""
    return Bar(name=name, limit=f"≤ {limit:,}", measured=f"{size:,}{where}", met=size <= limit)


def largest(name: str, limit: int, sizes: dict[str, int]) -> Bar:
    """A bar for the largest of several sizes, given by their places."""
    place = max(sizes, key=lambda key: sizes[key], default="")
    return at_most(name, limit, sizes.get(place, 0), place)


def none_of(name: str, places: list[str]) -> Bar:
    """A bar for something that must not occur; shows the first places where it does."""
    shown = ", ".join(f"`{place}`" for place in places[:3]) + (", …" if len(places) > 3 else "")
    measured = f"{len(places)} ({shown})" if places else "0"
    return Bar(name=name, limit="0", measured=measured, met=not places)


def bars(root: Path = ROOT) -> list[Bar]:
    """Measure every bar on the tree at ``root``."""
    source = Source.read(root)
    graph = import_graph(source)
    flows = {path: lines for path, lines in source.lines.items() if path.startswith("flows/")}
    flow_lines = sum(flows.values())
    library_lines = sum(source.lines.values()) - flow_lines
    readme_lines = (root / "README.md").read_text().count("\n")

    def of_functions(measure: Callable[[FunctionDef], int], below: str = "") -> dict[str, int]:
        return {f"{path}:{f.name}": measure(f) for path, f in source.functions(below)}

    return [
        none_of("packages in an import cycle", cycles(package_graph(graph))),
        none_of("files in an import cycle", cycles(graph)),
        at_most("entries directly in `charrnn/`", 14, len(entries(root))),
        largest("lines of a recipe's body", 40, of_functions(body_lines, "charrnn/recipes/")),
        largest("lines of a file with a flow", 120, source.flow_files()),
        at_most("lines of `flows/`", 1300, flow_lines),
        largest("lines of a function, without its docstring", 60, of_functions(code_lines)),
        largest("parameters of a function", 12, of_functions(parameters)),
        none_of("look-ups by string in a manifest or facts", string_lookups(source)),
        at_most("lines of `README.md`", 170, readme_lines),
        at_most("lines of the library", 11_147, library_lines),
        none_of("public functions without a docstring", without_docstring(source)),
        none_of("public functions of arrays without a shape", without_shape(source)),
    ]


def markdown(measured: list[Bar]) -> str:
    """Return the bars as a Markdown table."""
    rows = [
        f"| {bar.name} | {bar.limit} | {bar.measured} | {'met' if bar.met else '**missed**'} |"
        for bar in measured
    ]
    return "\n".join(["| bar | limit | measured | |", "|---|---:|---|---|", *rows])


def main() -> None:
    """Print the table; exit 1 if a bar fails."""
    measured = bars()
    print(markdown(measured))
    sys.exit(any(bar.fails for bar in measured))


if __name__ == "__main__":
    main()
