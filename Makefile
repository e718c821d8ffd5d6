# Two commands for the reader: `make book` and `make test`. Each sets up what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Written after a complete install, and older than its inputs when one of them has changed.
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help env book pdf test long versions ci lint format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP) ## Make .venv and install everything into it (PYTHON=python3.12 chooses the interpreter)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not: $$($(PYTHON) --version 2>&1)."; \
	    echo "Name another one, for example: make PYTHON=python3.12 env"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	    echo "'$(PYTHON) -m venv' failed: install the venv module of your system's Python (on Debian: python3-venv)."; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[audit,book,frameworks,test]'
	@touch $@

book: $(STAMP) ## Execute the chapters that have changed and render the book into _build/html
	$(BIN)/python tools/build_book.py

pdf: book ## The same as a printed book, _build/pdf/softmax-lab.pdf (with the system's Chromium)
	$(BIN)/python tools/build_pdf.py

test: $(STAMP) ## Lint, types, unit and property tests, notebooks compared, the site rendered and its links checked
	$(BIN)/python tools/run_tests.py

long: $(STAMP) ## What takes longer: every page in a browser, the PDF, a clean install, compiled modes, real programs
	$(BIN)/python tools/run_tests.py long

versions: $(STAMP) ## Other Pythons, the lowest and the newest releases of everything: before a release
	$(BIN)/python tools/run_tests.py versions

ci: $(STAMP) ## `make test` and `make long`
	$(BIN)/python tools/run_tests.py test long

lint: $(STAMP) ## Only ruff and mypy
	$(BIN)/python tools/run_tests.py ruff format mypy

format: $(STAMP) ## Let ruff rewrite the sources
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what was built, but not .venv
	rm -rf .environments dist _build .book_cache build .mypy_cache .pytest_cache .ruff_cache .hypothesis ./*.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
