# `make demo` and `make test` are all a newcomer needs: Python >= 3.11 and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
BENCH  := out/benchmarks/quick
BUILT_FROM := pyproject.toml constraints.txt hatch_build.py $(wildcard src/stockpot/kernel/_fused*.[ch])
# Interpreters and pip write nothing outside the checkout but pip's own cache.
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint types contracts unit bench clean

demo: $(VENV)/.stockpot-demo
	HF_HUB_OFFLINE=1 $(BIN)/stockpot run experiments/debian-sections/quickstart.yaml -o out/debian-sections

test: lint types contracts unit

lint: $(VENV)/.stockpot-all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.stockpot-all
	$(BIN)/mypy

contracts: $(VENV)/.stockpot-all
	$(BIN)/lint-imports

unit: $(VENV)/.stockpot-all
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist worksteal

# The quick set: do the scripts work? Their tables go to $(BENCH), never over the measured ones.
bench: $(VENV)/.stockpot-all
	mkdir -p $(BENCH)
	$(BIN)/python benchmarks/mix.py --quick --out $(BENCH)
	$(BIN)/python benchmarks/greedy.py --quick --out $(BENCH)
	$(BIN)/python benchmarks/evaluate.py --quick --out $(BENCH)
	$(BIN)/python benchmarks/sweep.py --quick --out $(BENCH)
	$(BIN)/python benchmarks/gpu_evaluate.py --quick --out $(BENCH)
	$(BIN)/python benchmarks/gpu_soup.py --quick --out $(BENCH)
	$(BIN)/python benchmarks/learned.py --quick --out $(BENCH)
	$(BIN)/python benchmarks/report.py --quick --out $(BENCH)
	$(BIN)/python benchmarks/decode.py --quick --out $(BENCH)

# The stamps are renewed when the project's own files ask for other packages or for another build.
$(VENV)/.stockpot-demo: $(BUILT_FROM) | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/.stockpot-all: $(BUILT_FROM) | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[all]'
	touch $@

$(VENV)/pyvenv.cfg:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stockpot needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV)
