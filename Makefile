PYTHON ?= .venv/bin/python
SECONDS_EACH ?= 60

.PHONY: fuzz bench faults mutations lock audit

# Fuzz the readers of strangers' bytes: make fuzz SECONDS_EACH=600
fuzz:
	$(PYTHON) -m tests.fuzz.csv --seconds $(SECONDS_EACH)
	$(PYTHON) -m tests.fuzz.zip --seconds $(SECONDS_EACH)

bench:
	$(PYTHON) tests/bench/csv_speed.py

# All of what tests/faults does a part of; takes a quarter of an hour.
faults:
	$(PYTHON) tests/faults/long.py --record outputs/faults.json

# Break each promise on purpose, and see that a test fails; takes a quarter of an hour.
mutations:
	$(PYTHON) tests/faults/mutations.py

# Hashes of everything that CI installs, of every platform; torch comes as its own build.
lock:
	uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --constraint constraints.txt --extra dev --no-emit-package torch pyproject.toml -o requirements.lock

# Known vulnerabilities of what is locked; needs the network.
audit:
	pip-audit --no-deps --disable-pip -r requirements.lock
