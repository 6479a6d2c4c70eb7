"""What nobody expects: panics, no memory, bugs, and signals. One line, exit 70, 143 or 130."""

import signal
from pathlib import Path

import pytest
from commands import CANARY, complaint
from harness import Server
from recording import Proof
from scenes import Scene

WORK = {  # where the work is done, and the call that fails
    "ingest": ("charrnn.training.corpus:lines_of", 1),
    "train": ("charrnn.training.fit:_one_epoch", 2),
    "score": ("charrnn.scoring.scorer:Scorer.answers", 1),
}


@pytest.mark.parametrize("prior", [True], ids=["after another"])
@pytest.mark.parametrize("error", ["PanicException", "MemoryError", "RuntimeError", "OSError"])
def test_failure_in_the_work_is_one_line_and_can_be_gone_on_from(
    scene: Scene, error: str, server: Server, disturbed: Path, proof: Proof
) -> None:
    target, call = WORK[scene.name]
    patch = {**scene.more.get("patch", {}), target: {"call": call, "raise": error}}
    scene.copy(disturbed)
    failed = server.run(disturbed, *scene.argv, patch=patch)
    line = complaint(failed["code"], 74 if error == "OSError" else 70, failed["err"])
    assert error == "OSError" or {"MemoryError": "out of memory"}.get(error, error) in line
    assert CANARY not in failed["out"] + failed["err"]
    assert scene.problems_now(disturbed) == []
    done = scene.go_on(server, disturbed)
    assert done["code"] == 0, done["err"]
    assert scene.problems_in_the_end(disturbed) == []
    proof("P1, P9", "panics, no memory and bugs in the midst of the work", 1)


@pytest.mark.parametrize("prior", [True], ids=["after another"])
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
    ids=["sigterm", "ctrl-c"],
)
def test_signal_at_any_operation_stops_at_once(
    scene: Scene, number: int, code: int, word: str, server: Server, disturbed: Path, proof: Proof
) -> None:
    codes = []
    for at in range(0, len(scene.operations), max(1, len(scene.operations) // 3)):
        scene.copy(disturbed)
        stopped = scene.run(server, disturbed, plan={"at": at, "do": "signal", "signal": number})
        codes.append(stopped["code"])
        assert f"error: {word}; finished work is kept" in stopped["err"]
        assert "Traceback" not in stopped["err"]
        assert scene.problems_now(disturbed) == []
        done = scene.go_on(server, disturbed)
        assert done["code"] == 0, done["err"]
        assert scene.problems_in_the_end(disturbed) == []
    assert codes == [code] * len(codes)
    proof("P1, P2", "SIGTERM or Ctrl-C at an operation, then once more", len(codes))
