#!/bin/sh
# Builds the named tools of tools.tsv once, at their pinned versions, outside the tree:
#   tools.sh crane regctl      builds the missing ones, and prints the path of each
# Their paths are ${LANDFALL_CACHE:-~/.cache/landfall}/tools/NAME-VERSION/NAME. A program whose source is in this
# directory has a hash of the source behind its version, and is built anew when the source changes.
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
  source=$here/$module/${package#*/}
  case $module in
    ./*)
      if [ -d "$source" ]; then
        directory=$directory-$(cat "$here/$module/go.mod" "$here/$module/go.sum" "$source"/*.go | sha256sum | cut -c1-12)
      fi
      ;;
  esac
  if [ ! -x "$directory/$name" ]; then
    echo "building $name: $package@$version" >&2
    # Built in a temporary directory and renamed: parallel builds do not collide, a failed one leaves nothing.
    fresh=$(mktemp -d "$tools/.$name.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    flags=
    case $module in
      ./*)
        # Kubernetes replaces its own parts, so a module in this directory lists them all.
        build=$here/$module
        grep -qF " $version" "$build/go.mod" || { echo "tools.sh: $build/go.mod has no $version" >&2; exit 2; }
        ;;
      *)
        # A module of its own needs only the pinned version. `go install PACKAGE@VERSION` also needs a list of versions.
        build=$fresh/module
        mkdir "$build"
        printf 'module build\n\ngo 1.24\n\nrequire %s %s\n' "$module" "$version" >"$build/go.mod"
        printf '//go:build tools\n\npackage build\n\nimport _ "%s"\n' "$package" >"$build/tools.go"
        flags=-mod=mod
        ;;
    esac
    # Without -X, Kubernetes reports v0.0.0. `nice`, since tests may run at the same time.
    (cd "$build" && GOFLAGS="$flags -trimpath -buildvcs=false" CGO_ENABLED=0 GOTOOLCHAIN=local nice -n 5 \
      go build -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" -o "$fresh/$name" "$package")
    rm -rf "$fresh/module"
    chmod 755 "$fresh"
    mv -T "$fresh" "$directory" 2>/dev/null || rm -rf "$fresh"
    trap - EXIT
  fi
  echo "$directory/$name"
done
