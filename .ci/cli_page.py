"""Write docs/cli.md, the page of commands and options, from the command's own help.

python .ci/cli_page.py
"""

from pathlib import Path

from charrnn.cli import console

PAGE = Path(__file__).parents[1] / "docs/cli.md"
INTRODUCTION = """\
# Command line

Made from the help of `charrnn` by `.ci/cli_page.py`. `charrnn --help` and `charrnn COMMAND --help`
print the same; `charrnn --install-completion` completes commands and options in the shell.
[Exit codes](operating.md#command-line-exit-codes).

"""


def page() -> str:
    """Return the page as Markdown."""
    _, first, commands = (
        console().generate_docs(output_format="markdown").partition("\n## charrnn ")
    )
    return INTRODUCTION + first.lstrip() + commands.rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
