#!/bin/sh
# Puts Debian's haproxy into the folder $1, with the shared libraries that it needs.
set -eu
PATH=$PATH:/usr/sbin
exec "$(dirname "$(readlink -f "$0")")/../copy-program.sh" "$(command -v haproxy)" "$1"
