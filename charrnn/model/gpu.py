"""Logits and ranked labels of many names by the kernels of ``charrnn.model.kernel``.

What is sent to the GPU is what ``Vocabulary.encode`` made: the ids of all names as one array of
bytes, and where in it each name is. There they are sorted by length, so that names of one block
take about as many steps, and answered; ranked label ids and their probabilities come back.

The memory that is copied from and to is pinned, the copies do not hold up the host, and nothing is
waited for until the answers of all names are asked for. A worker that has a stream of its own
(``use_own_stream``) so leaves the GPU to others while it reads, encodes and writes.

``KernelEngine`` gives the answers of ``charrnn.model.engine.Engine``. ``kernel_suits`` says which
networks the kernels can run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from charrnn.errors import StorageError
from charrnn.model.network import CharRNN
from charrnn.model.vocabulary import Counts, Encoded, Ids

if TYPE_CHECKING:  # Triton takes a quarter of a second to import, which a CPU should not pay
    from charrnn.model.kernel import Batch, Weights

Found = TypeVar("Found")
KERNEL_NAMES = 2**18  # in one launch, at most: bounds the memory for states
_LEAST_NAMES = 2**8  # in one launch, when there is hardly memory
_LOGITS = 2**25  # on the device at a time, at most
_TOLERANCE = 5e-4  # of a probability, for weights without their remainders
_PROBES, _PROBE_STEPS = 1024, 24  # names made up to measure that


class KernelEngine:
    """A network made ready to answer for many names through the kernels.

    It keeps tables made from the weights: after a change of weights, make a new one. Threads may
    share it.

    Args:
        network: one that ``kernel_suits``; used as it stands (call ``eval()`` first), on the device
            where it is: a GPU or, where Triton interprets kernels, a CPU.
        batch_size: names in one launch, at most.
        check: called before every launch with the number of its names; what it raises ends the
            work.
    """

    def __init__(
        self,
        network: CharRNN,
        batch_size: int = KERNEL_NAMES,
        check: Callable[[int], None] = lambda names: None,
    ) -> None:
        self.network = network
        self.batch_size = batch_size
        self.check = check
        from charrnn.model import kernel

        self._kernel = kernel
        self.weights = kernel.Weights.of(network)
        self.device = network.h2o.weight.device
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # streams of workers may read the weights

    def ranks(self, k: int, *, prior: bool = False) -> bool:
        """Whether ``ranked`` gives so many labels, with a prior or without: it takes every output
        for a label."""
        return k <= self._kernel.RANKS and not self.network.config.none_output

    @torch.inference_mode()
    def logits(
        self, encoded: Encoded, rows: Counts | None = None
    ) -> Iterator[tuple[Counts, Tensor]]:
        """Yield ``(row numbers, logits)`` as ``Engine.logits`` does."""
        chosen = np.arange(len(encoded)) if rows is None else rows
        L = self.network.config.outputs
        flat = self._send(encoded.flat)
        size = max(1, _LOGITS // L)
        for first in range(0, len(chosen), size):
            some = chosen[first : first + size]

            def find(some: Counts = some) -> Tensor:
                names = self._names(encoded, some, flat)
                logits = torch.empty(len(some), L, device=self.device)
                self._launch(names, logits=logits)
                return logits

            yield some, self._with_memory(find)

    @torch.inference_mode()
    def ranked(
        self,
        encoded: Encoded,
        rows: Counts,
        k: int,
        temperature: float = 1.0,
        prior: Tensor | None = None,
    ) -> list[npt.NDArray[Any]]:
        """Return the most likely labels of N names, in the order of ``rows``.

        Args:
            k: how many, which ``ranks`` allows.
            temperature: divides the logits.
            prior: float32 ``(L,)`` on the device; multiplies the probabilities, which are then made
                to add up to 1.

        Returns:
            Label ids, int16 ``(N, k)``, equal ones in the order of the labels, and probabilities,
            float32 ``(N, k)``; with ``prior`` also the first label and its probability before it,
            ``(N,)`` each.
        """
        corrected = prior is not None

        def find() -> list[npt.NDArray[Any]]:
            names = self._names(encoded, rows, self._send(encoded.flat))
            outputs = _outputs(self.device, len(rows), k, corrected=corrected)
            self._launch(
                names, temperature=temperature, prior=prior, ranked=(outputs[0], outputs[1]),
                uncorrected=(outputs[2], outputs[3]) if corrected else None,
            )  # fmt: skip
            return self._receive(outputs)

        return self._with_memory(find)

    def _with_memory(self, find: Callable[[], Found]) -> Found:
        """Return what ``find`` finds, in smaller launches where the device has no memory; the
        size that fits is kept."""
        while True:
            try:
                return find()
            except torch.OutOfMemoryError:
                if self.batch_size <= _LEAST_NAMES:
                    raise StorageError(
                        f"the device has no memory for {_LEAST_NAMES} names; use device cpu"
                    ) from None
                self.batch_size = max(_LEAST_NAMES, self.batch_size // 2)

    def _names(self, encoded: Encoded, rows: Counts, flat: Tensor) -> Batch:
        """Bring the places of some names to the device, and sort them there by falling length."""
        lengths = self._send(encoded.lengths[rows].astype(np.int32))
        starts = self._send(encoded.starts[rows].astype(np.int32))
        # By counting, which is what a sort of so few different keys is.
        keys = lengths.clamp(max=2**15 - 1).to(torch.int16)
        order = keys.sort(descending=True, stable=True).indices
        vocabulary = encoded.vocabulary
        marks = (vocabulary.begin, vocabulary.end) if vocabulary.boundaries else None
        return self._kernel.Batch(flat, starts, lengths, order, marks)

    def _launch(self, names: Batch, **outputs: Any) -> None:
        """Run both kernels over all names."""
        count, H = len(names.order), self.network.config.hidden_size
        size = max(1, min(self.batch_size, count))
        states = torch.empty(size, H, device=self.device)
        for first in range(0, count, size):
            batch = names._replace(order=names.order[first : first + size])
            self.check(len(batch.order))
            some = states[: len(batch.order)]
            self._kernel.launch_recur(self.weights, batch, some)
            self._kernel.launch_answer(self.weights, batch, some, **outputs)

    def _send(self, array: Ids | npt.NDArray[np.int32]) -> Tensor:
        """Copy an array to the device while the host goes on."""
        tensor = torch.from_numpy(array)
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _receive(self, outputs: list[Tensor]) -> list[npt.NDArray[Any]]:
        """Copy tensors to the host and wait, asleep, until they are there."""
        if self.device.type == "cpu":
            return [tensor.numpy() for tensor in outputs]
        here = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in outputs]
        for target, tensor in zip(here, outputs, strict=True):
            target.copy_(tensor, non_blocking=True)
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self.device))
        done.synchronize()
        return [tensor.numpy() for tensor in here]


def _outputs(device: torch.device | str, count: int, k: int, *, corrected: bool) -> list[Tensor]:
    """Return what ``KernelEngine.ranked`` fills in for so many names."""
    shapes = [(count, k), *([(count,)] if corrected else [])]
    kinds = (torch.int16, torch.float32)
    return [torch.empty(shape, dtype=kind, device=device) for shape in shapes for kind in kinds]


def kernel_suits(network: CharRNN) -> bool:
    """Whether the kernels can run a network where it is, and as precisely as it should be: where
    its weights do not fit with their remainders, or its table of symbols not beside them, that is
    measured on made-up names."""
    from charrnn.model.kernel import OutOfResources, Weights

    if not Weights.can_be_of(network) or network.training:
        return False
    weights = Weights.of(network)
    device = network.h2o.weight.device
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (9, 0):
        return False  # what it needs of shared memory and of matrix units is Hopper's
    if weights.terms == 3 and not weights.gathers:
        return True
    try:
        return _worst_difference(network, weights) <= _TOLERANCE
    except OutOfResources:  # the device has less shared memory than an H100
        return False


@torch.inference_mode()
def _worst_difference(network: CharRNN, weights: Weights) -> float:
    """Return the largest difference of a probability between the network and the kernels, on names
    of random ids."""
    from charrnn.model.kernel import Batch, launch_answer, launch_recur

    device, T = network.h2o.weight.device, _PROBE_STEPS
    draw = np.random.default_rng(0)
    ids = draw.integers(1, network.config.vocabulary_size + 1, (_PROBES, T)).astype(np.uint8)
    flat = torch.from_numpy(ids).to(device)
    lengths = torch.from_numpy(draw.integers(1, T + 1, _PROBES)).to(device)
    expected = network(
        flat.masked_fill(torch.arange(T, device=device) >= lengths[:, None], 0), lengths
    )
    order = lengths.argsort(descending=True)
    starts = (torch.arange(_PROBES, device=device) * T).int()
    states = torch.empty(_PROBES, network.config.hidden_size, device=device)
    logits = torch.empty_like(expected)
    batch = Batch(flat.view(-1), starts, lengths.int(), order, None)
    launch_recur(weights, batch, states)
    launch_answer(weights, batch, states, logits=logits)
    return float((logits.softmax(dim=1) - expected.softmax(dim=1)).abs().max())


def use_own_stream(device: torch.device) -> None:
    """Give this thread a stream of its own on a GPU; elsewhere nothing is to be done."""
    if device.type == "cuda":
        number = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.set_device(number)
        torch.cuda.synchronize(number)  # what other threads have sent before, such as weights
        torch.cuda.set_stream(torch.cuda.Stream(number))  # type: ignore[no-untyped-call]
