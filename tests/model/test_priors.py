"""Known label shares are exact; estimated ones help where shares differ and harm nowhere else."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from real_data import real_names
from recording import Proof

from charrnn.errors import CharrnnError, ConfigError, InputMissingError
from charrnn.model import priors
from charrnn.model.calibration import fit_temperature, softmax
from charrnn.model.engine import logits_of
from charrnn.model.priors import PriorEstimate, corrected, correction, estimate_prior, parse_prior
from charrnn.model.version import resolve
from charrnn.training.corpus import build_table, load_corpus, write_table
from charrnn.training.label_files import find_label_files
from charrnn.training.splits import honest_split

LABELS = ("Arabic", "English", "Greek", "Russian")

# 18 label shares as skewed as those of the real names; the first label has half.
SHARES = np.array([52, 20, 5.6, 3.9, 3.9, 2.8, 1.7, 1.6, 1.6, 1.4, 1.3, 1, 0.8, 0.6, 0.5, 0.5, 0.4,
                   0.4])  # fmt: skip
SHARES /= SHARES.sum()
FIRST_RARE = np.where(np.arange(18) == 0, 0.05, 0.95 * SHARES / SHARES[1:].sum())


class Problem:
    """Gaussian labels in eight dimensions and a model that knows their means only roughly, so that
    it is over-confident and wrong in its own way about each label."""

    def __init__(self, seed: int, sharpness: float = 1.15) -> None:
        self.rng = np.random.default_rng(seed)
        self.means = self.rng.normal(size=(18, 8)) * 1.15
        self.learned = self.means + self.rng.normal(size=self.means.shape) * 0.25
        self.sharpness = sharpness
        self.held_out_labels = self.labels(SHARES, 1770)
        self.held_out = self.probabilities(self.names(self.held_out_labels))

    def labels(self, shares: np.ndarray, rows: int) -> np.ndarray:
        return self.rng.choice(18, rows, p=shares)

    def names(self, labels: np.ndarray) -> np.ndarray:
        return self.means[labels] + self.rng.normal(size=(len(labels), 8))

    def probabilities(self, names: np.ndarray) -> np.ndarray:
        distance = ((names[:, None] - self.learned) ** 2).sum(axis=2)
        return softmax((np.log(SHARES) - distance / 2) * self.sharpness)

    def table(self, shares: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities and true labels of a new table."""
        labels = self.labels(shares, rows)
        return self.probabilities(self.names(labels)), labels

    def estimate(self, probabilities: np.ndarray, seed: int = 0) -> PriorEstimate:
        return estimate_prior(probabilities, self.held_out, self.held_out_labels, SHARES, seed=seed)


def gain(probabilities: np.ndarray, labels: np.ndarray, shares: object, base: object) -> float:
    """Return the points of accuracy that correcting to ``shares`` brings."""
    after = corrected(probabilities, correction(shares, base)).argmax(axis=1) == labels
    before = probabilities.argmax(axis=1) == labels
    return 100 * float(after.mean() - before.mean())


@pytest.fixture
def few_bootstraps(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the shares, not of the intervals."""
    monkeypatch.setattr(priors, "BOOTSTRAPS", 2)


@pytest.fixture
def prior_file(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "shares.csv"
        path.write_bytes(text.encode())
        return str(path)

    return write


# Correction


def test_correction_is_bayes_on_a_table_of_counts() -> None:
    likelihood = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])  # p(x|y), two labels, three names
    old, new = np.array([0.7, 0.3]), np.array([0.2, 0.8])

    def posterior(shares: np.ndarray) -> np.ndarray:
        joint = (likelihood * shares[:, None]).T
        return joint / joint.sum(axis=1, keepdims=True)

    found = corrected(posterior(old), correction(new, old))
    np.testing.assert_allclose(found, posterior(new), rtol=0, atol=1e-15)


def test_correction_is_bayes_for_gaussians_and_comes_back() -> None:
    rng = np.random.default_rng(0)
    distance = (rng.normal(size=(500, 1)) * 3 - np.array([-2.0, 0.0, 3.0])) ** 2
    old, new = np.array([0.6, 0.3, 0.1]), np.array([0.01, 0.09, 0.9])
    before, after = (softmax(np.log(p) - distance / 2) for p in (old, new))
    np.testing.assert_allclose(corrected(before, correction(new, old)), after, atol=1e-12)
    np.testing.assert_allclose(corrected(after, correction(old, new)), before, atol=1e-12)


def test_the_training_shares_correct_nothing() -> None:
    np.testing.assert_array_equal(correction(SHARES, SHARES), np.ones(18))
    probabilities = np.random.default_rng(1).dirichlet(np.ones(18), 50)
    np.testing.assert_allclose(corrected(probabilities, np.ones(18)), probabilities, atol=1e-15)


def test_weights_are_scaled_and_an_unlearned_label_gets_none() -> None:
    np.testing.assert_allclose(correction([0.5, 0.3, 0.2], [0.1, 0.9, 0]), [1, 1 / 15, 0])


def test_a_row_without_probability_under_the_weights_stays_as_it_was() -> None:
    found = corrected(np.array([[1.0, 0.0], [0.5, 0.5]], np.float32), [0.0, 1.0])
    np.testing.assert_array_equal(found, [[1, 0], [0, 1]])
    assert found.dtype == np.float64
    assert corrected(np.zeros((0, 2)), [1, 1]).shape == (0, 2)


@pytest.mark.parametrize(
    ("shares", "base", "message"),
    [
        ([0.5, 0.5], [1.0], "must have 1 shares, one per label, got 2"),
        ([-1, 2], [0.5, 0.5], "finite and ≥ 0, got -1"),
        ([np.nan, 1], [0.5, 0.5], "finite and ≥ 0, got nan"),
        ([0, 1], [1, 0], "at least one label with training names"),
    ],
)
def test_impossible_shares_are_refused(shares: list, base: list, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        correction(shares, base)


# parse_prior


@pytest.mark.parametrize("mode", ["train", "uniform", "estimate"])
def test_modes_are_themselves(mode: str) -> None:
    assert parse_prior(mode, LABELS) == mode


@pytest.mark.parametrize(
    "text",
    [
        "language,share\nGreek,3\nEnglish,1\n",
        "\ufefflanguage,share\r\nGreek,0.75\r\nEnglish,0.25\r\nRussian,0\r\n",
        "share,note,language\n30,x,Greek\n10,,English",
        "language, share\n Greek , 3e300\nEnglish, 1e300\n",
    ],
)
def test_a_file_gives_shares_in_label_order(text: str, prior_file: Callable[[str], str]) -> None:
    assert parse_prior(prior_file(text), LABELS) == pytest.approx((0, 0.25, 0.75, 0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the column language and share"),
        ("Greek,1\n", "lacks the column language and share"),
        ("language,weight\nGreek,1\n", "lacks the column share"),
        ("language,share\n", "no share above 0"),
        ("language,share\nGreek,0\n", "no share above 0"),
        ("language,share\nGrek,1\n", "line 2 has no label of the model; it has .*Greek"),
        ("language,share\nGreek,1\nGreek,1\n", "line 3 has a label that an earlier line has"),
        ("language,share\nGreek,-1\n", "line 2 has a share that is not a number ≥ 0"),
        ("language,share\nGreek,inf\n", "not a number ≥ 0"),
        ("language,share\nGreek,nan\n", "not a number ≥ 0"),
        ("language,share\nGreek,5%\n", "not a number ≥ 0"),
        ("language,share\nGreek\n", "line 2 has a share that is not a number ≥ 0"),
        ('language,share\n"Greek,1\n', "is not a UTF-8 CSV file"),
        (
            "language,share\nKlingon,1\nGreek,x\n",
            "line 2 has no label.*; line 3 has a share",
        ),
    ],
)
def test_a_bad_file_is_refused_whole(
    text: str, message: str, prior_file: Callable[[str], str]
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_prior(prior_file(text), LABELS)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"language,share\nFran\xe7ais,1\n")
    with pytest.raises(ConfigError, match="not a UTF-8 CSV file"):
        parse_prior(str(tmp_path / "latin.csv"), LABELS)


def test_a_prior_file_that_is_none_is_refused_at_once_and_not_quoted(
    tmp_path: Path, proof: Proof
) -> None:
    os.mkfifo(tmp_path / "fifo.csv")
    with pytest.raises(InputMissingError, match="readable CSV file"):
        parse_prior(str(tmp_path / "fifo.csv"), LABELS)
    rows = "".join(f"Canarius{i},Canaria{i}\n" for i in range(100))
    for text in (
        f"language,share\n{rows}",
        f"Canarius,Canaria\n{rows}",
        f'"Canarius\n{rows}',
        "language,share\n" + "Canarius," * 10**5,
        "language,share\n" + "C" * 2**21,
    ):
        (tmp_path / "prior.csv").write_text(text)
        with pytest.raises(ConfigError) as caught:
            parse_prior(str(tmp_path / "prior.csv"), LABELS)
        assert "Canari" not in str(caught.value)
        assert len(str(caught.value)) < 500
        assert caught.value.option == "prior"
    proof("P14", "files of label shares that hold names: refused, not quoted", 6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("estimat", "did you mean 'estimate'"),
        ("no/such.csv", "must be train, uniform, estimate or a readable CSV file"),
        ("x" * 5000, "readable CSV file"),
    ],
)
def test_what_is_neither_a_mode_nor_a_file_is_missing(text: str, message: str) -> None:
    with pytest.raises(InputMissingError, match=message):
        parse_prior(text, LABELS)


def test_a_folder_is_not_a_prior(tmp_path: Path) -> None:
    with pytest.raises(CharrnnError, match="readable CSV file"):
        parse_prior(str(tmp_path), LABELS)


# estimate_prior


@pytest.mark.usefixtures("few_bootstraps")
@pytest.mark.parametrize("rows", [300, 2000])
def test_a_table_like_the_training_names_is_not_harmed(rows: int) -> None:
    changes = []
    for seed in range(8):
        problem = Problem(seed)
        probabilities, labels = problem.table(SHARES, rows)
        estimate = problem.estimate(probabilities)
        changes.append(gain(probabilities, labels, estimate.shares, SHARES))
    assert min(changes) >= -0.5
    assert np.mean(changes) >= -0.1


@pytest.mark.usefixtures("few_bootstraps")
@pytest.mark.parametrize("rows", [300, 2000])
def test_a_table_with_few_of_the_largest_label_gains(rows: int) -> None:
    gains, possible = [], []
    for seed in range(6):
        problem = Problem(seed)
        probabilities, labels = problem.table(FIRST_RARE, rows)
        estimate = problem.estimate(probabilities)
        assert estimate.refused == ""
        assert estimate.shares[0] < 0.15
        gains.append(gain(probabilities, labels, estimate.shares, SHARES))
        possible.append(gain(probabilities, labels, FIRST_RARE, SHARES))
    assert np.mean(gains) >= max(1.0, 0.5 * float(np.mean(possible)))
    assert min(gains) >= -0.5


@pytest.mark.usefixtures("few_bootstraps")
def test_a_table_of_one_label_is_found_out() -> None:
    problem = Problem(3)
    probabilities, labels = problem.table(np.eye(18)[4], 500)
    estimate = problem.estimate(probabilities)
    assert estimate.shares[4] > 0.9
    assert gain(probabilities, labels, estimate.shares, SHARES) > 5


@pytest.mark.usefixtures("few_bootstraps")
def test_a_model_that_favours_a_label_everywhere_does_not_see_a_shift() -> None:
    problem = Problem(5)
    tilt = np.where(np.arange(18) >= 14, 3.0, 1.0)  # four rare labels, three times too likely
    problem.held_out = corrected(problem.held_out, tilt)
    for _ in range(3):
        probabilities, _ = problem.table(SHARES, 2000)
        assert problem.estimate(corrected(probabilities, tilt)).shares == tuple(SHARES)


def test_intervals_cover_the_true_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priors, "BOOTSTRAPS", 50)
    covered = []
    for seed in range(4):
        problem = Problem(seed)
        for shares in (SHARES, FIRST_RARE):
            probabilities, labels = problem.table(shares, 1000)
            estimate = problem.estimate(probabilities)
            true = np.bincount(labels, minlength=18) / 1000
            low, high = np.array(estimate.low), np.array(estimate.high)
            assert ((low >= 0) & (low <= estimate.shares)).all()
            assert ((estimate.shares <= high) & (high <= 1)).all()
            assert (high - low).max() < 0.35
            covered.append((low <= true) & (true <= high))
    assert np.mean(covered) >= 0.85
    assert np.mean(covered, axis=0)[0] >= 0.75  # the label that moved


def test_the_same_seed_gives_the_same_estimate_in_any_row_order() -> None:
    problem = Problem(0)
    probabilities, _ = problem.table(FIRST_RARE, 400)
    first = problem.estimate(probabilities, seed=1)
    assert problem.estimate(probabilities.copy(), seed=1) == first
    other = problem.estimate(probabilities[::-1], seed=2)
    assert other.shares == pytest.approx(first.shares, abs=1e-6)
    assert other.low != first.low


@pytest.mark.usefixtures("few_bootstraps")
def test_long_tables_are_sampled() -> None:
    problem = Problem(0)
    probabilities, _ = problem.table(FIRST_RARE, priors.MAX_ROWS + 500)
    estimate = problem.estimate(probabilities)
    assert estimate.rows == priors.MAX_ROWS
    assert estimate.shares[0] == pytest.approx(0.05, abs=0.05)


def test_an_estimate_is_plain_json() -> None:
    problem = Problem(0)
    probabilities, _ = problem.table(FIRST_RARE, 200)
    estimate = problem.estimate(probabilities)
    document = json.loads(json.dumps(asdict(estimate)))
    assert list(document) == ["shares", "low", "high", "refused", "rows"]
    assert document["shares"] == list(estimate.shares)
    assert sum(estimate.shares) == pytest.approx(1, abs=1e-12)


def refused(problem: Problem, probabilities: np.ndarray) -> str:
    estimate = problem.estimate(probabilities)
    assert estimate.shares == tuple(SHARES)
    assert estimate.refused
    return estimate.refused


@pytest.mark.parametrize("rows", [0, 1, 99])
def test_too_few_names_are_refused(rows: int) -> None:
    problem = Problem(1)
    probabilities, _ = problem.table(FIRST_RARE, rows)
    assert refused(problem, probabilities) == (
        f"estimating label shares needs ≥ 100 names, got {rows}"
    )
    estimate = problem.estimate(probabilities)
    assert (estimate.low, estimate.high, estimate.rows) == ((0.0,) * 18, (1.0,) * 18, rows)


def test_few_names_repeated_often_are_refused() -> None:
    problem = Problem(1)
    probabilities, _ = problem.table(FIRST_RARE, 10)
    assert "≥ 30 distinct names, got 10" in refused(problem, np.repeat(probabilities, 100, axis=0))


def test_few_validation_names_are_refused() -> None:
    problem = Problem(1)
    problem.held_out, problem.held_out_labels = problem.held_out[:50], problem.held_out_labels[:50]
    assert "≥ 100 validation names, got 50" in refused(problem, problem.table(FIRST_RARE, 500)[0])


@pytest.mark.usefixtures("few_bootstraps")
def test_no_evidence_of_a_shift_is_a_refusal() -> None:
    problem = Problem(1)
    assert "no evidence that the label shares differ" in refused(
        problem, problem.table(SHARES, 1000)[0]
    )


@pytest.mark.usefixtures("few_bootstraps")
def test_names_unlike_the_training_names_are_refused() -> None:
    problem = Problem(1)
    probabilities = problem.probabilities(problem.rng.normal(size=(1000, 8)) * 0.3)
    assert "unlike the training names" in refused(problem, probabilities)


def test_a_correction_that_loses_on_validation_names_is_harmful() -> None:
    held_out = np.array([[0.9, 0.1], [0.45, 0.55]])
    even, skewed = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    # The second name was right and is turned over; it has a weight of 0.1 under these shares.
    found = priors._harmful(held_out, np.array([0, 1]), skewed, even)
    assert "the correction loses 10.0 points of accuracy" in found
    assert priors._harmful(held_out, np.array([0, 0]), skewed, even) == ""
    assert priors._harmful(held_out, np.array([0, 1]), even, even) == ""


# The real names


@pytest.mark.corpus
@pytest.mark.usefixtures("few_bootstraps")
def test_real_tables_gain_where_shares_differ_and_lose_nothing_elsewhere(tmp_path: Path) -> None:
    folder, version = real_names(), resolve("pretrained-tutorial")
    if folder is None:
        pytest.skip("needs the real names: set CHARRNN_NAMES to their folder")
    write_table(build_table(find_label_files(folder)[0]), tmp_path / "names.parquet")
    test = honest_split(load_corpus(tmp_path / "names.parquet")).test
    encoded = version.vocabulary.encode(test.names)
    probabilities = softmax(logits_of(version.network(), encoded), version.temperature)
    held_out = version.validation_probabilities()

    def change(rows: np.ndarray) -> float:
        estimate = estimate_prior(
            probabilities[rows], held_out, version.calibration.label_ids, version.priors
        )
        return gain(probabilities[rows], test.label_ids[rows], estimate.shares, version.priors)

    russian = test.label_ids == version.labels.index("Russian")
    few_russian = np.where(russian, 0.05 / russian.sum(), 0.95 / (~russian).sum())
    same, shifted = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        same.append(change(rng.choice(len(russian), 1500)))
        shifted.append(change(rng.choice(len(russian), 1500, p=few_russian)))
    assert np.mean(same) >= -0.5
    assert min(same) >= -1
    assert np.mean(shifted) >= 0.75
    assert min(shifted) >= -0.5


def test_the_synthetic_model_is_as_imperfect_as_it_should_be() -> None:
    problem = Problem(0)
    accuracy = (problem.held_out.argmax(axis=1) == problem.held_out_labels).mean()
    assert 0.7 < accuracy < 0.95
    assert fit_temperature(np.log(problem.held_out), problem.held_out_labels) > 1.05
