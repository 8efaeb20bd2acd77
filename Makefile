.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## A virtual environment in .venv with everything in it

$(STAMP): requirements/dev.txt pyproject.toml
	@sh scripts/setup $(VENV)
	@touch $@

check: setup ## Format, lint, types, import contracts, generated files
	@sh scripts/check $(VENV)

test: setup ## All tests
	@$(PY) -m pytest -q -n 2 --dist worksteal $(ARGS)

fmt: setup ## Format the code
	@$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix-only -q .

clean: ## Remove what was built
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis $(VENV)

.PHONY: help setup check test fmt clean
