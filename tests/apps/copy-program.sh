#!/bin/sh
# Copies the program $1 into the folder $2, with the shared libraries that it needs.
set -eu
mkdir -p "$2"
cp -L "$1" "$2/"
# Where the loader looks for them, links followed.
for library in $(ldd "$1" | grep -o '/[^ ]*'); do
	mkdir -p "$2$(dirname "$library")"
	cp -L "$library" "$2$library"
done
