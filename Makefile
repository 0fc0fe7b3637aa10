# riata. `make help` lists the targets; each skips what is already done.
# Needed on the machine: Linux (x86-64 or arm64), git, make, Python ≥ 3.11. The targets bring the rest.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
PY := $(VENV)/bin/python
SYNCED := $(VENV)/.synced
COMPILED := .compiled
# What tests and benches start as hub and agent: compiled, as in the images; interpreted where that cannot be.
PROGRAMS = RIATA_PROGRAMS=$$(test ! -x $(COMPILED)/bin/riata-hub || echo $(CURDIR)/$(COMPILED)/bin)
ARGS ?=
FUZZ_SECONDS ?= 60
PROCESSES ?= 2
# A file runs in one process, so that its tests share clusters and hubs; in the order of tests/conftest.py, long ones first.
SIDE_BY_SIDE = -n $(PROCESSES) --dist loadfile --no-loadscope-reorder
KILLS ?= 1000
HUB_KILLS ?= 200
ROLLOUTS ?= 10
LONG_WAY_MINUTES ?= 30
PROOF_MINUTES ?= 60
QUIETLY := --disable-pip-version-check --root-user-action=ignore

# The first Python ≥ 3.11 that can make virtual environments.
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	"$$p" -c '$(USABLE)' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##### the environment

.PHONY: sync
sync: $(SYNCED) ## make .venv from the lock files (a minute, then nothing)

$(SYNCED): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 with venv found." \
		"Cure: install one (Debian: apt-get install python3 python3-venv), or: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Environment: $(VENV) with $$($(PYTHON) --version), locked packages (about a minute)"
	@test -x $(PY) && $(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@start=$$(date +%s); \
	$(PY) -m pip install --quiet $(QUIETLY) --require-hashes -r requirements/dev.txt && \
	$(PY) -m pip install --quiet $(QUIETLY) --no-deps --no-build-isolation --editable . || \
	{ echo "error: the locked packages could not be installed." \
		"Cure: make the package index reachable; if $(VENV) is broken: rm -r $(VENV); then again" >&2; exit 1; }; \
	touch $@; echo "Environment: ready after $$(( $$(date +%s) - start )) s"

# With the environment's Python: it has pip, which a machine without Go needs; Debian's own may have none.
.PHONY: kube
kube: sync ## build the Kubernetes tools into the user's cache (15 min cold, then nothing)
	@$(PY) -m tests.kube.build

.PHONY: node-packages
node-packages: sync ## install containerd, runc, CNI … for full clusters (Debian, root; half a minute, then nothing)
	@$(PY) -m tests.kube.packages $(NODE_PACKAGES)

.PHONY: lock
lock: $(SYNCED) ## pin every dependency anew, with hashes (half a minute)
	@echo "Lock files: the newest version of every dependency (half a minute)"
	$(PY) -m pip install --quiet $(QUIETLY) uv
	$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --upgrade pyproject.toml -o requirements/runtime.txt
	$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --upgrade --group dev pyproject.toml -o requirements/dev.txt
	$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --constraint requirements/dev.txt --group build pyproject.toml -o requirements/build.txt

##### the product

# With --kubeconfig the demo uses clusters that are there already, and nothing needs to be built.
ifneq (,$(findstring --kubeconfig,$(ARGS)))
DEMO_NEEDS :=
else
DEMO_NEEDS := kube node-packages
endif

# Without these packages the demo has light clusters only; the tests, here, would prove less than they say.
demo: NODE_PACKAGES := --advisory

.PHONY: demo
demo: sync $(DEMO_NEEDS) ## hub, three clusters, agents on this machine; ARGS="--keep", ARGS="--kubeconfig FILE"
	@$(VENV)/bin/riata demo $(ARGS)

.PHONY: manifests
manifests: sync ## make deploy/agent, deploy/hub and their reference from the Helm charts
	@echo "Manifests: everything that is made from deploy/charts (a second)"
	$(PY) -m deploy.render

.PHONY: compiled
compiled: sync ## hub, agent and riata with the request path as machine code, in .compiled (2 min cold, then seconds)
	@echo "Compiled: the request path as machine code (2 min cold, then seconds)"
	@$(PY) -m deploy.compiled $(COMPILED) $(ADVISORY)

# Without a C compiler the rest goes on, interpreted.
test e2e e2e-workers faults soak bench bench-workers bench-race bench-scale: ADVISORY := --advisory

.PHONY: images
images: sync ## make both images as OCI archives in dist/, without a container engine (needs mmdebstrap, see node-packages)
	@echo "Images: riata-hub and riata-agent (a minute cold, then seconds)"
	@$(PY) -m deploy.images.build $(ARGS)

##### checks

.PHONY: test
test: sync lint types imports kube node-packages compiled ## everything that is proven, on real Kubernetes (25 min, all cold 35)
	@echo "Tests: all of them, on real clusters, in $(PROCESSES) processes (about 25 min on 2 cores)"
	$(PROGRAMS) $(PY) -m pytest tests $(SIDE_BY_SIDE) $(ARGS)

.PHONY: lint
lint: sync ## ruff: rules and format
	@echo "Lint: ruff, rules and format (a second)"
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

.PHONY: fmt
fmt: sync ## ruff: rewrite what can be rewritten
	@echo "Format: ruff rewrites what can be rewritten (a second)"
	$(VENV)/bin/ruff check --fix-only --quiet .
	$(VENV)/bin/ruff format .

.PHONY: types
types: sync ## mypy, strict
	@echo "Types: mypy, strict (10 s cold, then a second)"
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy -p deploy -p tests.harness -p tests.kube -p tests.bench -p tests.faults

.PHONY: imports
imports: sync ## import contracts between the packages
	@echo "Imports: the contracts between the packages (a second)"
	$(VENV)/bin/lint-imports

.PHONY: unit
unit: sync ## tests that need no Kubernetes (about 2 min)
	@echo "Unit tests: all that need no Kubernetes (about 2 min)"
	$(PY) -m pytest tests -m "not light and not full" --ignore=tests/e2e --ignore=tests/faults $(SIDE_BY_SIDE) $(ARGS)

.PHONY: e2e
e2e: sync kube node-packages compiled ## tests on real clusters
	@echo "End-to-end tests: on real clusters (about 4 min)"
	$(PROGRAMS) $(PY) -m pytest tests/e2e $(ARGS)

.PHONY: e2e-workers
e2e-workers: sync kube node-packages compiled ## the tests on real clusters, against a hub with two worker processes
	@echo "End-to-end tests: on real clusters, the hub with two workers (about 5 min)"
	$(PROGRAMS) RIATA_HUB_WORKERS=2 $(PY) -m pytest tests/e2e $(ARGS)

# Parts of it by name: ARGS="-k partition"; again as it was: RIATA_FAULTS_SEED=… in the environment.
.PHONY: faults
faults: sync kube compiled ## every fault at length: KILLS=1000, HUB_KILLS=200, ROLLOUTS=10, LONG_WAY_MINUTES=30, PROOF_MINUTES=60; `make test` has each in short
	@echo "Faults: killed, paused, cut off and slow agents, with a figure each (about 2 hours; 4 min within make test)"
	$(PROGRAMS) RIATA_FAULTS_KILLS=$(KILLS) RIATA_FAULTS_HUB_KILLS=$(HUB_KILLS) RIATA_FAULTS_HUB_KILLS_CLUSTERS=5000 \
	RIATA_FAULTS_ROLLOUTS=$(ROLLOUTS) RIATA_FAULTS_ROOM=1 RIATA_FAULTS_STORM_CLUSTERS=1000 RIATA_FAULTS_IDLE_CLUSTERS=200 \
	RIATA_FAULTS_SLOW_READERS=1000 RIATA_FAULTS_SOAK_SECONDS=600 RIATA_FAULTS_SIMULATOR_SECONDS=300 \
	RIATA_FAULTS_PAUSE_SECONDS=30 RIATA_FAULTS_SAMPLES=1000 \
	RIATA_FAULTS_LONG_WAY_SECONDS=$$(( $(LONG_WAY_MINUTES) * 60 )) \
	RIATA_FAULTS_PROOF_SECONDS=$$(( $(PROOF_MINUTES) * 60 )) $(PY) -m pytest tests/faults -s $(ARGS)

MINUTES ?= 10
.PHONY: soak
soak: sync compiled ## traffic and faults for MINUTES=10, everything as before afterwards; then seeds in virtual time for as long
	@echo "Soak: processes, then the simulator (10 min each, MINUTES)"
	$(PROGRAMS) RIATA_FAULTS_SOAK_SECONDS=$$(( $(MINUTES) * 60 )) $(PY) -m pytest tests/faults/test_soak.py -s
	$(PY) -m tests.faults.simulator --seconds $$(( $(MINUTES) * 60 )) $(ARGS)

.PHONY: docs
docs: sync ## check that documents and code agree
	@echo "Documents: do they say what the code does? (a few seconds)"
	$(PY) -m pytest tests/docs $(ARGS)

.PHONY: bench
bench: sync compiled ## measure throughput, latency and memory of hub and agent; compares with the last run
	@echo "Bench: every figure of hub and agent on this machine (some minutes)"
	go=$$($(PY) -m tests.kube.toolchain) && $(PROGRAMS) PATH="$$go:$$PATH" $(PY) -m tests.bench $(ARGS)

.PHONY: bench-workers
bench-workers: sync compiled ## measure how throughput grows with the hub's worker processes; needs root; ARGS="--rounds N"
	@echo "Bench: one, two and three workers in turn, each allowed a fifth of a core (about 2 min)"
	go=$$($(PY) -m tests.kube.toolchain) && $(PROGRAMS) PATH="$$go:$$PATH" $(PY) -m tests.bench.workers $(ARGS)

.PHONY: bench-race
bench-race: sync compiled ## race riata against Rancher's remotedialer and yamux on this machine; ARGS="--only TEXT --rounds N"
	@echo "Race: every row three times on every way, one after the other (about 30 minutes)"
	go=$$($(PY) -m tests.kube.toolchain) && $(PROGRAMS) PATH="$$go:$$PATH" $(PY) -m tests.bench.race $(ARGS)

.PHONY: bench-scale
bench-scale: sync compiled ## one hub under 10, 100 and 1,000 clusters: memory, CPU, scrapes, reconnects; ARGS="--sizes 10,100"
	@echo "Scale: up to 5,000 tunnels and 10,000 watches on one hub (up to 6 minutes)"
	go=$$($(PY) -m tests.kube.toolchain) && $(PROGRAMS) PATH="$$go:$$PATH" $(PY) -m tests.bench.scale $(ARGS)

.PHONY: fuzz
fuzz: sync ## feed every fuzz target (tests/fuzz/fuzz_*.py) random bytes for FUZZ_SECONDS=60 each
	@$(PY) -c "import atheris" 2>/dev/null || { echo "error: atheris is not here: it has builds for Linux on x86-64 and" \
		"Python < 3.14 only. Cure: run this there; tests/proto has the same properties with hypothesis" >&2; exit 1; }
	@echo "Fuzz: every target, for $(FUZZ_SECONDS) s each"
	for target in tests/fuzz/fuzz_*.py; do \
		$(PY) -m "$$(echo "$${target%.py}" | tr / .)" -max_total_time=$(FUZZ_SECONDS) $(ARGS) || exit 1; done

.PHONY: clean
clean: ## remove environment, caches and build products (the Kubernetes tools stay in the user's cache)
	@echo "Clean: what the targets made in this directory (a second)"
	rm -rf $(VENV) $(COMPILED) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
