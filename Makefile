# Needs GNU make and Go; everything else comes through the Go module proxy.
# `make race` also needs a C compiler where Go's race detector does (not macOS).

GO        ?= go
BIN       := bin
# Where `make demo` works. Empty: a new folder below the system's temporary one.
DEMO_DIR  ?=
# Passed to cmd/heft-bench.
BENCH_ARGS ?=
# Time for each fuzz target.
FUZZTIME  ?= 10s
# What `make test`, `race` and `fuzz` look at, and further flags for go test.
PKGS      ?= ./...
TESTFLAGS ?=
# The promises that `make soak` tests, as a part of their names; empty: all.
PROMISE   ?=
# The systems that `make cross` compiles for, as os/architecture.
TARGETS   ?= darwin/arm64 windows/amd64 linux/arm64
# A module of its own, so that the linter's dependencies never reach go.mod.
LINT      := $(GO) tool -modfile=internal/tools/go.mod golangci-lint

.DEFAULT_GOAL := all
.PHONY: all build test soak race vet lint vuln fmt fmt-check fix-check tidy-check demo bench fuzz cross clean help

all: build ## Same as build

build: ## Build bin/heft
	$(GO) build -trimpath -o $(BIN)/ ./cmd/heft

test: ## Run all tests
	$(GO) test $(TESTFLAGS) $(PKGS)

soak: ## Test every promise of docs/reliability.md in full (hours; PROMISE=...)
	@sh -eu -c "$$SOAK_SCRIPT"

race: ## Run the tests under the race detector
	$(GO) test -race $(TESTFLAGS) $(PKGS)

vet: ## Run go vet
	$(GO) vet $(PKGS)

vuln: ## Look for known vulnerabilities in what is used (needs the network)
	$(GO) tool -modfile=internal/tools/go.mod govulncheck ./...

lint: ## Run golangci-lint (the first run compiles it, some minutes)
	$(LINT) run

fmt: ## Format all Go files
	"$$($(GO) env GOROOT)/bin/gofmt" -l -w .

fmt-check: ## Fail if a Go file is not formatted
	@out=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .) || exit 1; \
	if [ -n "$$out" ]; then printf 'not formatted (run make fmt):\n%s\n' "$$out" >&2; exit 1; fi

fix-check: ## Fail if go fix would change a file (changes none)
	$(GO) fix -diff ./...

tidy-check: ## Fail if go.mod or go.sum is not tidy (changes none)
	$(GO) mod tidy -diff

demo: ## Train a small network, keep its checkpoints, restore one (DEMO_DIR=...)
	@GO='$(GO)' BIN='$(BIN)' DEMO_DIR='$(DEMO_DIR)' sh -eu -c "$$DEMO_SCRIPT"

bench: ## Measure sizes and speeds (BENCH_ARGS=...)
	$(GO) run ./cmd/heft-bench $(BENCH_ARGS)

fuzz: ## Run each fuzz target for FUZZTIME (10s)
	@sh -eu -c "$$FUZZ_SCRIPT"

cross: ## Compile and vet for the other systems, without cgo
	@set -eu; for target in $(TARGETS); do \
		echo "$$target"; \
		export CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/}; \
		$(GO) build ./...; \
		$(GO) vet ./...; \
	done

clean: ## Remove bin
	rm -rf $(BIN)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# go test fuzzes one target of one package at a time, so list them first. Names
# come before the "ok package" line that they belong to.
define FUZZ_SCRIPT
list=$$($(GO) test -list '^Fuzz' $(PKGS)) || { printf '%s\n' "$$list" >&2; exit 1; }
targets=$$(printf '%s\n' "$$list" | awk '/^Fuzz/ { name[n++] = $$1 } $$1 == "ok" { for (i = 0; i < n; i++) print $$2, name[i]; n = 0 }')
[ -n "$$targets" ] || { echo 'make fuzz: no fuzz target found' >&2; exit 1; }
printf '%s\n' "$$targets" | while read -r pkg name; do
	echo "== $$name ($$pkg)"
	$(GO) test $(TESTFLAGS) -run '^$$' -fuzz "^$$name\$$" -fuzztime '$(FUZZTIME)' "$$pkg" </dev/null
done
endef
export FUZZ_SCRIPT

# One line a promise, and all that go test says if one was not kept.
define SOAK_SCRIPT
log=$$(mktemp)
trap 'rm -f "$$log"' EXIT
{ HEFT_SOAK=1 $(GO) test -count=1 -v -timeout 12h -run '^TestPromise.*$(PROMISE)' $(TESTFLAGS) $(PKGS) 2>&1 || echo 'FAIL soak'; } |
	tee "$$log" | sed -n -u 's/^promise kept: //p'
if grep -q '^FAIL' "$$log"; then cat "$$log"; exit 1; fi
endef
export SOAK_SCRIPT

define DEMO_SCRIPT
say() { printf '\n== %s\n' "$$1"; }
show() { printf '$$ %s\n' "$$*"; "$$@"; }

if [ -z "$$DEMO_DIR" ]; then
	DEMO_DIR=$$(mktemp -d "$${TMPDIR:-/tmp}/heft-demo.XXXXXX")
else
	mkdir -p "$$DEMO_DIR"
fi
# Training is repeatable but the store is not empty twice: versions never change.
for used in store plain restored; do
	if [ -e "$$DEMO_DIR/$$used" ]; then
		echo "make demo: $$DEMO_DIR/$$used exists from an earlier run; give another DEMO_DIR" >&2
		exit 1
	fi
done

say 'Build'
show "$$GO" build -trimpath -o "$$BIN/" ./cmd/heft ./cmd/heft-demo

say 'Train: each epoch goes into the store, and as plain files beside it'
show "$$BIN/heft-demo" -store "$$DEMO_DIR/store" -out "$$DEMO_DIR/plain"

say 'What the store holds'
show "$$BIN/heft" --store "$$DEMO_DIR/store" ls

say 'What it costs on disk'
show "$$BIN/heft" --store "$$DEMO_DIR/store" stats

say 'Read every byte back and check its hash'
show "$$BIN/heft" --store "$$DEMO_DIR/store" verify

say 'Restore the last checkpoint'
show "$$BIN/heft" --store "$$DEMO_DIR/store" get demo/charlm "$$DEMO_DIR/restored"

say 'Compare it with the file that the trainer wrote'
last=$$(ls "$$DEMO_DIR/plain" | sed -n 's/^epoch-\([0-9][0-9]*\)$$/\1/p' | sort -n | tail -n 1)
[ -n "$$last" ] || { echo "make demo: no epoch in $$DEMO_DIR/plain" >&2; exit 1; }
show cmp "$$DEMO_DIR/plain/epoch-$$last/model.safetensors" "$$DEMO_DIR/restored/model.safetensors"
echo 'identical, byte for byte'

printf '\nEverything is still in %s\n' "$$DEMO_DIR"
endef
export DEMO_SCRIPT
