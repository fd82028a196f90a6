# Debian's packages without installing any: lab_packages SUITE ARCH FOLDER PACKAGE... unpacks them and what they need.
# Left out is what only a system that boots needs. The archive is the one that this machine's lists come from.
lab_packages() {
  local suite=$1 arch=$2 folder=$3 site work names
  shift 3
  site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null | { grep -v security || true; } | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }')
  [ -n "$site" ] || { echo "lab: no archive of Debian is set up (apt-get update?)" >&2; return 1; }
  work=$dir/apt-$suite-$arch
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$folder"
  chmod 755 "$work"
  : >"$work/status"
  echo "deb $site $suite main" >"$work/sources.list"
  local options=(-qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$work/lists" -o "Dir::State::status=$work/status"
    -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root -o "APT::Architecture=$arch" -o "APT::Architectures=$arch")
  apt-get "${options[@]}" update
  names=$(apt-get "${options[@]}" -y --no-install-recommends -s install "$@" | awk '/^Inst/ { print $2 }' | sed 's/:.*//' |
    grep -Ev '^(systemd.*|libsystemd-shared|udev|mount|e2fsprogs|logsave|libext2fs2.*|libss2|debconf|dracut.*|3cpio|linux-base.*|openssl-provider-legacy|perl.*|init-system-helpers|libc-gconv-modules-extra)$')
  # shellcheck disable=SC2086
  (cd "$work/debs" && apt-get "${options[@]}" download $names)
  for deb in "$work"/debs/*.deb; do dpkg-deb --extract "$deb" "$folder"; done
}

# lab_unpacked FOLDER PROGRAM [ROM-FOLDER...]: how a program of packages unpacked there is run, with its own loader and
# libraries, into the array `unpacked`. Nothing of it is installed.
lab_unpacked() {
  local tree="$1/usr" program=$2
  shift 2
  unpacked=("$tree/lib64/ld-linux-x86-64.so.2" --library-path "$tree/lib/x86_64-linux-gnu" "$tree/bin/$program")
  for roms in qemu "$@"; do unpacked+=(-L "$tree/share/$roms"); done
}
