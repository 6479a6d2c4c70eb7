"""Batch name classification: names in, a language of origin and a calibrated confidence out.

``from charrnn import Scorer`` is the library's front door; torch, Polars and Arrow are imported
when ``Scorer`` is first used, so that ``import charrnn`` takes no time.

>>> from charrnn import Scorer
>>> scorer = Scorer.load("pretrained")
>>> scorer.score(["Nguyễn", None]).select("name", "language", "status").rows()
[('Nguyễn', 'Vietnamese', 'scored'), (None, None, 'unscored')]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charrnn.api import train
    from charrnn.scoring.scorer import Scorer

__all__ = ["Scorer", "__version__", "train"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Scorer":
        from charrnn.scoring.scorer import Scorer

        return Scorer
    if name == "train":
        from charrnn.api import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
