"""Inputs on object storage, copied to this machine for a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from charrnn.errors import is_uri
from charrnn.files import remove_tree

if TYPE_CHECKING:  # imported where an input is on object storage
    from charrnn.integrations.object_storage import RemoteFile


def fetch_input(source: str, destination: Path) -> tuple[str, tuple[RemoteFile, ...]]:
    """Copy an input from object storage beside the run; leave a local one where it is."""
    if not is_uri(source):
        return source, ()
    from charrnn.integrations.object_storage import fetch

    copied, remote = fetch(source, destination)
    return str(copied), remote


def check_copied(remote: tuple[RemoteFile, ...]) -> None:
    """Raise DataError if an object that ``fetch_input`` copied has changed since."""
    if remote:
        from charrnn.integrations.object_storage import check_remote_unchanged

        check_remote_unchanged(remote)


def remove_copies(source: str, remote: tuple[RemoteFile, ...]) -> None:
    """Remove what ``fetch_input`` copied."""
    for folder in (Path(source), *Path(source).parents) if remote else ():
        if folder.name.startswith(".fetched-"):
            remove_tree(folder)
