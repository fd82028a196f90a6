#!/usr/bin/env bash
# unpack-backport.sh SUITE PACKAGE DIR: unpacks a package of another suite of the Debian that this machine is set up
# with into DIR, installing nothing and changing no list of the machine's.
set -euo pipefail
suite=$1 package=$2 dir=$3
# The archive that most of its lists come from; none are known before the first update.
archive() {
  apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null | { grep -v security || true; } | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }'
}
site=$(archive)
if [ -z "$site" ]; then
  apt-get update -qq
  site=$(archive)
fi
[ -n "$site" ] || { echo "no archive of Debian is set up" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
echo "deb $site $suite main" >"$work/sources.list"
options=(-qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update
(cd "$work" && apt-get "${options[@]}" download "$package")
dpkg-deb --extract "$work"/*.deb "$dir"
