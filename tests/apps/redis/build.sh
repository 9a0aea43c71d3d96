#!/bin/sh
# Puts Debian's redis-server into the folder $1, with the shared libraries that it needs.
set -eu
server=$(readlink -f "$(command -v redis-server)")
mkdir -p "$1"
cp "$server" "$1/redis-server"
# Where the loader looks for them, links followed.
for library in $(ldd "$server" | grep -o '/[^ ]*'); do
	mkdir -p "$1$(dirname "$library")"
	cp -L "$library" "$1$library"
done
