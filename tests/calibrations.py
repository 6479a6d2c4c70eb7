"""Calibration data for models that no training made."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from charrnn.model.engine import logits_of
from charrnn.model.network import CharRNN
from charrnn.model.novelty import CharacterModel, name_hashes
from charrnn.model.version import Calibration
from charrnn.model.vocabulary import Vocabulary


def calibration_of(
    network: CharRNN, vocabulary: Vocabulary, names: Sequence[str], ambiguous: Sequence[str] = ()
) -> Calibration:
    """Return calibration data in which the network is right about each of ``names``."""
    encoded = vocabulary.encode(pa.array(names, pa.string()))
    logits = logits_of(network.eval(), encoded)
    return Calibration(
        logits=logits,
        label_ids=logits.argmax(axis=1),
        characters=CharacterModel.fit(encoded, encoded),
        ambiguous=np.sort(name_hashes(vocabulary.encode(pa.array(ambiguous, pa.string())))),
    )
