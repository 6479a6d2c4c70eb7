"""Thirty rows as tables have them, with the answers of two models, as a page.

    python tests/bench/rows.py            # writes docs/rows.md

Names are invented or common combinations, but for the two that the first model was known to get
wrong. All options are the default ones.
"""

import argparse
from pathlib import Path

import polars as pl
from common import circumstances
from outside import row

from charrnn.scoring.scorer import Scorer

# Kind, given name, surname; or kind and a name in one column
IN_COLUMNS = (
    ("accents", "Anna", "Müller"),
    ("accents", "Jana", "Nováková"),
    ("accents", "Lars", "Sørensen"),
    ("accents", "Mehmet", "Yılmaz"),
    ("accents", "João", "Oliveira"),
    ("no accents", "Eszter", "Szabo"),
    ("no accents", "Priya", "Sharma"),
    ("no accents", "Aino", "Korhonen"),
    ("surname alone", None, "Papadopoulos"),
    ("surname alone", None, "Łukaszewski"),
    ("given name alone", "Giulia", None),
)
IN_ONE_COLUMN = (
    ("known to be wrong before", "Angela Merkel"),
    ("known to be wrong before", "Chukwuemeka Okafor"),
    ("given name first", "Marta Kowalska"),
    ("surname first, comma", "Kowalska, Marta"),
    ("title, particle", "Dr. Pieter van der Berg"),
    ("patronymic", "Sigrún Jónsdóttir"),
    ("capitals", "ANNA MUELLER"),
    ("lower case, no accents", "jana novakova"),
    ("capitals, no accents", "JOSE GARCIA"),
    ("apostrophe, comma", "O'Brien, Seán"),
    ("Cyrillic", "Иван Петров"),
    ("the same in Latin letters", "Ivan Petrov"),
    ("Greek", "Γιώργος Παπαδόπουλος"),
    ("Japanese, surname first", "山田 花子"),
    ("Korean, no space", "김민지"),
    ("Arabic", "أحمد حسن"),
    ("company", "Nordwind Logistik GmbH"),
    ("company", "Acme Trading Ltd"),
    ("common word", "invoice"),
)


def answers(model: str) -> list[str]:
    """Return what a model says of each row, those in columns first."""
    scorer = Scorer.load(model)
    parts = pl.DataFrame(IN_COLUMNS, ["kind", "given", "surname"], orient="row")
    frames = (
        scorer.score_table(parts, surname_column="surname", given_column="given"),
        scorer.score([name for _, name in IN_ONE_COLUMN]),
    )
    columns = ("language", "confidence", "status", "reason")
    return [said(*cells) for frame in frames for cells in frame.select(columns).iter_rows()]


def said(language: str | None, confidence: float | None, status: str, reason: str | None) -> str:
    """Return one answer as a cell of the table."""
    return f"{language} {confidence:.2f}" if status == "scored" else f"{status}: {reason}"


def page(before: str, after: str) -> str:
    """Return the page."""
    kinds = [kind for kind, *_ in (*IN_COLUMNS, *IN_ONE_COLUMN)]
    names = [f"{given or ''} \\| {surname or ''}" for _, given, surname in IN_COLUMNS]
    names += [name for _, name in IN_ONE_COLUMN]
    rows = zip(kinds, names, answers(before), answers(after), strict=True)
    lines = [line for cells in rows for line in row(cells)]
    head = f"""# Thirty rows, before and after

Made by `python tests/bench/rows.py`, {circumstances("torch")}.

The first rows are in two columns (given name \\| surname), the others in one. Before: the model of
18 languages that was the default until there were broad ones; it knows surnames in Latin letters,
so it leaves out given names in a column of their own. Names are invented or common combinations. A
label is the language of the lists it was learned from; an answer says nothing about a person.

| | row | before: `{before}` | after: `{after}` |
|---|---|---|---|
"""
    return head + "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default="pretrained-tutorial")
    parser.add_argument("--after", default="pretrained")
    parser.add_argument("--output", type=Path, default=Path("docs/rows.md"))
    arguments = parser.parse_args()
    text = page(arguments.before, arguments.after)
    arguments.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
