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
generated := $(target)/release/generated
bindir = $(DESTDIR)$(PREFIX)/bin
sharedir = $(DESTDIR)$(PREFIX)/share/nagaya
docdir = $(DESTDIR)$(PREFIX)/share/doc/nagaya
libdir = $(DESTDIR)$(PREFIX)/lib
mandir = $(DESTDIR)$(PREFIX)/share/man/man1
bash_dir = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zsh_dir = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fish_dir = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
bus_services_dir = $(DESTDIR)$(PREFIX)/share/dbus-1/system-services
polkit_actions_dir = $(DESTDIR)/usr/share/polkit-1/actions
# Bus, polkit, udev and network managers do not look below every prefix.
ifeq ($(PREFIX),/usr)
udev_dir = $(DESTDIR)/usr/lib/udev/rules.d
networkd_dir = $(DESTDIR)/usr/lib/systemd/network
manager_dir = $(DESTDIR)/usr/lib/NetworkManager/conf.d
bus_policy_dir = $(DESTDIR)/usr/share/dbus-1/system.d
polkit_rules_dir = $(DESTDIR)/usr/share/polkit-1/rules.d
else
udev_dir = $(DESTDIR)/etc/udev/rules.d
networkd_dir = $(DESTDIR)/etc/systemd/network
manager_dir = $(DESTDIR)/etc/NetworkManager/conf.d
bus_policy_dir = $(DESTDIR)/etc/dbus-1/system.d
polkit_rules_dir = $(DESTDIR)/etc/polkit-1/rules.d
endif
units := $(notdir $(wildcard systemd/*.service systemd/*.socket systemd/*.slice systemd/*.timer))
user_units := $(notdir $(wildcard systemd/user/*.service systemd/user/*.timer))
# What names the program by its path names it where it was installed.
installed = sed 's,/usr/bin/nagaya,$(PREFIX)/bin/nagaya,g'
put = install -m 0644 /dev/stdin

.PHONY: build deps generated demo test test-vm lint bench deb rpm install uninstall clean help
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

test-vm: deb ## Run the scenarios in QEMU guests (as root; VM="--only 00 --verbose" for options)
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

generated: build
	@rm -rf $(generated)
	@$(bin) generate $(generated)
	@gzip -9n $(generated)/man/*.1

deb: generated ## Make a Debian package in target/debian
	@packaging/tools.sh "$(target)" cargo-deb 3.8.0
	PATH="$(abspath $(target))/tools/bin:$$PATH" cargo deb --no-build --no-strip

rpm: generated ## Make an RPM package in target/generate-rpm
	@packaging/tools.sh "$(target)" cargo-generate-rpm 0.21.1
	PATH="$(abspath $(target))/tools/bin:$$PATH" cargo generate-rpm

install: ## Install what was built below PREFIX (/usr/local), staged in DESTDIR
	@[ -x $(bin) ] || { echo "nothing is built: run 'make' first" >&2; exit 1; }
	install -D -m 0755 $(bin) $(bindir)/nagaya
	install -d -m 0755 $(sharedir) $(docdir) $(mandir) $(bash_dir) $(zsh_dir) $(fish_dir)
	@if [ -d templates ]; then \
	  rm -rf $(sharedir)/templates && cp -R templates $(sharedir)/ && chmod -R u=rwX,go=rX $(sharedir)/templates; \
	fi
	install -m 0644 LICENSE $(wildcard README.md) $(wildcard docs/*.md) $(docdir)/
	@rm -rf $(generated) && $(bin) generate $(generated) && gzip -9n $(generated)/man/*.1
	install -m 0644 $(generated)/man/*.1.gz $(mandir)/
	install -m 0644 $(generated)/bash/nagaya $(bash_dir)/
	install -m 0644 $(generated)/zsh/_nagaya $(zsh_dir)/
	install -m 0644 $(generated)/fish/nagaya.fish $(fish_dir)/
	install -d -m 0755 $(addprefix $(libdir)/,systemd/system systemd/user sysusers.d tmpfiles.d sysctl.d)
	install -d -m 0755 $(bus_policy_dir) $(bus_services_dir) $(polkit_actions_dir) $(polkit_rules_dir)
	@for unit in $(units); do $(installed) systemd/$$unit | $(put) $(libdir)/systemd/system/$$unit; done
	@for unit in $(user_units); do $(installed) systemd/user/$$unit | $(put) $(libdir)/systemd/user/$$unit; done
	@$(installed) packaging/dbus/org.nagaya.Host1.service | $(put) $(bus_services_dir)/org.nagaya.Host1.service
	install -m 0644 packaging/sysusers.d/nagaya.conf $(libdir)/sysusers.d/
	install -m 0644 packaging/tmpfiles.d/nagaya.conf $(libdir)/tmpfiles.d/
	install -m 0644 packaging/sysctl.d/60-nagaya.conf $(libdir)/sysctl.d/
	install -m 0644 packaging/dbus/org.nagaya.Host1.conf $(bus_policy_dir)/
	install -m 0644 packaging/polkit/org.nagaya.Host1.policy $(polkit_actions_dir)/
	install -m 0644 packaging/polkit/50-nagaya.rules $(polkit_rules_dir)/
	install -d -m 0755 $(udev_dir) $(networkd_dir) $(manager_dir)
	install -m 0644 packaging/udev/81-nagaya.rules $(udev_dir)/
	install -m 0644 packaging/networkd/05-nagaya.network packaging/networkd/05-nagaya-names.network $(networkd_dir)/
	install -m 0644 packaging/NetworkManager/nagaya.conf $(manager_dir)/

uninstall: ## Remove what install put there; containers and settings stay
	rm -f $(bindir)/nagaya $(bash_dir)/nagaya $(zsh_dir)/_nagaya $(fish_dir)/nagaya.fish
	rm -f $(mandir)/nagaya.1.gz $(mandir)/nagaya-*.1.gz
	rm -f $(addprefix $(libdir)/systemd/system/,$(units)) $(addprefix $(libdir)/systemd/user/,$(user_units))
	rm -f $(libdir)/sysusers.d/nagaya.conf $(libdir)/tmpfiles.d/nagaya.conf $(libdir)/sysctl.d/60-nagaya.conf
	rm -f $(bus_policy_dir)/org.nagaya.Host1.conf $(bus_services_dir)/org.nagaya.Host1.service
	rm -f $(polkit_actions_dir)/org.nagaya.Host1.policy $(polkit_rules_dir)/50-nagaya.rules
	rm -f $(udev_dir)/81-nagaya.rules $(networkd_dir)/05-nagaya.network $(networkd_dir)/05-nagaya-names.network
	rm -f $(manager_dir)/nagaya.conf
	rm -rf $(sharedir) $(docdir)

clean: ## Remove everything that was built
	cargo clean

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12
