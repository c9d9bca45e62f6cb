#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes golden containers of the present format: make.sh BUILD-FOLDER
# For a new format under new names (golden.h); those that are released never change.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 BUILD-FOLDER" >&2; exit 2; }
build=$(cd "$1" && pwd)
ninja -C "$build" tests/golden/golden-make
cd "$(dirname "$0")"
exec "$build/tests/golden/golden-make"
