"""Whether a corpus is enough to train on: labels, and letters that the vocabulary knows."""

from collections import Counter
from functools import cache

import polars as pl

from charrnn.errors import DataError
from charrnn.model.labels import MIN_LABELS
from charrnn.model.normalise import normalise_array
from charrnn.model.vocabulary import Vocabulary
from charrnn.training.corpus import Corpus
from charrnn.training.mapped import blocks_of
from charrnn.training.name_keys import script_of
from charrnn.training.splits import honest_split

MIN_COVERAGE = 0.7  # of the letters of all names, and of each label's
_MOST_LISTED = 5  # labels and scripts in a message


def check_trainable(corpus: Corpus, vocabulary: Vocabulary) -> None:
    """Raise DataError unless two labels or more have usable names, in scripts that ``vocabulary``
    knows: a network would tell other scripts apart by their length alone, and scoring would refuse
    the names. Of a name in several scripts the one in Latin letters counts."""
    usable = _letters_by_label(corpus, vocabulary)
    if len(usable) < MIN_LABELS:
        raise DataError(
            f"the training table has usable names of {len(usable)} label, a model needs "
            f"{MIN_LABELS}; ingest more"
        )
    known, letters, scripts = Counter[str](), Counter[str](), Counter[str]()
    unknown_id, read = vocabulary.unknown_id, cache(vocabulary.encode_one)
    for label, counts in usable.items():
        letters[label] = counts.total()
        unknown = {c for c in counts if unknown_id in read(c)}
        known[label] = sum(n for c, n in counts.items() if c not in unknown)
        for letter in unknown:
            scripts[script_of(letter)] += counts[letter]
    low = [label for label in usable if known[label] < MIN_COVERAGE * letters[label]]
    if low or known.total() < MIN_COVERAGE * letters.total():
        shares = [f"{x} {known[x] / letters[x]:.0%}" for x in low[:_MOST_LISTED]]
        found = ", ".join(script for script, _ in scripts.most_common(_MOST_LISTED))
        raise DataError(
            f"the model's vocabulary knows {known.total() / letters.total():.0%} of the letters of "
            f"the training names ({', '.join(shares)}{', …' if low[_MOST_LISTED:] else ''}); "
            f"training needs {MIN_COVERAGE:.0%} of all and of every label; unknown: {found}"
        )


def _letters_by_label(corpus: Corpus, vocabulary: Vocabulary) -> dict[str, Counter[str]]:
    """Return label → how often its usable names, normalised, have each letter; only labels that
    have such names."""
    counts: dict[str, Counter[str]] = {}
    split = honest_split(corpus)
    for part in (split.train, split.validation, split.test):
        for rows in blocks_of(len(part.names)):
            names = pl.Series(normalise_array(part.names[rows], vocabulary.normalisation))
            columns = {"label_id": part.label_ids[rows], "letter": names.str.extract_all(r"\pL")}
            counted = pl.DataFrame(columns).explode("letter").group_by("label_id", "letter").len()
            for label_id, letter, count in counted.rows():
                of_label = counts.setdefault(corpus.labels[label_id], Counter())
                of_label.update({letter: count} if letter else {})
    return {label: counts[label] for label in corpus.labels if label in counts}
