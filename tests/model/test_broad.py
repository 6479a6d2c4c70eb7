"""What the broad pretrained models answer, and how good they were measured to be."""

import pytest

from charrnn.model.version import resolve
from charrnn.scoring.scorer import Scorer


@pytest.mark.parametrize("model", ["pretrained", "pretrained-tiny"])
def test_broad_models_are_measured_on_names_of_other_lists(model: str) -> None:
    """The bars are what was reached; the test half was not used for any choice."""
    outside = resolve(model).facts.outside
    assert outside is not None
    assert outside.surnames is not None
    assert outside.full is not None
    assert outside.surnames.macro_recall >= 0.55
    assert outside.surnames.ece <= 0.06
    assert outside.full.ece <= 0.06
    assert outside.names_refused <= 0.06


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("Dvořák", "Czech"), ("DVORAK", "Czech"), ("Wójcik", "Polish"), ("Virtanen", "Finnish"),
        ("Papadopoulos", "Greek"), ("Παπαδόπουλος", "Greek"), ("Nakamura", "Japanese"),
        ("Popescu", "Romanian"), ("van der Berg", "Dutch"), ("García López", "Spanish"),
        ("Ferrari", "Italian"), ("김민수", "Korean"), ("Andersson", "Swedish"),
    ],
)  # fmt: skip
def test_well_known_names_are_answered(name: str, language: str) -> None:
    assert Scorer.load("pretrained").score([name])["language"].to_list() == [language]


def test_company_is_no_name() -> None:
    found = Scorer.load("pretrained").score(["Acme Holdings Ltd", "Northern Freight GmbH"])
    assert found["reason"].to_list() == ["unfamiliar", "unfamiliar"]
