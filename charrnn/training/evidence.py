"""Whether a corpus is enough to train on: labels, and letters that the vocabulary knows."""

from collections import Counter

from charrnn.errors import DataError
from charrnn.model.labels import MIN_LABELS
from charrnn.model.normalise import normalise
from charrnn.model.vocabulary import Vocabulary
from charrnn.training.corpus import Corpus
from charrnn.training.corpus_report import script_of
from charrnn.training.splits import honest_split

MIN_COVERAGE = 0.7  # of the letters of all names, and of each label's
_MOST_LISTED = 5  # labels and scripts in a message


def check_trainable(corpus: Corpus, vocabulary: Vocabulary) -> None:
    """Raise DataError unless two labels or more have usable names, in scripts that ``vocabulary``
    knows: a network would tell other scripts apart by their length alone, and scoring would refuse
    the names. Of a name in several scripts the one in Latin letters counts."""
    names: dict[str, list[str]] = {label: [] for label in corpus.labels}
    split = honest_split(corpus)
    for part in (split.train, split.validation, split.test):
        for name, label_id in zip(part.names.to_pylist(), part.label_ids.tolist(), strict=True):
            names[corpus.labels[label_id]].append(name)
    usable = [label for label, of_label in names.items() if of_label]
    if len(usable) < MIN_LABELS:
        raise DataError(
            f"the training table has usable names of {len(usable)} label, a model needs "
            f"{MIN_LABELS}; ingest more"
        )
    known, letters, scripts = Counter[str](), Counter[str](), Counter[str]()
    for label in usable:
        counts = Counter(
            c
            for name in names[label]
            for c in normalise(name, vocabulary.normalisation)
            if c.isalpha()
        )
        letters[label] = counts.total()
        unknown = {c for c in counts if vocabulary.unknown_id in vocabulary.encode_one(c)}
        known[label] = sum(n for c, n in counts.items() if c not in unknown)
        scripts.update({script_of(c): counts[c] for c in unknown})
    low = [label for label in usable if known[label] < MIN_COVERAGE * letters[label]]
    if low or known.total() < MIN_COVERAGE * letters.total():
        shares = [f"{x} {known[x] / letters[x]:.0%}" for x in low[:_MOST_LISTED]]
        found = ", ".join(script for script, _ in scripts.most_common(_MOST_LISTED))
        raise DataError(
            f"the model's vocabulary knows {known.total() / letters.total():.0%} of the letters of "
            f"the training names ({', '.join(shares)}{', …' if low[_MOST_LISTED:] else ''}); "
            f"training needs {MIN_COVERAGE:.0%} of all and of every label; unknown: {found}"
        )
