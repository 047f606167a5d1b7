# What there is to do with this tree. `make help` lists it.

PREFIX ?= /usr/local
DESTDIR ?=
# Tests that start containers are many processes each: more at once only wait for one another.
TEST_THREADS ?= 4

SHELL := /bin/bash
# rustup's programs come before a distribution's older ones.
export PATH := $(HOME)/.cargo/bin:$(PATH)

target := $(or $(CARGO_TARGET_DIR),target)
bin := $(target)/release/nagaya
bindir = $(DESTDIR)$(PREFIX)/bin
sharedir = $(DESTDIR)$(PREFIX)/share/nagaya
docdir = $(DESTDIR)$(PREFIX)/share/doc/nagaya

.PHONY: build deps demo test test-vm lint bench install uninstall clean help
.DEFAULT_GOAL := build

build: ## Build target/release/nagaya, a static binary (the default)
	cargo build --release --locked
	@mkdir -p $(target)/release
	@ln -f "$(target)/$$(rustc -vV | sed -n 's/^host: //p')/release/nagaya" $(bin)

deps: ## Install the Debian packages that are missing, and check the Rust toolchain
	@packaging/deps.sh build run test

demo: deps build ## Launch debian12 as web01 (as root), or start it, and show that it runs
	@if [ "$$(id -u)" != 0 ]; then echo "'make demo' changes this host: run it as root" >&2; exit 1; fi
	@set -e; \
	if ! $(bin) list --format json | grep -q '"web01"'; then \
	  $(bin) launch debian12 web01 --wait=running; \
	elif ! $(bin) exec web01 -- true >/dev/null 2>&1; then \
	  $(bin) start web01; \
	fi
	@$(bin) list
	@$(bin) exec web01 -- systemctl is-system-running --wait

test: deps ## Run every test that root can run on one machine
	@if [ "$$(id -u)" != 0 ]; then echo "the tests make namespaces and users: run 'make test' as root" >&2; exit 1; fi
	RUST_TEST_THREADS=$(TEST_THREADS) cargo test --locked

test-vm: ## Run the scenarios in QEMU guests (as root; VM="--only 00 --verbose" for options)
	@packaging/deps.sh vm
	tests/vm/run.py $(VM)

lint: ## Check formatting, clippy's warnings, and the shell scripts
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	@find . \( -path ./target -o -path ./.git -o -path ./tests/golden \) -prune -o -type f -print \
	  | while read -r file; do \
	      if head -c 80 "$$file" | head -n 1 | grep -aqE '^#!.*[/ ](ba|da)?sh( |$$)'; then echo "$$file"; fi; \
	    done | xargs -r -d '\n' shellcheck

bench: build ## Measure launch, exec, list, stop and delete (as root; BENCH="--runs 9" for options)
	tests/bench/bench.py --nagaya $(bin) $(BENCH)

install: ## Install what was built below PREFIX (/usr/local), staged in DESTDIR
	@[ -x $(bin) ] || { echo "nothing is built: run 'make' first" >&2; exit 1; }
	install -D -m 0755 $(bin) $(bindir)/nagaya
	install -d -m 0755 $(sharedir) $(docdir)
	@if [ -d templates ]; then \
	  rm -rf $(sharedir)/templates && cp -R templates $(sharedir)/ && chmod -R u=rwX,go=rX $(sharedir)/templates; \
	fi
	install -m 0644 LICENSE $(wildcard README.md) $(wildcard docs/*.md) $(docdir)/

uninstall: ## Remove what install put there; containers and settings stay
	rm -f $(bindir)/nagaya
	rm -rf $(sharedir) $(docdir)

clean: ## Remove everything that was built
	cargo clean

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12
