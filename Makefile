PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
.DEFAULT_GOAL := help
.PHONY: help run test check docs docs-measures bench clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.embedded ## Install everything and run recipes/quickstart.yaml on the embedded model
	$(BIN)/qdcgen run recipes/quickstart.yaml

test: $(VENV)/.embedded ## Run every test
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal

check: $(VENV)/.embedded ## Lint, format, types, generated files, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m docs.generate --check
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal

docs: $(VENV)/.embedded ## Write the parts of the manual, and the JSON Schema, that come from the code
	$(BIN)/python -m docs.generate

docs-measures: $(VENV)/.embedded ## Measure the measures again, where ../shared/data is there
	$(BIN)/python -m docs.measures

bench: $(VENV)/.embedded ## Print how fast it is here; MILLION=1 measures 1,000,000 rows too
	$(BIN)/python -m benchmarks $(if $(MILLION),--million)

clean: ## Remove the virtual environment and caches; runs/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.embedded: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[embedded,dev]'
	@touch $@
