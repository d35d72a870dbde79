# The two commands of the README, and what keeps the project tidy. Each sets up all that it needs.
PYTHON ?= python3
# The release that the suite is run with; installed first, so that nothing picks another one.
TORCH ?= torch==2.13.0
# The releases of all else; CONSTRAINTS=/dev/null takes the newest ones.
CONSTRAINTS ?= constraints.txt
PIP := .venv/bin/python -m pip install --quiet
BIN := .venv/bin

.PHONY: demo test docs links wheels lint format clean

demo: .venv/.installed
	$(BIN)/rnnatlas demo --out demo

test: .venv/.installed-test
	$(BIN)/pytest -n 2 --dist worksteal

# Every page runs its own commands; a warning is an error. _build keeps what was run.
docs: .venv/.installed-docs
	$(BIN)/python -m bash_kernel.install --sys-prefix
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html
	@echo "open docs/_build/html/index.html in a browser"

# Links that leave the documentation, which need a network.
links: .venv/.installed-docs
	$(BIN)/sphinx-build -b linkcheck docs docs/_build/links

# What is published, in dist/; the wheel is tried where there is no compiler.
wheels:
	PYTHON=$(PYTHON) TORCH=$(TORCH) .ci/wheels

lint: .venv/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

format: .venv/.installed-lint
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv demo build dist docs/_build

.venv/.installed: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rnnatlas needs Python 3.11 or newer, found " + sys.version.split()[0] + "; run make with PYTHON=python3.11")'
	test -d .venv || $(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(PIP) $(TORCH)
	$(PIP) --constraint $(CONSTRAINTS) --editable .
	touch $@

.venv/.installed-%: .venv/.installed
	$(PIP) --constraint $(CONSTRAINTS) --editable ".[$*]"
	touch $@
