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
    from pathlib import Path

    from charrnn.model.version import ModelVersion
    from charrnn.scoring.scorer import Scorer

__all__ = ["Scorer", "__version__", "train"]

__version__ = "0.1.0"


def train(
    table: Any,
    *,
    label_column: str,
    name_column: str = "name",
    given_column: str = "",
    surname_column: str = "",
    weight_column: str = "",
    split_column: str = "",
    models: Path | str | None = None,
    **options: Any,
) -> ModelVersion:
    """Train on a labelled table, as ``charrnn ingest`` and ``charrnn train`` do, and return the
    model::

        version = charrnn.train(people, name_column="surname", label_column="country")
        Scorer(version).score(["Nguyễn"])  # columns name, country, confidence, …

    Nothing is promoted; the table is copied to a private temporary folder while this runs.

    Args:
        table: a DataFrame of pandas or Polars, a LazyFrame, an Arrow table, or what exports Arrow.
        label_column: what is learned: text or whole numbers, 2 labels or more. The column that
            scoring adds gets its name.
        name_column: text; rows without a name or a label are left out.
        given_column, surname_column: text, columns of given names and of surnames instead; the
            model then knows both.
        weight_column: how often each row counts; "": once.
        split_column: train, validation or test of each row; "": by a hash of the name.
        models: a folder of versions, in which the new one is published as the candidate; by default
            it is kept in memory only.
        options: other fields of ``TrainRequest``, such as ``preset="tiny"``, ``epochs=3``,
            ``seed=1`` and ``device="cuda"``. The seed protocol is left out (``seeds=0``).

    Raises:
        DataError: the table is at fault. ConfigError: an option is.
    """
    from charrnn.cli import console_runner
    from charrnn.recipes.frames import train_on_frame

    columns = {
        "name_column": name_column,
        "given_column": given_column,
        "surname_column": surname_column,
        "label_column": label_column,
        "weight_column": weight_column,
        "split_column": split_column,
    }
    return train_on_frame(table, columns, models, console_runner(), **options)


def __getattr__(name: str) -> Any:
    if name == "Scorer":
        from charrnn.scoring.scorer import Scorer

        return Scorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
