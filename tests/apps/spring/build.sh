#!/bin/sh
# Puts the application into the folder $1, with a Java runtime cut down to what it uses and the shared
# libraries that this needs. Takes Maven, a JDK and Maven Central; leaves nothing beside the sources.
set -eu
sources=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$sources/pom.xml" "$sources/src" "$work"
mvn --batch-mode --quiet --file "$work/pom.xml" package
mkdir -p "$1"
# Unpacked it starts faster, and layers of the image stay small.
java -Djarmode=tools -jar "$work/target/spring-1.jar" extract --destination "$1/app"
jdk=$(dirname "$(dirname "$(readlink -f "$(command -v jlink)")")")
"$jdk/bin/jlink" --strip-debug --no-header-files --no-man-pages --compress=2 --output "$1/jre" \
	--add-modules java.base,java.desktop,java.instrument,java.logging,java.management,java.naming,java.security.jgss,java.sql,java.xml,jdk.unsupported
for library in $(find "$1/jre" -name '*.so' -o -name java -type f | xargs ldd 2>/dev/null |
	grep -o ' /[^ ]*' | grep -v "$1" | sort -u) $(ldd "$jdk/bin/java" | grep -o '/[^ ]*ld-linux[^ ]*'); do
	mkdir -p "$1$(dirname "$library")"
	cp -L "$library" "$1$library"
done
# Tomcat wants a place for its files.
mkdir -m 1777 "$1/tmp"
