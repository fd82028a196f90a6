# What lab.sh needs to know of x86: QEMU emulates AMD's virtualization (SVM), so that kvm-amd runs in L1. QEMU 7.2
# does not do it well enough: a guest's access to a device right after a page fault of its own never ends. So the
# QEMU of Debian's testing is unpacked, or QEMU_X86_64 names another.
arch_kernel_names='bzImage-*[0-9]'
arch_deb=amd64
arch_tools_suite=${VIOMMU_LAB_SUITE:-testing}
arch_cc=${CC:-gcc}
arch_append="console=ttyS0"
[ "$(uname -m)" = x86_64 ] || arch_cc=x86_64-linux-gnu-gcc

arch_fetch() {
  [ "$(uname -m)" = x86_64 ] || die "the x86 lab is built on x86-64: its Node.js is this machine's"
  [ -e "$dir/packages/bin/busybox" ] || [ -e "$dir/packages/usr/bin/busybox" ] || {
    mkdir -p "$dir/packages" "$dir/debs"
    (cd "$dir/debs" && apt-get -qq download busybox-static) || die "the package busybox-static cannot be had"
    dpkg-deb --extract "$dir"/debs/busybox-static*.deb "$dir/packages"
  }
  [ -n "${QEMU_X86_64:-}" ] || [ -e "$dir/qemu/usr/bin/qemu-system-x86_64" ] || lab_packages "${VIOMMU_LAB_SUITE:-testing}" amd64 "$dir/qemu" qemu-system-x86 seabios
}

arch_peer=qemu-system-x86_64
arch_peer_loader=usr/lib64/ld-linux-x86-64.so.2
arch_peer_libraries=usr/lib/x86_64-linux-gnu
arch_fetch_peer() { [ -e "$dir/peer/usr/bin/$arch_peer" ] || lab_packages "${VIOMMU_LAB_PEER_SUITE:-testing}" amd64 "$dir/peer" qemu-system-x86 seabios || die "QEMU for x86 cannot be had"; }

# Busybox, and this machine's Node.js with its libraries.
arch_fill() {
  local root=$1 node
  cp "$(ls "$dir"/packages/bin/busybox "$dir"/packages/usr/bin/busybox 2>/dev/null | head -1)" "$root/bin/busybox"
  node=$(readlink -f "$(command -v node)")
  cp "$node" "$root/bin/node"
  ldd "$node" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root/$(dirname "$library")"
    cp -L "$library" "$root/$library"
  done
}

arch_koffi() { :; }
arch_kernel() { cp "$1" "$2"; chmod 644 "$2"; }
arch_qemu() {
  if [ -n "${QEMU_X86_64:-}" ]; then
    qemu=("$QEMU_X86_64")
  else
    lab_unpacked "$dir/qemu" qemu-system-x86_64 seabios
    qemu=("${unpacked[@]}")
  fi
  qemu+=(-M q35 -cpu "${VIOMMU_LAB_CPU:-max,la57=off}")
}
