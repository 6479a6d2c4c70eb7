"""How numbers, intervals and times are written in reports and on the axes of figures."""

import re
from collections.abc import Callable
from typing import Any

from charrnn.errors import printable

_NUMBER = re.compile(r"(?:PSI |[+\-−±])?\d[\d.,]*(?: %)?(?: to \d[\d.,]*(?: %)?)?(?: points)?|–")


def signed(value: float, decimals: int) -> str:
    """Return a number with its sign, a true minus; what rounds to 0 is positive."""
    return f"{round(value, decimals) + 0.0:+.{decimals}f}".replace("-", "−")


def interval(low: float, high: float, form: Callable[[float], str] = "{:.3f}".format) -> str:
    """Return ``LOW to HIGH``."""
    return f"{form(low)} to {form(high)}"


def utc_minute(created: str) -> str:
    """Return a manifest's time, ``20261124T020000Z``, as ``2026-11-24 02:00``."""
    return f"{created[:4]}-{created[4:6]}-{created[6:8]} {created[9:11]}:{created[11:13]}"


def setting(value: Any) -> str:
    """Return the value of an option: yes or no, a dash for None or an empty text, else as Python
    has it."""
    return shown(value) if isinstance(value, bool | None) else str(value) or "–"


def shown(value: Any) -> str:
    """Return a value as reports show it: floats with three decimals, integers with separators of
    thousands, yes or no, a dash for None, and text without control characters."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.3f}"
    return printable(str(value))


def is_number(value: Any) -> bool:
    """Return whether a value is a number, or text of one: with a sign, a unit (per cent, points,
    PSI), an interval, or the dash for None."""
    return _NUMBER.fullmatch(shown(value)) is not None
