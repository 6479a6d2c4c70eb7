"""What a label may be, and why a list of labels is refused.

A label becomes a cell, a part of a set (``Greek|Italian``), a column name, and a row of a report.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Annotated

from msgspec import Meta

MIN_LABELS, MAX_LABELS = 2, 10_000  # of a model; more are a mistake in the data rather than labels
MAX_LABEL_LENGTH = 100  # characters
LANGUAGE = "language"  # what labels are where nothing else was said, and always in old versions
# What the labels of a model are, such as country: the name of their column.
LabelName = Annotated[
    str,
    Meta(
        min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*\Z"
    ),
]
_MOST_LISTED = 20  # labels in a message
SEPARATOR = "|"  # between the labels of a set
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories of characters without a glyph


def label_problem(label: str) -> str:
    """Return why a text cannot be a label, "" if it can.

    >>> label_problem("a|b")
    "has the character '|', which separates the labels of a set"
    """
    if not label.strip():
        return "is empty"
    if len(label) > MAX_LABEL_LENGTH:
        return f"has {len(label)} characters, at most {MAX_LABEL_LENGTH} are allowed"
    if SEPARATOR in label:
        return f"has the character {SEPARATOR!r}, which separates the labels of a set"
    if label != label.strip():
        return "begins or ends with white space"
    if any(unicodedata.category(c) in _INVISIBLE for c in label):
        return "has a character that is not visible, such as a line break"
    return ""


def shared_label_name(label_names: Iterable[str]) -> str:
    """Return what the labels of several models or runs are, "label" where these differ.

    >>> shared_label_name(["country", "country"]), shared_label_name(["country", "language"])
    ('country', 'label')
    """
    names = set(label_names)
    return names.pop() if len(names) == 1 else "label"


def plural(label_name: str) -> str:
    """Return what several labels are called.

    >>> plural("language"), plural("COUNTRY"), plural("class"), plural("国")
    ('languages', 'COUNTRIES', 'classes', '国')
    """
    lower = label_name.lower()
    if not "a" <= lower[-1:] <= "z" or (lower.endswith("s") and not lower.endswith("ss")):
        return label_name
    stem, end = label_name, "s"
    if lower.endswith("y") and lower[-2:-1] not in "aeiou":
        stem, end = label_name[:-1], "ies"
    elif lower.endswith(("ss", "x", "z", "ch", "sh")):
        end = "es"
    return stem + (end.upper() if label_name.isupper() else end)


def first_labels(labels: Sequence[str]) -> str:
    """Return the first labels of a model, for a message."""
    return ", ".join(labels[:_MOST_LISTED]) + (", …" if labels[_MOST_LISTED:] else "")


def label_key(label: str) -> str:
    """Return what two labels have in common that differ only by case or Unicode form."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())


def check_labels(labels: Sequence[str]) -> None:
    """Raise ValueError unless ``labels`` can be the labels of a model; no label is quoted."""
    if not MIN_LABELS <= len(labels) <= MAX_LABELS:
        raise ValueError(f"labels must be {MIN_LABELS} to {MAX_LABELS}, got {len(labels)}")
    seen: dict[str, int] = {}
    for number, label in enumerate(labels, start=1):
        if problem := label_problem(label):
            raise ValueError(f"labels: label {number} {problem}")
        first = seen.setdefault(label_key(label), number)
        if first != number:
            raise ValueError(
                f"labels: label {number} repeats label {first} (but for case and Unicode form)"
            )
