# What lab.sh needs to know of an arm64 host: the machine of arm64.sh with SMMUv3s of two stages, so that L1's iommufd
# nests, and functions that a guest can be given. QEMU 7.2 has no nested stage: the QEMU of Debian's testing is unpacked,
# or QEMU_AARCH64 names another.
#   0000:01:00.0, 0000:02:00.0  NVMe of $dir/nvme1.img and nvme2.img     0000:00:07.0  edu
#   0000:03:00.0                igb, a network function with SR-IOV
#   0000:21:00.0                NVMe of $dir/nvme3.img, behind the second SMMU, as is edu 0000:22:00.0
. "$here/arm64.sh"
arch_shared=arm64
arch_append="console=ttyAMA0 acpi=force"
arch_packages+=(strace)

arm64_fetch=$(declare -f arch_fetch)
eval "arm64_${arm64_fetch#arch_}"
arch_fetch() {
  arm64_fetch
  [ -n "${QEMU_AARCH64:-}" ] || [ "$(uname -m)" = x86_64 ] || die "QEMU_AARCH64=PROGRAM is needed here, of QEMU 10.2 or later: the packages that would be unpacked are for x86-64"
  [ -e "$dir/qemu/usr/share/qemu-efi-aarch64/QEMU_EFI.fd" ] ||
    lab_packages "${VIOMMU_LAB_QEMU_SUITE:-testing}" amd64 "$dir/qemu" qemu-system-arm qemu-efi-aarch64 || die "packages of QEMU cannot be had from testing"
}

arm64_fill=$(declare -f arch_fill)
eval "arm64_${arm64_fill#arch_}"
arch_fill() {
  arm64_fill "$1"
  [ ! -e "$dir/packages/usr/bin/strace" ] || cp "$dir/packages/usr/bin/strace" "$1/bin/"
}

# The machine without its disk: what the IORT depends on.
host_machine() {
  if [ -n "${QEMU_AARCH64:-}" ]; then
    machine=("$QEMU_AARCH64")
  else
    lab_unpacked "$dir/qemu" qemu-system-aarch64
    machine=("${unpacked[@]}")
  fi
  machine+=(-M virt,virtualization=on,gic-version=3,its=on -cpu "${VIOMMU_LAB_CPU:-neoverse-n1}" -bios "$dir/qemu/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"
    -device "arm-smmuv3,primary-bus=pcie.0,id=smmu0,stage=${VIOMMU_LAB_STAGE:-nested}"
    -device pcie-root-port,id=rp1,bus=pcie.0,chassis=1,addr=4 -device pcie-root-port,id=rp2,bus=pcie.0,chassis=2,addr=5 -device pcie-root-port,id=rp3,bus=pcie.0,chassis=3,addr=6
    -device edu,bus=pcie.0,addr=7
    -device pxb-pcie,id=pcie.1,bus_nr=32,bus=pcie.0,addr=8 -device "arm-smmuv3,primary-bus=pcie.1,id=smmu1,stage=${VIOMMU_LAB_STAGE:-nested}"
    -device pcie-root-port,id=rp4,bus=pcie.1,chassis=4,addr=0 -device pcie-root-port,id=rp5,bus=pcie.1,chassis=5,addr=1 -device edu,bus=rp5
    -netdev user,id=net0 -device igb,netdev=net0,bus=rp3,romfile=)
  for n in 1 2 3; do
    machine+=(-drive "file=$dir/nvme$n.img,if=none,id=nvme$n,format=raw,cache=unsafe" -device "nvme,serial=lab$n,drive=nvme$n,bus=rp$((n == 3 ? 4 : n))")
  done
}

# The functions' disks; and QEMU's IORT with CANWBS, which L1's kernel takes in its place from a ramdisk: QEMU's SMMU
# has neither S2FWB nor that word, without which Linux refuses to nest (arm_smmu_get_viommu_size). Both are made once.
arch_prepare() {
  local machine table log="$dir/iort.log" tree="$dir/iort"
  for n in 1 2 3; do [ -e "$dir/nvme$n.img" ] || head -c 64M /dev/urandom >"$dir/nvme$n.img"; done
  host_machine
  iort="$dir/iort-$(cksum <<<"${machine[*]}" | cut -d' ' -f1).cpio"
  [ ! -e "$iort" ] || return 0
  rm -rf "$tree"
  mkdir -p "$tree"/read/{bin,proc,sys} "$tree/write/kernel/firmware/acpi"
  cp "$dir/packages/usr/bin/busybox" "$tree/read/bin/"
  install -m 755 "$here/host/read-iort.sh" "$tree/read/init"
  (cd "$tree/read" && find . | cpio -o -H newc --quiet) >"$tree/read.cpio"
  timeout 300 "${machine[@]}" -accel tcg,thread=multi -smp 1 -m 1G -nodefaults -display none -no-reboot -serial "file:$log" \
    -kernel "$dir/vmlinuz" -initrd "$tree/read.cpio" -append "quiet $arch_append" || die "L1 does not tell its IORT: $log"
  node "$here/host/iort.mjs" "$log" "$tree/write/kernel/firmware/acpi/IORT.aml" || die "L1's IORT cannot be changed: $log"
  (cd "$tree/write" && find kernel | cpio -o -H newc --quiet) >"$iort"
  rm -rf "$tree"
}

arch_qemu() {
  local machine
  host_machine
  qemu=("${machine[@]}" -initrd "$iort" -monitor "unix:$dir/monitor,server=on,wait=off")
  [ "${VIOMMU_LAB_IORT:-}" != plain ] || qemu=("${machine[@]}" -monitor "unix:$dir/monitor,server=on,wait=off")
}
