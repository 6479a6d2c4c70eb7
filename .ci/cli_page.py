"""Write docs/cli.md, the page of commands and options, from the command's own help.

python .ci/cli_page.py
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from charrnn.cli import COMMANDS, console
from charrnn.recipes.document import OF_VERSION
from charrnn.recipes.train import Release

PAGE = Path(__file__).parents[1] / "docs/cli.md"
INTRODUCTION = """\
# Command line

Made from the help of `charrnn` by `.ci/cli_page.py`. `charrnn --help` and `charrnn COMMAND --help`
print the same; `charrnn --install-completion` completes commands and options in the shell.
[Exit codes](operating.md#command-line-exit-codes).

"""
# Command → module and function of its recipe, where the command is more than the recipe
RECIPES = {"score": "score.score", "train": "train.train", "pipeline": "pipeline"}
DOCUMENTS = f"""\
## Documents

With `--json` standard output is one JSON document: an object with a key per field of what the
recipe returns. Paths are text, tables lists of rows, and numbers that are not
finite null. `manifest` is the run's `manifest.json`; a model version
has {", ".join(f"`{name}`" for name in OF_VERSION)}.
A command that fails prints no document, but for a check of the result itself
(`--on-drift fail`, files of an inbox or folders of a purge that failed), where it comes first.
With `--log-format json` each line on
standard error is an object with `time` (UTC), `level` (error, note, info) and `message`, and
`exit_code` and `option` of an error, `step` and `seconds` of a step, `progress`, `done`, `total`,
`unit` and `seconds_left` of work under way. A command line that cannot be parsed (2) is answered as
text.

| command | keys | |
|---|---|---|
"""


def page() -> str:
    """Return the page as Markdown."""
    _, first, commands = (
        console().generate_docs(output_format="markdown").partition("\n## charrnn ")
    )
    return INTRODUCTION + first.lstrip() + commands.rstrip() + "\n\n" + "\n".join(json_lines())


def json_lines() -> Iterator[str]:
    """Yield the section on what --json prints: the keys of each command's record."""
    yield from DOCUMENTS.splitlines()
    recipes = {
        command: RECIPES.get(command, call.__qualname__)
        for command, (_, call, _) in COMMANDS.items()
    }
    for command, recipe in (recipes | {"score --dry-run": "preview.preview"}).items():
        if recipe == "pipeline":
            yield "| `pipeline` | `ingest`, `train`, `promote`, `score` | the documents of these |"
            continue
        module, _, function = recipe.partition(".")
        module = import_module(f"charrnn.recipes.{module}")
        record = get_type_hints(getattr(module, function))["return"]
        keys = ", ".join(f"`{field.name}`" for field in fields(record))
        text = described(record)
        if command == "train":
            keys = f"`trained`: {keys}; `released`: " + ", ".join(
                f"`{field.name}`" for field in fields(Release)
            )
            text += " " + described(Release)
        yield f"| `{command}` | {keys} | {text} |"


def described(record: Any) -> str:
    """Return the docstring of a record on one line, its attributes as they are written."""
    text = inspect.cleandoc(record.__doc__ or "").replace("Attributes:\n", "")
    return re.sub(r"\s+", " ", text.replace("``", "`")).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
