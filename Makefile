PYTHON ?= .venv/bin/python
SECONDS_EACH ?= 60

.PHONY: fuzz bench faults mutations cases lock audit

# Fuzz the readers of strangers' bytes: make fuzz SECONDS_EACH=600
fuzz:
	$(PYTHON) -m tests.fuzz.csv --seconds $(SECONDS_EACH)
	$(PYTHON) -m tests.fuzz.zip --seconds $(SECONDS_EACH)
	$(PYTHON) -m tests.fuzz.mutate --record docs/mutate.json
	$(PYTHON) tests/faults/held_bars.py

bench:
	$(PYTHON) tests/bench/csv_speed.py
	$(PYTHON) tests/bench/hostile.py

# All of what tests/faults does a part of; takes half an hour.
faults:
	$(PYTHON) tests/faults/long.py --record outputs/faults.json
	$(PYTHON) tests/faults/syscalls.py --record docs/syscalls.json
	$(PYTHON) tests/faults/held_bars.py

# Every input that was once answered wrongly, and what is answered now.
cases:
	$(PYTHON) tests/cases/table.py

# Break each promise on purpose, and see that a test fails; takes a quarter of an hour.
mutations:
	$(PYTHON) tests/faults/mutations.py

# torch and what its CUDA build needs: installed by version, as the build that suits the machine.
TORCH = torch cuda-bindings cuda-pathfinder cuda-toolkit $(addprefix nvidia-, cublas \
  cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile curand cusolver cusparse \
  cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx)

# Hashes of everything else that CI installs, of every platform.
lock:
	uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --constraint constraints.txt --extra dev $(addprefix --no-emit-package ,$(TORCH)) \
	  pyproject.toml -o requirements.lock

# Known vulnerabilities of what is locked; needs the network.
audit:
	pip-audit --no-deps --disable-pip -r requirements.lock
