#!/bin/sh
# Builds the named tools of tools.tsv once, at their pinned versions, outside the tree:
#   tools.sh crane regctl      builds what is missing, prints each one's path
# They lie in ${LANDFALL_CACHE:-~/.cache/landfall}/tools/NAME-VERSION/NAME.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tools=${LANDFALL_CACHE:-$HOME/.cache/landfall}/tools
mkdir -p "$tools"
for name in "$@"; do
  line=$(grep "^$name	" "$here/tools.tsv") || { echo "tools.sh: \`$name\` is not in tools.tsv" >&2; exit 2; }
  version=$(echo "$line" | cut -f2)
  package=$(echo "$line" | cut -f3)
  directory=$tools/$name-$version
  if [ ! -x "$directory/$name" ]; then
    echo "building $package@$version" >&2
    # A directory of this process alone, renamed into place: two builds at once do no harm, a broken one leaves nothing.
    fresh=$(mktemp -d "$tools/.$name.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    GOBIN=$fresh GOFLAGS=-trimpath CGO_ENABLED=0 GOTOOLCHAIN=local go install "$package@$version"
    chmod 755 "$fresh"
    mv -T "$fresh" "$directory" 2>/dev/null || rm -rf "$fresh"
    trap - EXIT
  fi
  echo "$directory/$name"
done
