#!/usr/bin/env bash
# Installs a program of cargo's into TARGET/tools, unless that very version is there.
#
#     tools.sh TARGET CRATE VERSION
set -euo pipefail
mkdir -p "$1/tools"
tools=$(realpath "$1/tools")

# Not here: the settings of this directory, a static binary among them, are not the tools' own.
cd /
if ! cargo install --root "$tools" --list | grep -qx "$2 v$3:"; then
  CARGO_TARGET_DIR=$tools/build cargo install --locked --root "$tools" "$2@$3"
  rm -rf "$tools/build"
fi
