# Everything runs from the root, over every module that go.work names.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
MAKEFLAGS += --no-print-directory

# How long `make soak` fuzzes each target.
FUZZTIME ?= 60s
# How many rounds `make bench` measures, and how often `make bench-sql` runs each benchmark.
BENCHROUNDS ?= 24
BENCHCOUNT ?= 6

tools := $(CURDIR)/.bin
modules = $$(go list -m -f '{{.Dir}}')

.PHONY: help
help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: test
test: ## run every module's tests with the race detector, real browser included
	@scripts/services
	source .cache/services.env
	for dir in $(modules); do
		echo "== go test -race: .$${dir#$(CURDIR)}"
		# Those of integration keep a machine busy by themselves, and some mind their pace.
		go -C "$$dir" test -race -timeout 20m $$([[ $$dir != */integration ]] || echo -p 1) ./...
	done
	echo "== allocations, which the race detector hides"
	go test -count 1 -run DoesNotAllocate ./...

.PHONY: lint
lint: $(tools)/.built ## check format, vet, linters, dependencies and go.mod files
	@unformatted=$$(gofmt -l .)
	if [[ -n $$unformatted ]]; then
		echo "run gofmt -w on:" $$unformatted >&2
		exit 1
	fi
	scripts/check-deps
	for dir in $(modules); do
		echo "== lint: .$${dir#$(CURDIR)}"
		go -C "$$dir" vet ./...
		(cd "$$dir" && $(tools)/golangci-lint run ./...)
		GOWORK=off go -C "$$dir" mod tidy -diff
	done

.PHONY: vuln
vuln: $(tools)/.built ## look for known vulnerabilities in what the code calls
	@for dir in $(modules); do
		echo "== govulncheck: .$${dir#$(CURDIR)}"
		$(tools)/govulncheck -C "$$dir" ./...
	done

.PHONY: bench
bench: ## measure this library beside its peers, in memory and beside SELECTs, and keep it in bench/RESULTS.md (BENCHROUNDS=24)
	@BENCHROUNDS=$(BENCHROUNDS) scripts/bench

.PHONY: bench-sql
bench-sql: $(tools)/.built ## run the benchmarks of every database, with the servers that the tests use (BENCHCOUNT=6)
	@mkdir -p .cache
	scripts/services
	source .cache/services.env
	go -C integration test -run '^$$' -bench SQL -benchtime 250ms -count $(BENCHCOUNT) -timeout 0 ./bench | tee .cache/bench-sql.txt
	$(tools)/benchstat -row /db,/op,/workers .cache/bench-sql.txt

.PHONY: screenshots
screenshots: ## take pictures of every page, in .cache/screenshots
	@scripts/services
	rm -rf .cache/screenshots
	SCREENSHOTS=$(CURDIR)/.cache/screenshots go -C integration test -count 1 -run 'TestEveryPage|TestEveryLanguage|TestPagesFit' .
	echo "$$(ls .cache/screenshots | wc -l) pictures are in .cache/screenshots"

.PHONY: soak
soak: ## fuzz every target for FUZZTIME=60s, then run for long what takes its time
	@for pkg in $$(go list ./... ./dpop/...); do
		for target in $$(go test -list '^Fuzz' "$$pkg" | grep '^Fuzz' || true); do
			echo "== fuzz $$pkg $$target for $(FUZZTIME)"
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$pkg"
		done
	done
	echo "== random tests with DEVICEGRANT_SOAK=1"
	DEVICEGRANT_SOAK=1 go test -race -count 1 -timeout 0 -run Random ./...
	scripts/services
	source .cache/services.env
	echo "== databases with DEVICEGRANT_SOAK=1"
	DEVICEGRANT_SOAK=1 go -C integration test -count 1 -timeout 0 -p 1 ./sqlstore ./crash

# The tools' versions are pinned in tools/go.mod, which is kept out of go.work.
$(tools)/.built: tools/go.mod tools/go.sum
	@echo "== building tools"
	GOWORK=off GOBIN=$(tools) go -C tools install tool
	touch $@
