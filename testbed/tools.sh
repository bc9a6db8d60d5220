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
  module=$(echo "$line" | cut -f2)
  version=$(echo "$line" | cut -f3)
  package=$(echo "$line" | cut -f4)
  directory=$tools/$name-$version
  if [ ! -x "$directory/$name" ]; then
    echo "building $name: $package@$version" >&2
    # A directory of this process alone, renamed into place: two builds at once do no harm, a broken one leaves nothing.
    fresh=$(mktemp -d "$tools/.$name.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    # `go install PACKAGE@VERSION` asks for lists of versions that the module proxy does not have of every module.
    printf 'module build\n\nrequire %s %s\n' "$module" "$version" >"$fresh/go.mod"
    printf '//go:build tools\n\npackage build\n\nimport _ "%s"\n' "$package" >"$fresh/tools.go"
    (cd "$fresh" && GOFLAGS='-mod=mod -trimpath -buildvcs=false' CGO_ENABLED=0 GOTOOLCHAIN=local go build -o "$name" "$package")
    rm "$fresh"/go.* "$fresh/tools.go"
    chmod 755 "$fresh"
    mv -T "$fresh" "$directory" 2>/dev/null || rm -rf "$fresh"
    trap - EXIT
  fi
  echo "$directory/$name"
done
