"""``datapackage.json``: what the columns of a run are, for machines (Data Package, version 2)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from charrnn.runs.manifest import RunManifest
from charrnn.scoring.dictionary import AddedColumn
from charrnn.tables.columns import is_text, value_type

_PROFILE = "https://datapackage.org/profiles/2.0/datapackage.json"
_TYPES = (
    (is_text, "string"),
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_integer, "integer"),
    (pa.types.is_floating, "number"),
    (pa.types.is_decimal, "number"),
    (pa.types.is_date, "date"),
    (pa.types.is_timestamp, "datetime"),
    (pa.types.is_time, "time"),
    (pa.types.is_list, "array"),
    (pa.types.is_large_list, "array"),
    (pa.types.is_struct, "object"),
)


def data_package(
    manifest: RunManifest, schema: pa.Schema, added: Mapping[str, AddedColumn]
) -> dict[str, Any]:
    """Return the description of a run's rows as plain JSON values.

    Args:
        schema: of the parts.
        added: the columns that scoring added, by name.
    """
    options = manifest.options
    hashed = options.scoring.name_fields.values() if options.names == "hash" else ()
    own = dict.fromkeys(hashed, "keyed digest of the name of the input")
    fields = [_field(f, own.get(f.name, "of the input"), added.get(f.name)) for f in schema]
    created = datetime.strptime(manifest.created, "%Y%m%dT%H%M%SZ")
    rows = {
        "name": "rows",
        "type": "table",
        "path": [part.name for part in manifest.parts],
        "format": "parquet",
        "mediatype": "application/vnd.apache.parquet",
        "bytes": sum(part.size for part in manifest.parts),
        "schema": {"fields": fields},
    }
    return {
        "$schema": _PROFILE,
        "name": f"run-{manifest.created}-{manifest.fingerprint[:8]}".lower(),
        "created": f"{created:%Y-%m-%dT%H:%M:%SZ}",
        "resources": [rows],
    }


def _field(field: pa.Field, described: str, added: AddedColumn | None) -> dict[str, Any]:
    """Return the description of a column: that of its metadata, or ``described`` without one."""
    if note := (field.metadata or {}).get(b"description"):
        described = note.decode(errors="replace")
    kind = next((name for is_kind, name in _TYPES if is_kind(value_type(field.type))), "any")
    entry: dict[str, Any] = {"name": field.name, "type": kind, "description": described}
    if added and added.values:
        entry["constraints"] = {"enum": list(added.values)}
    elif added and added.is_share:
        entry["constraints"] = {"minimum": 0, "maximum": 1}
    return entry
