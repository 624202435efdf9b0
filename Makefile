# make run builds and starts the agent, make test installs what the tests need and runs them all; make help lists the rest.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.ONESHELL: # a recipe is one script
MAKEFLAGS += --no-print-directory

# Where provision.sh and Debian put Go and the system tools, which an ordinary user's path may lack.
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin

GO ?= go
BIN := bin/perfagent
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
# Without symbol tables, which only debuggers read: a quarter of the size.
BUILD := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.buildVersion=$(VERSION)"
# Flags of the agent that make run starts, for instance ARGS=--capture.port=8080.
ARGS ?=

# Observing needs root. What runs through sudo keeps the path and the downloaded modules, and has root's own build cache.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo env "PATH=$(PATH)" "GOMODCACHE=$(shell $(GO) env GOMODCACHE 2>/dev/null)" GOFLAGS=-buildvcs=false)

# make test: further targets to run as part of it, and what not to run (vm: the virtual machines).
CHECKS ?=
SKIP ?=

# The virtual machines of make test: each kernel once, with a backend that the host does not have. make test-vm runs all combinations.
VM_CELLS := 5.10:kprobe 6.1:fentry 6.12:loads

# Inputs for each fuzz target: a second of each in make test, half a minute of each in make fuzz.
FUZZ_INPUTS := 2000
FUZZ_INPUTS_LONG ?= 100000

# End-to-end tests at a time. Each loads an agent into the kernel, and most of them wait most of the time.
E2E_PARALLEL ?= 4
# Tests of what is behind the hooks, the same whatever the hooks are: they are left out where a backend is forced.
BEHIND_HOOKS := Workloads E2EStartErrors E2EUnprivileged E2ETraceCommand E2ECheckAndVersion E2EPrometheus E2ERules \
	E2EFleetQuantiles E2EServicesFile E2EOTLP E2EOTLPOwnTraffic E2EOTLPDead E2ERequests E2ESummary E2EAlerts E2ERoutes E2EManyPaths \
	E2EAgentDescriptors E2EDemo E2EDemoEnds E2EDemoUnprivileged E2EFirstExchange E2EAlertmanager E2ENotifyTest E2EReceivers E2EEventLog E2ERedis E2ETraceSocketRemoved E2EIncident
SPACE := $(subst ,, )
NOT_FORCED := ^Test($(subst $(SPACE),|,$(strip $(BEHIND_HOOKS))))$$

# Packages with tests that -short shortens: beside the race detector, which makes simulations fifteen times as slow.
LONG = $$(grep -lr --include='*_test.go' 'testing.Short()' cmd internal | xargs dirname | sort -u | sed 's|^|./|' | \
	tr '\n' ' ')

# Without the profile: it would compile every package once more. Without vet: it is a step of its own.
GOTEST := $(GO) test -pgo=off -vet=off -json -count=1
# For steps of tally: make -n would run a recipe that names the variable MAKE itself.
STEP := $(MAKE)

.PHONY: build
build: ## build bin/perfagent; needs Go only
	$(BUILD) -o $(BIN) ./cmd/perfagent

.PHONY: man
man: build ## write the manual pages to bin/man; man -l bin/man/perfagent.1 shows one
	$(BIN) man bin/man

.PHONY: run
run: build ## build and start the agent as root, without any configuration
	exec $(AS_ROOT) $(BIN) run $(ARGS)

.PHONY: demo
demo: build ## build and run a small shop with load and faults, watched by the agent, as root; ends after ten minutes
	exec $(AS_ROOT) $(BIN) demo $(ARGS)

.PHONY: provision
provision: ## install what building, testing and measuring need (Debian)
	bash vagrant/provision.sh

# Every step is one argument: tally runs them in turn, shows what failed, and ends with the counts.
.PHONY: test
test: provision build ## install what is needed and run the tests: unit, fuzz, end-to-end, three virtual machines
	@$(GO) build -o bin/tally ./test/tally
	bin/tally \
		"$(STEP) format-check" \
		"$(STEP) dashboard-check" \
		"$(GO) vet -pgo=off ./..." \
		$(foreach check,$(CHECKS),"$(STEP) $(check)") \
		"$(GOTEST) -race -short ./cmd/... ./internal/..." \
		"$(GOTEST) $(LONG)" \
		"$(GOTEST) $$($(GO) list ./test/... | grep -v /test/e2e$$ | tr '\n' ' ')" \
		"cd test/alerts && $(GOTEST) -short ." \
		"cd test/release && PERFAGENT_BINARY=$(CURDIR)/$(BIN) $(GOTEST) ." \
		"cd test/chart && PERFAGENT_BINARY=$(CURDIR)/$(BIN) $(GOTEST) ." \
		"bash test/fuzz.sh $(FUZZ_INPUTS)" \
		"$(STEP) e2e" \
		"$(STEP) e2e E2E_BACKEND=syscall" \
		$(if $(filter vm,$(SKIP)),,"bash test/vm/e2e.sh $(VM_CELLS)")

.PHONY: test-vm
test-vm: ## the end-to-end tests in virtual machines: every kernel with each of its backends
	bash test/vm/e2e.sh

.PHONY: fuzz
fuzz: ## every fuzz target for longer than make test has it
	@$(GO) build -o bin/tally ./test/tally
	bin/tally "bash test/fuzz.sh $(FUZZ_INPUTS_LONG)"

.PHONY: e2e
e2e: build ## the end-to-end tests on this host; E2E_BACKEND forces the hooks, and leaves out what is behind them
ifeq ($(AS_ROOT),)
	@PERFAGENT_BINARY=$(CURDIR)/$(BIN) PERFAGENT_BACKEND=$(E2E_BACKEND) \
		$(GOTEST) -timeout 10m -parallel $(E2E_PARALLEL) $(if $(E2E_BACKEND),-skip '$(NOT_FORCED)') ./test/e2e
else
	@$(GO) test -c -o bin/e2e.test ./test/e2e
	@cd test/e2e && $(AS_ROOT) PERFAGENT_BINARY=$(CURDIR)/$(BIN) PERFAGENT_BACKEND=$(E2E_BACKEND) \
		$(CURDIR)/bin/e2e.test -test.v -test.timeout 10m -test.parallel $(E2E_PARALLEL) $(if $(E2E_BACKEND),-test.skip '$(NOT_FORCED)')
endif

.PHONY: accuracy
accuracy: build ## what the agent reports against the clocks of clients and servers, and of resources against /proc and sysstat
	@status=0; \
	$(AS_ROOT) env PERFAGENT_BINARY=$(CURDIR)/$(BIN) $(GO) run ./test/accuracy || status=1; \
	$(AS_ROOT) env PERFAGENT_BINARY=$(CURDIR)/$(BIN) $(GO) run ./test/resources || status=1; \
	exit $$status

.PHONY: bench-overhead
bench-overhead: build ## what the agent costs: no agent, empty programs, full agent
	@status=0; \
	$(AS_ROOT) env PERFAGENT_BINARY=$(CURDIR)/$(BIN) $(GO) run ./test/overhead || status=1; \
	bash test/vm/bench.sh || status=1; \
	exit $$status

.PHONY: bench
bench: ## Go micro-benchmarks
	$(GO) test -run '^$$' -bench . -benchmem \
		./internal/http ./internal/route ./internal/analytics ./internal/trace ./internal/export ./internal/web ./internal/probes ./internal/host ./internal/pipeline ./internal/alert

.PHONY: bench-history
bench-history: ## the local history: bytes, memory, processor time and queries of 200 endpoints over 7 days
	$(GO) run ./test/history

# Where the scorers of bench-analytics and their data are.
BENCH_DATA ?= ../shared/bench

.PHONY: bench-analytics
bench-analytics: build ## how good the conclusions are: anomalies, changes, trends, correlations, causes, forecasts (BENCH_DATA)
	@PERFAGENT_BINARY=$(CURDIR)/$(BIN) $(GO) run ./test/analytics $(BENCH_DATA)

# make record-faults: how many recordings of each fault, and of which; empty: all.
RUNS ?= 10
FAULTS ?=

.PHONY: record-faults
record-faults: ## record what is missing of the fault pack (docs/faults.md); needs root, nginx, iproute2 and an hour
	$(GO) build -pgo=off -o bin/faults ./test/faults
	$(AS_ROOT) bin/faults -runs $(RUNS) -faults "$(FAULTS)"

.PHONY: test-faults
test-faults: ## replay the fault pack: what is found in time, with which cause, and false alarms
	cd cmd/perfagent && $(GO) test -pgo=off -vet=off -count=1 -run 'TestFaults' -v . -args -faults.all -faults.verbose | grep -v '^=== '

.PHONY: test-durability
test-durability: ## the local history against kills, damage, failing and full disks, clocks that jump: 200 rounds
	$(GO) test ./internal/history -run Durability -count=1 -timeout 15m -args -history.rounds=200

.PHONY: test-alerts
test-alerts: ## alert rules against Prometheus' own (10,000), 200 outages against the burn-rate formula, seven quiet days
	cd test/alerts && $(GO) test -v -count=1 -timeout 60m . -args -alerts.rules=10000 -alerts.outages=200

.PHONY: generate
generate: ## compile bpf/ for both architectures; needs clang, llvm-strip and libbpf's headers
	clang --version | head -1
	$(GO) generate ./internal/probes

.PHONY: generate-rules
generate-rules: build ## write the built-in rules to deploy/prometheus/ and into the Helm chart
	$(BIN) rules > deploy/prometheus/perfagent-alerts.yml
	cp deploy/prometheus/perfagent-alerts.yml deploy/helm/perfagent/files/

.PHONY: generate-manifests
generate-manifests: build ## render deploy/kubernetes/ and the chart's examples from the chart
	cd test/chart && PERFAGENT_BINARY=$(CURDIR)/$(BIN) $(GO) test -pgo=off -count=1 -run TestManifests . -args -chart.update

.PHONY: release
release: ## packages, image, chart, bills of materials and checksums of this commit in bin/release; needs Go and git only
	cd test/release && $(GO) run -pgo=off .

.PHONY: release-check
release-check: ## make the release twice, the second time in another place and without Go's cache: are both the same?
	@other=$$(mktemp -d); trap 'chmod -R u+w "$$other"; rm -rf "$$other"' EXIT
	$(MAKE) release
	git clone -q . "$$other/perfagent"
	cd "$$other/perfagent/test/release" && GOCACHE=$$other/cache $(GO) run -pgo=off . >/dev/null
	diff bin/release/SHA256SUMS "$$other/perfagent/bin/release/SHA256SUMS"
	echo "two builds of this commit are the same"

.PHONY: generate-check
generate-check: ## regenerate and compare with what is committed, byte for byte
	@before=$$(mktemp -d); trap 'rm -rf "$$before"' EXIT
	cp internal/probes/{traffic,host}_*_bpfel.* "$$before/"
	$(MAKE) generate
	for f in internal/probes/{traffic,host}_*_bpfel.*; do
		cmp "$$f" "$$before/$${f##*/}" || { echo "$$f differs: was it generated with this clang, and committed?"; exit 1; }
	done
	! git rev-parse --git-dir >/dev/null 2>&1 || git diff --exit-code --stat -- internal/probes/'*_bpfel.*'
	echo "the committed objects are what $$(clang --version | head -1) makes of bpf/"

.PHONY: format-check
format-check:
	@wrong=$$(gofmt -l cmd internal test vagrant); if [ -n "$$wrong" ]; then echo "gofmt -w $$wrong"; exit 1; fi

# Where Node and its npm are, the dashboard is built with the packages of package-lock.json, which Node keeps in node_modules.
DASHBOARD := internal/web/dashboard
NODE_MODULES := $(DASHBOARD)/node_modules/.package-lock.json

$(NODE_MODULES): $(DASHBOARD)/package-lock.json
	@cd $(DASHBOARD) && npm ci --no-fund --no-audit && touch node_modules/.package-lock.json

.PHONY: dashboard
dashboard: $(NODE_MODULES) ## build internal/web/dashboard/dist from its sources; needs Node with npm
	cd $(DASHBOARD) && node build.mjs

.PHONY: dashboard-check
dashboard-check: ## build the dashboard and compare with what is committed, byte for byte; without npm it says that it could not
	@command -v npm >/dev/null || { echo "npm is not installed: the dashboard was not built"; exit 0; }
	@before=$$(mktemp -d); trap 'rm -rf "$$before"' EXIT
	cp $(DASHBOARD)/dist/* "$$before/"
	$(MAKE) dashboard
	diff -r $(DASHBOARD)/dist "$$before" || { echo "dist differs: was it built with make dashboard, and committed?"; exit 1; }
	! git rev-parse --git-dir >/dev/null 2>&1 || test -z "$$(git status --porcelain -- $(DASHBOARD)/dist)"
	echo "the committed dashboard is what its sources give"

.PHONY: test-web
test-web: build $(NODE_MODULES) ## the dashboard in a headless Chromium, of a real agent: pages, keys, accessibility, hostile text, restarts
	@$(AS_ROOT) env PERFAGENT_BINARY=$(CURDIR)/$(BIN) node --test --test-concurrency=1 $(DASHBOARD)/test/pages.test.mjs

.PHONY: test-tui
test-tui: build ## top, trace and the other commands on terminals, and completion in shells; needs root, tmux, zsh and fish
	$(GO) test -c -pgo=off -vet=off -o bin/tui.test ./test/tui
	@cd test/tui && $(AS_ROOT) env PERFAGENT_BINARY=$(CURDIR)/$(BIN) PERFAGENT_TUI_ALL=1 $(CURDIR)/bin/tui.test -test.v -test.parallel 4 -test.timeout 10m

# Where make screenshots writes to.
SCREENSHOTS ?= bin/screenshots

.PHONY: screenshots
screenshots: build $(NODE_MODULES) ## pictures of every page of the dashboard, light and dark, wide and narrow (SCREENSHOTS)
	@$(AS_ROOT) env PERFAGENT_BINARY=$(CURDIR)/$(BIN) node $(DASHBOARD)/test/screenshots.mjs $(SCREENSHOTS)

.PHONY: bench-web
bench-web: build $(NODE_MODULES) ## the dashboard's size, and when it is painted with 2,000 endpoints
	@$(AS_ROOT) env PERFAGENT_BINARY=$(CURDIR)/$(BIN) node $(DASHBOARD)/test/bench.mjs

.PHONY: lint
lint: format-check ## gofmt and go vet; golangci-lint, shellcheck and (as advice) clang-format where installed
	@$(GO) vet -pgo=off ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run ./...; else echo "golangci-lint is not installed"; fi
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run deploy/packaging/*.sh test/*.sh test/vm/*.sh vagrant/*.sh vagrant/demo/*.sh; fi
	@if command -v clang-format >/dev/null; then clang-format --dry-run bpf/*.c bpf/*.h; fi

.PHONY: build-arm64
build-arm64: ## build bin/perfagent-arm64
	GOARCH=arm64 $(BUILD) -o $(BIN)-arm64 ./cmd/perfagent

# Without the profile, for which everything would be compiled a second time.
.PHONY: check-arm64
check-arm64: ## does everything compile for arm64, and pass go vet?
	GOARCH=arm64 CGO_ENABLED=0 $(GO) build -pgo=off -o /dev/null ./cmd/perfagent
	GOARCH=arm64 CGO_ENABLED=0 $(GO) vet -pgo=off ./...

.PHONY: clean
clean: ## remove what was built
	rm -rf bin

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
