# What lab.sh needs to know of arm64: QEMU emulates EL2 with a GICv3, so that KVM runs in L1.
arch_kernel_names='Image-*.gz'
arch_append="console=ttyAMA0"
arch_deb=arm64
arch_tools_suite=${VIOMMU_LAB_SUITE:-trixie}
arch_cc=aarch64-linux-gnu-gcc
[ "$(uname -m)" != aarch64 ] || arch_cc=${CC:-gcc}
# The first release of Debian whose Node.js is new enough.
arch_suite=${VIOMMU_LAB_SUITE:-trixie}

arch_packages=(nodejs busybox-static)

arch_fetch() {
  [ -e "$dir/packages/usr/bin/node" ] || lab_packages "$arch_suite" arm64 "$dir/packages" "${arch_packages[@]}" || die "packages for arm64 cannot be had from $arch_suite"
}

arch_peer=qemu-system-aarch64
arch_peer_loader=usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1
arch_peer_libraries=usr/lib/aarch64-linux-gnu
# Its accelerated SMMU is told of by ACPI alone, for which it needs a firmware.
arch_fetch_peer() { [ -e "$dir/peer/usr/share/qemu-efi-aarch64/QEMU_EFI.fd" ] || lab_packages "${VIOMMU_LAB_PEER_SUITE:-testing}" arm64 "$dir/peer" qemu-system-arm qemu-efi-aarch64 || die "QEMU for arm64 cannot be had"; }

# Node.js with its libraries, and busybox.
arch_fill() {
  local root=$1
  cp "$dir/packages/usr/bin/busybox" "$dir/packages/usr/bin/node" "$root/bin/"
  cp -a "$dir/packages/usr/lib/." "$root/usr/lib/"
  # Some packages still have files outside of usr.
  [ ! -d "$dir/packages/lib" ] || [ -L "$dir/packages/lib" ] || cp -a "$dir/packages/lib/." "$root/usr/lib/"
  mkdir -p "$root/usr/share"
  for folder in nodejs node_modules; do [ ! -e "$dir/packages/usr/share/$folder" ] || cp -a "$dir/packages/usr/share/$folder" "$root/usr/share/"; done
}

# npm installs the binary of the architecture that it runs on; the other comes as its own package.
arch_koffi() {
  local modules=$1 package=@koromix/koffi-linux-arm64 version
  [ ! -e "$modules/$package" ] || return 0
  version=$(sed -n 's/.*"version": *"\([^"]*\)".*/\1/p' "$modules/koffi/package.json" | head -1)
  ls "$dir"/koromix-koffi-linux-arm64-"$version".tgz >/dev/null 2>&1 || (cd "$dir" && npm pack --silent "$package@$version" >/dev/null) || die "$package@$version cannot be had from npm"
  mkdir -p "$modules/$package"
  tar xzf "$dir/koromix-koffi-linux-arm64-$version.tgz" -C "$modules/$package" --strip-components=1
}

# Uncompressed: L1 is slow.
arch_kernel() { gzip -cdf "$1" >"$2"; }
arch_qemu() { qemu=("${QEMU_AARCH64:-qemu-system-aarch64}" -M virt,virtualization=on,gic-version=3 -cpu "${VIOMMU_LAB_CPU:-neoverse-n1}"); }
