PYTHON ?= .venv/bin/python
SECONDS_EACH ?= 60

.PHONY: fuzz bench

# Fuzz the readers of strangers' bytes: make fuzz SECONDS_EACH=600
fuzz:
	$(PYTHON) -m tests.fuzz.csv --seconds $(SECONDS_EACH)
	$(PYTHON) -m tests.fuzz.zip --seconds $(SECONDS_EACH)

bench:
	$(PYTHON) tests/bench/csv_speed.py
