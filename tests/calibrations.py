"""Calibration data for models that no training made."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from charrnn.model.engine import logits_of
from charrnn.model.network import CharRNN
from charrnn.model.novelty import NoveltyScale, name_hashes, surprise
from charrnn.model.version import Calibration
from charrnn.model.vocabulary import Vocabulary


def calibration_of(
    network: CharRNN, vocabulary: Vocabulary, names: Sequence[str], ambiguous: Sequence[str] = ()
) -> Calibration:
    """Return calibration data in which the network is right about each of ``names``."""
    encoded = vocabulary.encode(pa.array(names, pa.string()))
    outputs = logits_of(network.eval(), encoded)
    logits = outputs[:, : network.config.label_count].copy()
    surprises = surprise(torch.from_numpy(outputs), network.config.label_count)
    return Calibration(
        logits=logits,
        label_ids=logits.argmax(axis=1),
        novelty=NoveltyScale.of(surprises.numpy()),
        ambiguous=np.sort(name_hashes(vocabulary.encode(pa.array(ambiguous, pa.string())))),
    )
