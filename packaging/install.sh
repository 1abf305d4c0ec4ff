#!/bin/sh
# Puts pg_idempotent into a Postgres:   ./install.sh [/path/to/pg_config]
# DESTDIR, if it is set, comes before every path.
#
# Each file is written under a name of its own and then renamed. A server that runs goes on with the library that it has loaded until it is
# restarted. To write into that file, as cp does, would crash the server.
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
pg_config=${1:-pg_config}
command -v "$pg_config" >/dev/null || {
  echo "error: there is no $pg_config. Name your Postgres' own: $0 /path/to/pg_config" >&2
  exit 1
}
major=$("$pg_config" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
built_for=$(cat "$here/MAJOR")
[ "$major" = "$built_for" ] || {
  echo "error: these files are for Postgres $built_for, and $pg_config is of Postgres $major" >&2
  exit 1
}

put() {  # put FILE DIRECTORY MODE
  target=${DESTDIR:-}$2/$(basename "$1")
  install -D -m "$3" "$1" "$target.new"
  mv -f "$target.new" "$target"
  echo "    $target"
}

# The library first: with new scripts and an old library CREATE EXTENSION would fail.
for file in "$here"/lib/*; do
  put "$file" "$("$pg_config" --pkglibdir)" 755
done
for file in "$here"/extension/*; do
  put "$file" "$("$pg_config" --sharedir)/extension" 644
done
