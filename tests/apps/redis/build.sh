#!/bin/sh
# Puts Debian's redis-server into the folder $1, with the shared libraries that it needs.
set -eu
exec "$(dirname "$(readlink -f "$0")")/../copy-program.sh" "$(command -v redis-server)" "$1"
