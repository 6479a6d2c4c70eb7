"""Estimated shares of a group hold the truth where names are drawn with known shares."""

import numpy as np
import pytest

from charrnn.model import quantify
from charrnn.model.calibration import softmax
from charrnn.model.quantify import Group, Quantifier, Shares, mixture_shares, sampled

# A group of a frequent label and some rare ones, another of two, and one of labels that the
# model confuses: the shares of each label.
GROUPS = {
    "one frequent": [0.70, 0.12, 0.08, 0.06, 0.04, 0],
    "two": [0, 0, 0.55, 0, 0.45, 0],
    "even": [0.2, 0.15, 0.15, 0.2, 0.15, 0.15],
    "neighbours": [0, 0.5, 0, 0.1, 0.1, 0.3],
}


class World:
    """Gaussian labels in four dimensions, and a model that knows their means only roughly and is
    too sure; half of the names of a group are such that it knows them better, as learned ones."""

    def __init__(self, seed: int, apart: float = 1.5) -> None:
        self.rng = np.random.default_rng(seed)
        self.means = self.rng.normal(size=(6, 4)) * apart
        self.learned = self.means + self.rng.normal(size=(6, 4)) * 0.2
        ids = np.repeat(np.arange(6), 60)
        self.quantifier = Quantifier(self.probabilities(ids), ids, np.full(6, 1 / 6))

    def probabilities(self, ids: np.ndarray, known: float = 0.0) -> np.ndarray:
        names = self.means[ids] + self.rng.normal(size=(len(ids), 4))
        closer = self.rng.random(len(ids)) < known
        names[closer] = (names[closer] + self.means[ids[closer]]) / 2
        distance = ((names[:, None] - self.learned) ** 2).sum(axis=2)
        return softmax(-distance / 2 * 1.1)

    def draw(self, shares: list[float], names: int) -> tuple[Shares, np.ndarray]:
        """Return the estimate of a group whose names occur once to ten times, and its shares."""
        ids = self.rng.choice(6, names, p=shares)
        rows = self.rng.zipf(2.5, names).clip(max=10).astype(float)
        group = Group(self.probabilities(ids, 0.5), rows, np.zeros(names, bool))
        found = self.quantifier.shares(group, int(self.rng.integers(1 << 30)))
        return found, np.bincount(ids, rows, minlength=6) / rows.sum()


def covered(draws: int) -> tuple[float, float]:
    """Return how often intervals hold the shares of labels of 1 % or more, and how often they hold
    those of the largest label."""
    held, largest = [], []
    for number in range(draws):
        world = World(number)
        shares = GROUPS[list(GROUPS)[number % len(GROUPS)]]
        found, truth = world.draw(shares, 200)
        inside = (found.low <= truth) & (truth <= found.high)
        held += inside[np.array(shares) >= 0.01].tolist()
        largest.append(inside[np.argmax(shares)])
    return float(np.mean(held)), float(np.mean(largest))


def test_intervals_hold_the_truth_of_groups_drawn_with_known_shares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quantify, "DRAWS", 40)
    assert min(covered(5)) >= 0.9


@pytest.mark.slow
def test_intervals_hold_the_truth_in_nine_of_ten_of_two_hundred_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quantify, "DRAWS", 40)
    assert min(covered(200)) >= 0.9


def test_a_biased_count_is_outside_of_the_interval_and_the_truth_inside() -> None:
    """What an analyst counts is too even: the interval is not around it."""
    world = World(3, apart=0.8)
    found, truth = world.draw([0.9, 0.02, 0.02, 0.02, 0.02, 0.02], 800)
    assert found.expected[0] < found.low[0] <= truth[0] <= found.high[0]
    assert found.share.sum() == pytest.approx(1)
    assert (found.low <= found.share).all()
    assert (found.share <= found.high).all()
    assert found.refused == ""


def test_a_repeated_name_is_one_observation() -> None:
    world = World(1)
    few = np.arange(40) % 6
    p = world.probabilities(few)
    once = world.quantifier.shares(Group(p, np.ones(40), np.zeros(40, bool)))
    often = world.quantifier.shares(Group(p, np.full(40, 1000.0), np.zeros(40, bool)))
    np.testing.assert_allclose(often.low, once.low)
    np.testing.assert_allclose(often.high, once.high)


def test_labels_that_are_the_same_are_said_to_be_alike_and_too_few_names_refused() -> None:
    world = World(2)
    ids = np.repeat(np.arange(6), 60)
    p = world.probabilities(ids)
    p[:, :2] = p[:, :2].mean(axis=1, keepdims=True)
    same = Quantifier(p, ids, np.full(6, 1 / 6))
    found = same.shares(Group(p, np.ones(360), np.zeros(360, bool)))
    assert found.alike[:2] == [[1], [0]]
    few = same.shares(Group(p[:29], np.ones(29), np.zeros(29, bool)))
    assert few.refused == "shares need ≥ 30 distinct names, got 29"
    assert (few.low.max(), few.high.min(), len(few.draws)) == (0, 1, 0)
    # A label that the model hardly ever gives is like those that its names look like, no others.
    p = World(2, apart=3).probabilities(ids)
    p[:, 5] *= 1e-6
    p /= p.sum(axis=1, keepdims=True)
    rare = Quantifier(p, ids, np.full(6, 1 / 6)).shares(Group(p, np.ones(360), np.zeros(360, bool)))
    assert [label for label in range(5) if 5 in rare.alike[label]] == [1, 2]


def test_names_unlike_those_of_every_label_are_refused() -> None:
    world = World(4)
    ids = np.repeat(np.arange(6), 60)
    vague = (world.probabilities(ids) + world.probabilities(np.roll(ids, 60))) / 2
    found = world.quantifier.shares(Group(vague, np.ones(360), np.zeros(360, bool)))
    assert found.refused.startswith("the names are unlike the model's: mean confidence 0.")


def test_many_names_are_sampled_and_stand_for_all_rows() -> None:
    rows = np.random.default_rng(0).zipf(2.0, 5000).clip(max=500).astype(float)
    chosen, stands_for = sampled(rows)
    assert len(chosen) == len(np.unique(chosen)) == quantify.MAX_NAMES
    assert stands_for.sum() == pytest.approx(rows.sum())
    assert rows.max() in stands_for


def test_both_steps_give_what_quapy_gives() -> None:
    """Made with QuaPy 0.2.3: ``EMQ.EM(prior, p, epsilon=1e-12)`` (its steps are ours), and
    ``ACC.solve_adjustment`` of the confusions by inversion, solver "minimize"."""
    p = np.array([
        [0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1],
        [0.3, 0.5, 0.2], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2], [0.8, 0.1, 0.1], [0.2, 0.2, 0.6],
        [0.1, 0.1, 0.8], [0.05, 0.15, 0.8],
    ])  # fmt: skip
    start = np.full((1, 3), 1 / 3)
    found = mixture_shares(p / [0.3, 0.4, 0.3], np.full((1, 12), 1 / 12), start, 10_000, 1e-12)
    np.testing.assert_allclose(found[0], [0.4879908902, 0.1166285621, 0.3953805477], atol=1e-6)
    confusion = np.array([[[0.8, 0.15, 0.05], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]]])
    found = mixture_shares(confusion, np.array([[0.45, 0.35, 0.2]]), start, 10_000, 1e-13)
    np.testing.assert_allclose(found[0], [0.4507036, 0.3450694, 0.2042271], rtol=1e-5)
