#!/usr/bin/env bash
# Everything that is to be known of a GPU, in under 8 minutes: tests, agreement, speed, end to end,
# training. Needs no network and builds nothing. Options are those of measure.py; the figures go to
# gpu.json, or where --output says.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 exec "${PYTHON:-python3}" tests/gpu/measure.py "$@"
