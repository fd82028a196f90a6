# A kernel of Debian's for guests, which has what the one kept beside the project lacks (kexec_load, other pages): its image,
# the modules of disks and VFIO, and kexec-tools for it. add_debian_kernel ROOT FLAVOUR: as boot/vmlinuz-FLAVOUR and
# boot/initrd-FLAVOUR.gz, and initrd-kexec-FLAVOUR.gz with both inside. A flavour is Debian's: arm64, arm64-16k.
debian_modules=(vfio-pci vfio_iommu_type1 nvme)

# add_libraries TREE FOLDER PROGRAM: those that the program and its libraries name, from a tree of packages.
add_libraries() {
  local tree=$1 folder=$2 library
  for library in $(readelf -d "$3" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p') ld-linux-aarch64.so.1; do
    [ ! -e "$folder/$library" ] || continue
    cp -L "$tree"/usr/lib/*-linux-gnu/"$library" "$folder/" || die "$(basename "$3") needs $library"
    add_libraries "$tree" "$folder" "$folder/$library"
  done
}

add_debian_kernel() {
  local root=$1 flavour=$2 tree="$dir/debian-$2" guest="$dir/guest-$2" image
  [ -e "$tree/usr/sbin/kexec" ] || lab_packages "$arch_tools_suite" "$arch_deb" "$tree" "linux-image-$flavour" kexec-tools || die "linux-image-$flavour cannot be had from $arch_tools_suite"
  image=$(ls "$tree"/boot/vmlinuz-*"-$flavour" | tail -1)
  cp "$image" "$root/boot/vmlinuz-$flavour"
  rm -rf "$guest"
  mkdir -p "$guest"
  (cd "$guest" && gzip -cd "$root/boot/initrd.gz" | cpio -id --quiet)
  mkdir -p "$guest"/{modules,kexec-tools,boot}
  node "$here/modules.mjs" "$tree/usr/lib/modules/${image##*/vmlinuz-}" "$guest/modules" "${debian_modules[@]}" || die "modules of $flavour"
  cp "$tree/usr/sbin/kexec" "$guest/kexec-tools/"
  add_libraries "$tree" "$guest/kexec-tools" "$guest/kexec-tools/kexec"
  (cd "$guest" && find . | cpio -o -H newc --quiet | gzip -1 >"$root/boot/initrd-$flavour.gz")
  cp "$root/boot/vmlinuz-$flavour" "$guest/boot/vmlinuz"
  cp "$root/boot/initrd-$flavour.gz" "$guest/boot/initrd.gz"
  (cd "$guest" && find . | cpio -o -H newc --quiet | gzip -1 >"$root/boot/initrd-kexec-$flavour.gz")
  rm -rf "$guest"
}
