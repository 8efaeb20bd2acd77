.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## A virtual environment in .venv with everything in it

$(STAMP): requirements/dev.txt pyproject.toml scripts/setup
	@sh scripts/setup $(VENV)
	@touch $@

demo: setup ## Real data, seven versions, one verdict each; ends by itself (2 minutes)
	@$(PY) examples/fraud-detection/demo.py $(ARGS)

check: setup ## Format, lint, types, import contracts, generated files
	@sh scripts/check $(VENV)

test: setup ## All tests (about 4 minutes on 2 cores, half of it waiting: so 4 at once); ARGS="tests/core -k replay" for some
	@$(PY) -m pytest -q -n 4 --dist worksteal $(ARGS)

test-go: setup ## grpc-go and h2spec against the predictor (needs Go; built once, minutes)
	@$(PY) -m pytest -q -m go tests/predictor $(ARGS)

fuzz: setup ## What reads bytes from outside, guided by coverage (atheris, Linux on x86_64): ARGS="1000000 SEED"
	@PYTHONPATH=operator:predictors:tests $(PY) tests/predictor/fuzz_guided.py $(or $(ARGS),1000000)

fmt: setup ## Format the code
	@$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix-only -q .

crds: setup ## Write crds/, what the chart takes from operator/aiservice/api, and its README
	@sh scripts/generate $(VENV)/bin .

compile: build/compiled/.made ## A compiled copy of the predictor in build/compiled, as its image holds it (needs gcc; a minute)

build/compiled/.made: $(shell find predictors -name '*.py') operator/aiservice/api/bundle.py operator/aiservice/api/runtime.py scripts/compile.py | setup
	@$(PY) scripts/compile.py build/compiled && touch $@

test-compiled: setup compile ## The predictor's tests again, against the compiled copy
	@AISERVICE_TEST_PREDICTORS=build/compiled $(PY) -m pytest -q -n 4 --dist worksteal tests/predictor $(ARGS)

bench: setup compile ## Measure our server against others (docs/performance.md); ARGS=--quick for kserve alone
	@$(PY) -m benchmarks.serving $(ARGS)

bench-compare: setup ## Instructions a request, against revision REV
	@$(PY) -m benchmarks.serving.compare $(REV) $(ARGS)

bench-evidence: setup ## Measure evidence (wrong verdicts, power) and the core's time
	@$(PY) benchmarks/evidence.py $(ARGS)
	@$(PY) benchmarks/reconcile.py

lock: setup ## Resolve requirements/dev.txt anew from pyproject.toml (needs uv)
	@sh scripts/lock

cluster: ## A kind cluster with Envoy Gateway, KServe and this checkout's operator (hack/cluster/README.md); IMAGES=build WORKERS=2 KEDA=1 HTTP_PORT=8080
	@python3 hack/cluster up
	@sh scripts/deploy

chart: setup ## Judge the chart: helm lint, kubeconform, kube-score, checkov (needs Go; charts/exceptions.toml)
	@$(PY) scripts/chart.py

deploy: ## Only the images and the chart of this checkout, into that cluster
	@sh scripts/deploy

test-cluster: setup cluster ## Tests on that cluster; WORKERS=2 for all of them
	@$(PY) -m pytest -q -n 3 --dist worksteal -m "cluster and not disruptive" tests/cluster tests/contract $(ARGS)
	@$(PY) -m pytest -q -m "cluster and disruptive" tests/cluster tests/contract $(ARGS)

cluster-down: ## End that cluster
	@python3 hack/cluster down

clean: ## Remove what was built
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis $(VENV)

.PHONY: help setup demo check test test-go test-compiled compile fuzz fmt crds bench bench-compare bench-evidence lock chart cluster deploy test-cluster cluster-down clean
