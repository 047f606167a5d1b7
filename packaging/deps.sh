#!/usr/bin/env bash
# Makes sure of what building, running and testing need. Installs Debian packages only where some
# are missing; never installs a Rust toolchain by itself.
#
#     deps.sh [build] [run] [test] [vm]
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
toolchain=no
for part in "$@"; do
  case $part in
    build) packages+=(gcc libc6-dev libseccomp-dev pkg-config make); toolchain=yes ;;
    run) packages+=(nftables uidmap mmdebstrap passwd) ;;
    test) packages+=(attr btrfs-progs busybox-static dbus-daemon dnsmasq-base e2fsprogs iproute2 iptables iputils-ping libcap2-bin lxcfs passt procps python3 shellcheck tar tcpdump util-linux xfsprogs xz-utils zstd) ;;
    vm) packages+=(e2fsprogs git mmdebstrap openssh-client python3 qemu-system-x86 util-linux zstd) ;;
    *) echo "deps.sh: '$part' is none of build, run, test, vm" >&2; exit 2 ;;
  esac
done

# The oldest toolchain that builds this, from Cargo.toml.
wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)

rust_advice() {
  cat >&2 <<TEXT
$1
nagaya needs cargo and rustc $wanted or newer. Debian 12 has 0.66, which is too old. Install rustup:
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y
or, from Debian 13 on:
    apt-get install rustup && rustup default stable
TEXT
  exit 1
}

check_rust() {
  local program version
  for program in cargo rustc; do
    version=$("$program" --version 2>/dev/null | cut -d ' ' -f 2) || rust_advice "$program is not installed."
    if [ "$(printf '%s\n' "$wanted" "${version%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
      rust_advice "$program is $version."
    fi
  done
}

install_packages() {
  local package missing=()
  if ! command -v dpkg-query >/dev/null; then
    echo "This is not a Debian system; install what corresponds to: ${packages[*]}" >&2
    return
  fi
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    echo "Packages are missing, and only root can install them. Run:" >&2
    echo "    sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  # Package lists may be absent or old; installing says which package cannot be had.
  apt-get update -q || echo "deps.sh: package lists were not refreshed" >&2
  apt-get install -y -q --no-install-recommends "${missing[@]}"
}

install_packages
if [ "$toolchain" = yes ]; then check_rust; fi
