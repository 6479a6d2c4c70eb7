"""Baselines for comparison: the majority label, and n-grams with logistic regression."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from charrnn.model.calibration import Floats, LabelIds
from charrnn.model.facts import Metrics
from charrnn.model.normalise import normalise_array
from charrnn.training.corpus import Corpus
from charrnn.training.metrics import evaluate
from charrnn.training.protocol import Protocol, split_of
from charrnn.training.splits import Split

MOST_PAIRS = 10_000_000  # of training name and label, that logistic regression takes minutes for


@dataclass(frozen=True)
class Baseline:
    """Metrics of a baseline on a test part, and its probabilities ``(N, L)`` there."""

    metrics: Metrics
    probabilities: Floats


def baselines(
    corpus: Corpus, protocol: Protocol, seed: int, split: Split | None = None
) -> dict[str, Baseline]:
    """Return name → baseline, measured on the protocol's split, or on ``split`` instead. With more
    than ``MOST_PAIRS`` pairs of training name and label it is the majority label alone."""
    split = split or split_of(corpus, protocol, seed)
    count = len(corpus.labels)
    truth = split.test.label_ids
    measured = {"majority label": majority_probabilities(split.train.label_ids, count, len(truth))}
    if len(split.train.names) * count <= MOST_PAIRS:
        train_names, test_names = (
            normalise_array(part.names).to_pylist() for part in (split.train, split.test)
        )
        measured["char 1-5-grams + logistic regression"] = ngram_probabilities(
            train_names, split.train.label_ids, test_names, count
        )
    return {
        name: Baseline(evaluate(probabilities, truth, corpus.labels), probabilities)
        for name, probabilities in measured.items()
    }


def majority_probabilities(train_labels: LabelIds, count: int, rows: int) -> Floats:
    """Return the label shares of the training set for every name, ``(rows, count)``."""
    shares = np.bincount(train_labels, minlength=count) / len(train_labels)
    return np.tile(shares, (rows, 1))


def ngram_probabilities(
    train_names: Sequence[str], train_labels: LabelIds, names: Sequence[str], count: int
) -> Floats:
    """Return probabilities ``(len(names), count)`` of logistic regression (C = 10) on TF-IDF of
    character 1- to 5-grams, a strong and cheap baseline on this data.

    Needs scikit-learn (extra ``train``); labels absent from training have probability 0.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), lowercase=True, sublinear_tf=True),
        LogisticRegression(C=10, max_iter=300),
    )
    model.fit(list(train_names), train_labels)
    probabilities = np.zeros((len(names), count))
    probabilities[:, model.classes_] = model.predict_proba(list(names))
    return probabilities
