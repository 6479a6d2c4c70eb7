"""Cells that upset CSV readers, and damage done to files of them."""

import random

NASTY = ['"', '""', "'", "''", ",", ";", "\t", "|", ":", " ", "é", "ß", "Катя", "王", "\u2028",
         "\u00a0", "a", "bc", "007", "NA", "null", "true", "\\", "#", "=1", "-", "\ufeff",
         "😀"]  # fmt: skip
LINE_ENDS = ["\n", "\r\n"]

# What is proven with them.
DAMAGED = "damaged CSV files: rows and cells as Python's csv reads them, or refused"
BUDGETS = "budgets of rejects over all files: within it read, above it refused"
CSV_EXACT = "CSV files of nasty cells: every cell back exactly"

_DAMAGE = [b'"', b'"', b"'", b",", b";", b"\n", b"\r", b"\r\n", b" ", b"\xe9", b"\0", b"x"]


def mutant(draw: random.Random, content: bytes, first: int) -> bytes:
    """``content`` with up to three places, from ``first`` on, changed, added to or cut."""
    found = bytearray(content)
    for _ in range(draw.randint(0, 3)):
        at = draw.randint(min(first, len(found)), len(found))
        new = draw.choice(_DAMAGE)
        kind = draw.choice(["insert", "insert", "replace", "delete", "copy", "cut"])
        if kind == "insert":
            found[at:at] = new
        elif kind == "replace":
            found[at : at + 1] = new
        elif kind == "delete":
            del found[at : at + draw.randint(1, 4)]
        elif kind == "copy":
            found[at:at] = found[at : at + draw.randint(1, 30)]
        elif draw.random() < 0.2:
            del found[at:]
    return bytes(found)
