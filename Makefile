# Each target does all of its own set-up on a fresh machine. `make` alone lists them.
.PHONY: help setup demo test lint bench bench-datastore matrix fuzz
SHELL := /bin/bash
# How long `make fuzz` runs each target, in seconds.
FUZZ_SECONDS ?= 60

help: ## this list
	@echo 'make TARGET, where TARGET is one of'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## install what everything below needs (apt and cargo; says what it installs, quiet when nothing is to do)
	@scripts/setup all

demo: ## build release, bring up two hosts behind a ToR pair, show policy and BGP at work, take it all down (root)
	@scripts/setup test
	@cargo build --release --bin cleat --bin netlab --bin cleat-bench
	@$(SUDO) target/release/netlab demo

test: ## all tests: pure, kernel, fuzz corpora, and the lab with BIRD, FRR, GoBGP and etcd (root)
	@scripts/setup test
	@.ci/run test

lint: ## rustfmt, clippy, documentation, pure crates stay pure, licences, advisories
	@scripts/setup all
	@.ci/run lint

bench: ## cleat beside plain forwarding and the iptables dataplanes, interleaved, as ratios (root); then the datastore
	@scripts/setup all
	@cargo build --release --bin cleat --bin netlab --bin cleat-bench
	@$(SUDO) target/release/cleat-bench run --at-most crr-pod=1.05,rr-pod=1.00,udp-pod=0.95,crr-pod6=1.05,rr-pod6=1.00,udp-pod6=0.95
	@$(MAKE) --no-print-directory bench-datastore

bench-datastore: ## label changes, decoding, the last good state and a large etcd, each with its goal
	@scripts/setup test
	@cargo bench --quiet -p cleat-datastore --bench speed

matrix: ## load, attach and test-run the eBPF programs on Debian's 5.10, 6.1, 6.12 and newest kernels in QEMU
	@scripts/setup all
	@scripts/matrix

fuzz: ## look for inputs that break the parsers, FUZZ_SECONDS (60) for each target
	@scripts/setup test
	@scripts/fuzz $(FUZZ_SECONDS)

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)
