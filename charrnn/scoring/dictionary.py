"""What every column that scoring adds means: the one source of the metadata of Parquet columns, of
a run's ``datapackage.json`` and of the tables in docs/output.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from charrnn.errors import ConfigError
from charrnn.model.labels import plural
from charrnn.scoring.options import NAME_PARTS, REASONS, STATUSES, ScoreOptions

_TEXT, _SHARE = "text", "float32, 0 to 1"


@dataclass(frozen=True)
class AddedColumn:
    """A column that scoring adds, or one of several alike.

    Attributes:
        shown: how the documentation writes its name, in Markdown.
        kind: its type.
        when: the option that adds it.
        meaning: in Markdown.
        values: all that it holds besides null; () where they are not listed.
    """

    shown: str
    kind: str
    when: str
    meaning: str
    values: tuple[str, ...] = ()

    @property
    def is_share(self) -> bool:
        """Whether its values are from 0 to 1."""
        return self.kind == _SHARE


LABEL = AddedColumn(
    "`language`", _TEXT, "always", "the most probable label; null unless `status` is `scored`"
)
CONFIDENCE = AddedColumn(
    "`confidence`", _SHARE, "always",
    "the calibrated probability of the most probable label; null if `unscored`",
)  # fmt: skip
NEXT_LABEL = AddedColumn(
    "`language_2`, …", _TEXT, "`--top-k` (default 3)",
    "the next labels, by rank; null unless `status` is `scored`",
)  # fmt: skip
NEXT_CONFIDENCE = AddedColumn(
    "`confidence_2`, …", _SHARE, "`--top-k`",
    "the calibrated probabilities of the next labels, by rank; null if `unscored`",
)  # fmt: skip
FAMILY = AddedColumn(
    "`family`", _TEXT, "`--families`",
    "the language family with the largest sum of its labels' probabilities; null where that sum is "
    "below `--min-confidence`",
)  # fmt: skip
FAMILY_CONFIDENCE = AddedColumn(
    "`family_confidence`", _SHARE, "`--families`",
    "the sum of the probabilities of the family's labels; null if `unscored`",
)  # fmt: skip
UNCORRECTED_LABEL = AddedColumn(
    "`language_uncorrected`", _TEXT, "`--prior` other than `train`",
    "the most probable label before the correction by the prior",
)  # fmt: skip
UNCORRECTED_CONFIDENCE = AddedColumn(
    "`confidence_uncorrected`", _SHARE, "`--prior` other than `train`",
    "its calibrated probability before the correction by the prior",
)  # fmt: skip
LABEL_SET = AddedColumn(
    "`languages_set`", _TEXT, "`--coverage-target 0.9`",
    "split-conformal set of labels, with bars between them; holds the true label for this share of "
    "names",
)  # fmt: skip
SET_SIZE = AddedColumn("`set_size`", "int16", "`--coverage-target`", "labels in the set")
AMBIGUOUS = AddedColumn(
    "`ambiguous`", "bool", "`--details`", "the training data has the name under several labels"
)
UNFAMILIARITY = AddedColumn(
    "`unfamiliarity`", _SHARE, "`--details`",
    "share of names of other lists that are more like the names of the labels; near 1 it is "
    "probably no name, or of a language the model does not know",
)  # fmt: skip
PARTS = AddedColumn(
    "`name_parts`", _TEXT, "`--details`, `--given-column` or `--surname-column`",
    "what of the name was scored: `given+surname`, `surname` or `given`; null if `unscored`",
    NAME_PARTS,
)  # fmt: skip
STATUS = AddedColumn("`status`", _TEXT, "always", "`scored`, `abstained` or `unscored`", STATUSES)
REASON = AddedColumn(
    "`reason`", _TEXT, "always", "why the row is not `scored`; null if it is",
    tuple(reason for reason in REASONS if reason),
)  # fmt: skip
PROBABILITY = AddedColumn(
    "`probability_LABEL`", _SHARE, "`--probabilities`",
    "the calibrated probability of this label; null if `unscored`",
)  # fmt: skip
STAMPS = {
    "fingerprint": AddedColumn(
        "`fingerprint`", _TEXT, "`--stamp`",
        "digest of inputs, model and options: which run made the row; its first digits end the "
        "run's name",
    ),
    "model": AddedColumn(
        "`model`", _TEXT, "`--stamp`", "version and first digits of the digest of the model"
    ),
    "row": AddedColumn(
        "`row`", "int64", "`--stamp`",
        "number of the row in the input, from 0, rejected lines left out",
    ),
}  # fmt: skip
COLUMNS = (
    LABEL, CONFIDENCE, NEXT_LABEL, NEXT_CONFIDENCE, FAMILY, FAMILY_CONFIDENCE, UNCORRECTED_LABEL,
    UNCORRECTED_CONFIDENCE, LABEL_SET, SET_SIZE, AMBIGUOUS, UNFAMILIARITY, PARTS, STATUS, REASON,
    PROBABILITY, *STAMPS.values(),
)  # fmt: skip


def added_columns(
    options: ScoreOptions, labels: Sequence[str], *, stamp: bool = False
) -> dict[str, AddedColumn]:
    """Return the columns that scoring adds, in order: name → what it holds.

    Args:
        stamp: those of ``STAMPS`` as well.

    Raises:
        ConfigError: the label's column has the name of another one.
    """
    label = options.label_name
    columns = [(label, LABEL), ("confidence", CONFIDENCE)]
    for rank in range(2, min(options.top_k, len(labels)) + 1):
        columns += [(f"{label}_{rank}", NEXT_LABEL), (f"confidence_{rank}", NEXT_CONFIDENCE)]
    if options.families:
        columns += [("family", FAMILY), ("family_confidence", FAMILY_CONFIDENCE)]
    if options.prior != "train":
        columns.append((f"{label}_uncorrected", UNCORRECTED_LABEL))
        columns.append(("confidence_uncorrected", UNCORRECTED_CONFIDENCE))
    if options.coverage_target:
        columns += [(f"{plural(label)}_set", LABEL_SET), ("set_size", SET_SIZE)]
    if options.details:
        columns += [("ambiguous", AMBIGUOUS), ("unfamiliarity", UNFAMILIARITY)]
    if options.names_parts:
        columns.append(("name_parts", PARTS))
    columns += [("status", STATUS), ("reason", REASON)]
    if options.probabilities:
        columns += [(f"probability_{value}", PROBABILITY) for value in labels]
    if stamp:
        columns += STAMPS.items()
    if len(dict(columns)) < len(columns):
        raise ConfigError(
            f"the label's column would be called {label!r}, as another column that scoring "
            "adds; give it another name",
            option="label_as",
        )
    return {options.prefix + name: column for name, column in columns}


def check_label_column(column: str) -> None:
    """Raise ConfigError unless a label's column of this name can stand among the others."""
    try:
        options = ScoreOptions(
            label_as=column, prior="uniform", coverage_target=0.5, families=True, details=True
        )
        added_columns(options, ("", ""), stamp=True)
    except ConfigError:
        raise ConfigError(
            f"label_column is {column!r}, which is also the name of a column that scoring adds, or "
            "no visible text; rename it",
            option="label_column",
        ) from None
