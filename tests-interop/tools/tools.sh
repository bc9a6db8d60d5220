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
    flags=
    case $module in
      ./*)
        # Kubernetes replaces its own parts, so a module here names them all.
        build=$here/$module
        grep -qF " $version" "$build/go.mod" || { echo "tools.sh: $build/go.mod has no $version" >&2; exit 2; }
        ;;
      *)
        # `go install PACKAGE@VERSION` asks for lists of versions that the module proxy does not have of every module.
        build=$fresh/module
        mkdir "$build"
        printf 'module build\n\ngo 1.24\n\nrequire %s %s\n' "$module" "$version" >"$build/go.mod"
        printf '//go:build tools\n\npackage build\n\nimport _ "%s"\n' "$package" >"$build/tools.go"
        flags=-mod=mod
        ;;
    esac
    # Without its version Kubernetes calls itself v0.0.0. Tests run meanwhile: they go first.
    (cd "$build" && GOFLAGS="$flags -trimpath -buildvcs=false" CGO_ENABLED=0 GOTOOLCHAIN=local nice -n 5 \
      go build -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" -o "$fresh/$name" "$package")
    rm -rf "$fresh/module"
    chmod 755 "$fresh"
    mv -T "$fresh" "$directory" 2>/dev/null || rm -rf "$fresh"
    trap - EXIT
  fi
  echo "$directory/$name"
done
