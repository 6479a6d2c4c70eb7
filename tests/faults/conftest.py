"""The server and the scenes, made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Server, scratch
from scenes import Scene, build

_SCENES: dict[tuple[str, bool], Scene] = {}


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The process that forks itself for every command."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """A folder for all tests, in memory where there is such a place."""
    with scratch() as folder:
        yield folder


@pytest.fixture(params=["ingest", "train", "score"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["first", "after another"])
def prior(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def scene(name: str, prior: bool, server: Server, memory: Path) -> Scene:
    """A command that will be disturbed."""
    if (name, prior) not in _SCENES:
        folder = memory / f"{name}-{prior}"
        _SCENES[name, prior] = build(server, name, prior, folder)
    return _SCENES[name, prior]


@pytest.fixture
def disturbed(memory: Path) -> Path:
    """Where a copy of a scene is disturbed."""
    return memory / "disturbed"
