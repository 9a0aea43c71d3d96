#!/bin/sh
# Puts the application into the folder $1, with Node.js and the shared libraries that it needs.
set -eu
sources=$(dirname "$(readlink -f "$0")")
"$sources/../copy-program.sh" "$(command -v node)" "$1"
cp "$sources/server.js" "$1"
# Debian's Node.js reads some of its own modules at its start.
for module in acorn acorn-walk cjs-module-lexer undici; do
	if [ -d "/usr/share/nodejs/$module" ]; then
		mkdir -p "$1/usr/share/nodejs"
		cp -rL "/usr/share/nodejs/$module" "$1/usr/share/nodejs"
	fi
done
