#!/usr/bin/env bash
# lab.sh COMMAND ARCH DIR ...: an emulated machine with KVM (L1), in which viommu boots a kernel (L2). See docs/lab.md.
#   build ARCH DIR              makes the disk, the kernel and the guest's ramdisk in DIR
#   start ARCH DIR              starts L1 in the background and waits until it takes commands
#   run   ARCH DIR TEXT [SECS]  runs shell text in L1; its output, its exit code (124: not in time)
#   stop  ARCH DIR
# ARCH is x86, arm64, or host-arm64, whose SMMUs nest and whose functions a guest can be given. Environment:
# VIOMMU_LAB_KERNEL (the kernel of L1 and L2; of start: L1's alone), VIOMMU_LAB_KERNEL_64K, VIOMMU_LAB_MEMORY (4G),
# VIOMMU_LAB_PEER=on (with Debian testing's QEMU in L1, as qemu-peer), QEMU_X86_64, QEMU_AARCH64.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$here")
die() { echo "lab: $*" >&2; exit 2; }
[ $# -ge 3 ] || die "usage: lab.sh build|start|run|stop x86|arm64|host-arm64 DIR ..."
command=$1 arch=$2 dir=$(realpath -m "$3")
[ -e "$here/$arch.sh" ] || die "architecture $arch: there are x86, arm64 and host-arm64"
# Where kernels kept beside the project are, and what is done once the disk is made and before L1 starts.
arch_shared=$arch
arch_prepare() { :; }
. "$here/packages.sh"
. "$here/debian-kernel.sh"
. "$here/$arch.sh"

# The kernel: what was given, or one kept beside the project.
lab_kernel() {
  local found
  found=${VIOMMU_LAB_KERNEL:-$(ls "$project"/../shared/lab/"$arch_shared"/$arch_kernel_names 2>/dev/null | tail -1 || true)}
  [ -n "$found" ] && [ -e "$found" ] || die "no kernel for $arch: VIOMMU_LAB_KERNEL=FILE names one with KVM, IOMMUFD, VFIO, virtio and 9p built in (docs/lab.md)"
  echo "$found"
}

build() {
  for tool in mkfs.ext4 cpio gzip dpkg-deb; do command -v "$tool" >/dev/null || die "$tool is needed (e2fsprogs, cpio, gzip, dpkg)"; done
  [ -e "$project/dist/lib/cli/main.js" ] || die "the project is not built: npm run build"
  mkdir -p "$dir"
  local root="$dir/root" kernel
  kernel=$(lab_kernel)
  arch_fetch
  rm -rf "$root"
  mkdir -p "$root"/{proc,sys,dev,tmp,run,root,lab,etc,boot,usr/bin,usr/lib}
  for link in bin sbin lib lib64; do ln -s "usr/$([ $link = sbin ] && echo bin || echo $link)" "$root/$link"; done
  mkdir -p "$root/usr/lib64"
  arch_fill "$root"
  "$root/bin/busybox" --list >"$dir/applets" 2>/dev/null || busybox_applets >"$dir/applets"
  while read -r applet; do [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"; done <"$dir/applets"
  install -m 755 "$here/l1-init.sh" "$root/init"
  # The package as a user has it, with what it needs to run.
  mkdir -p "$root/root/viommu/dist" "$root/root/viommu/node_modules"
  cp -a "$project"/dist/lib "$project"/dist/schemas "$root/root/viommu/dist/"
  cp -a "$project"/hosts "$project"/examples "$project"/conformance "$project"/package.json "$here" "$root/root/viommu/"
  node "$here/dependencies.mjs" >"$dir/dependencies" || die "what the package needs is not there: npm ci"
  while read -r package; do
    mkdir -p "$root/root/viommu/$(dirname "$package")"
    [ -e "$root/root/viommu/$package" ] || cp -aL "$project/$package" "$root/root/viommu/$package"
  done <"$dir/dependencies"
  arch_koffi "$root/root/viommu/node_modules"
  [ "${VIOMMU_LAB_PEER:-off}" = off ] || add_peer "$root"
  arch_kernel "$kernel" "$root/boot/vmlinuz"
  cp "$root/boot/vmlinuz" "$dir/vmlinuz"
  # One with other pages, for guests.
  [ -z "${VIOMMU_LAB_KERNEL_64K:-}" ] || arch_kernel "$VIOMMU_LAB_KERNEL_64K" "$root/boot/vmlinuz-64k"
  build_guest "$root"
  [ -z "${VIOMMU_LAB_TOOLS:-}" ] || build_tools "$root"
  for flavour in ${VIOMMU_LAB_DEBIAN:-}; do add_debian_kernel "$root" "$flavour"; done
  # For guests on this machine itself.
  mkdir -p "$dir/boot" && cp "$root"/boot/* "$dir/boot/"
  rm -f "$dir/root.ext4"
  mkfs.ext4 -q -F -b 4096 -d "$root" "$dir/root.ext4" "$(($(du -sm "$root" | cut -f1) + 400))M"
  rm -rf "$root"
  arch_prepare
  echo "lab: $dir is built, $(du -sm "$dir" | cut -f1) MiB"
}

# busybox of another architecture cannot be asked.
busybox_applets() {
  tr ' ' '\n' <<<"sh ash mount umount cat ls ps dmesg mkdir ln cp mv rm sleep dd hexdump md5sum find grep sed awk date time chmod poweroff reboot env head tail wc sync timeout seq tr cut sort uniq od stty setsid free top kill uname gunzip gzip tar id readlink basename dirname xxd stat test true false echo printf tee xargs hostname touch nproc taskset cmp modprobe insmod"
}

# A QEMU to measure beside, with its own loader and libraries.
add_peer() {
  local root=$1
  arch_fetch_peer
  mkdir -p "$root/opt"
  cp -a "$dir/peer" "$root/opt/peer"
  rm -rf "$root"/opt/peer/usr/share/{doc,man,locale,info,icons}
  printf '#!/bin/sh\nexec %s --library-path %s %s -L /opt/peer/usr/share/qemu -L /opt/peer/usr/share/seabios "$@"\n' \
    "/opt/peer/$arch_peer_loader" "/opt/peer/$arch_peer_libraries" "/opt/peer/usr/bin/$arch_peer" >"$root/usr/bin/qemu-peer"
  chmod 755 "$root/usr/bin/qemu-peer"
}

# L2's ramdisk: busybox, the programs of guest/, and their init.
build_guest() {
  local root=$1 guest="$dir/guest"
  rm -rf "$guest"
  mkdir -p "$guest"/{bin,proc,sys,dev,tmp,boot}
  cp "$root/bin/busybox" "$guest/bin/"
  while read -r applet; do [ -e "$guest/bin/$applet" ] || ln -s busybox "$guest/bin/$applet"; done <"$dir/applets"
  for source in "$here"/guest/*.c; do
    "$arch_cc" -O2 -static -Wall -Werror -I"$here/guest" -o "$guest/bin/$(basename "$source" .c)" "$source" || die "$(basename "$source") does not compile: $arch_cc with a static C library is needed"
  done
  install -m 755 "$here/guest/init.sh" "$guest/init"
  (cd "$guest" && find . | cpio -o -H newc --quiet | gzip -6 >"$root/boot/initrd.gz")
  # The same with a kernel in it, for kexec.
  cp "$root/boot/vmlinuz" "$root/boot/initrd.gz" "$guest/boot/"
  (cd "$guest" && find . | cpio -o -H newc --quiet | gzip -1 >"$root/boot/initrd-kexec.gz")
  rm -rf "$guest"
}

# A disk for L2 with nvme-cli, fio and what they need, and guest/tools.sh, which uses them.
build_tools() {
  local root=$1 tree="$dir/tools"
  [ -e "$tree/usr/bin/fio" ] || lab_packages "$arch_tools_suite" "$arch_deb" "$tree" nvme-cli fio || die "nvme-cli and fio cannot be had from $arch_tools_suite"
  mkdir -p "$tree"/{proc,sys,dev,tmp} "$tree"/usr/{bin,sbin,lib,lib64}
  for link in bin sbin lib lib64; do [ -e "$tree/$link" ] || ln -s "usr/$link" "$tree/$link"; done
  cp "$root/bin/busybox" "$tree/usr/bin/"
  while read -r applet; do [ -e "$tree/usr/bin/$applet" ] || ln -s busybox "$tree/usr/bin/$applet"; done <"$dir/applets"
  install -m 755 "$here/guest/tools.sh" "$tree/tools.sh"
  rm -rf "$tree"/usr/share/{doc,man,locale,bug,lintian}
  mkfs.ext4 -q -F -b 4096 -d "$tree" "$root/boot/tools.ext4" "$(($(du -sm "$tree/." | cut -f1) * 5 / 4 + 100))M"
}

running() { [ -e "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; }

start() {
  [ -e "$dir/root.ext4" ] || die "$dir has no lab: lab.sh build $arch $dir"
  running && die "it runs already (pid $(cat "$dir/pid"))"
  rm -rf "$dir/share"
  mkdir -p "$dir/share/cmd"
  local smp=${VIOMMU_LAB_CPUS:-2}
  [ -z "${VIOMMU_LAB_KERNEL:-}" ] || arch_kernel "$VIOMMU_LAB_KERNEL" "$dir/vmlinuz"
  arch_prepare
  arch_qemu
  "${qemu[@]}" -accel tcg,thread=multi -smp "$smp" -m "${VIOMMU_LAB_MEMORY:-4G}" -nodefaults -display none -no-reboot \
    -drive "file=$dir/root.ext4,if=none,id=root,format=raw,cache=unsafe,snapshot=on" -device virtio-blk-pci,drive=root,bus=pcie.0 \
    -fsdev "local,id=share,path=$dir/share,security_model=none" -device virtio-9p-pci,fsdev=share,mount_tag=lab,bus=pcie.0 \
    -device virtio-rng-pci,bus=pcie.0 -serial "file:$dir/console.log" \
    -kernel "$dir/vmlinuz" -append "root=/dev/vda rw init=/init mitigations=off quiet $arch_append ${VIOMMU_LAB_APPEND:-}" >"$dir/qemu.log" 2>&1 &
  echo $! >"$dir/pid"
  for _ in $(seq 1 3000); do
    [ -e "$dir/share/cmd/ready" ] && return
    running || { cat "$dir/qemu.log" >&2; tail -n 20 "$dir/console.log" >&2; die "L1 has ended"; }
    sleep 0.2
  done
  stop
  die "L1 is not ready after ten minutes: $dir/console.log"
}

run() {
  local text=$1 seconds=${2:-600} box="$dir/share/cmd" name
  running || die "no L1 runs: lab.sh start $arch $dir"
  name=c$(date +%s%N)
  printf '%s\n' "$text" >"$box/$name.tmp"
  mv "$box/$name.tmp" "$box/$name.sh"
  for _ in $(seq 1 $((seconds * 5))); do
    [ -e "$box/$name.rc" ] && break
    running || die "L1 has ended: $dir/console.log"
    sleep 0.2
  done
  cat "$box/$name.out" 2>/dev/null || true
  [ -e "$box/$name.rc" ] || exit 124
  return "$(cat "$box/$name.rc")"
}

stop() {
  running && kill "$(cat "$dir/pid")" 2>/dev/null && while running; do sleep 0.1; done
  rm -f "$dir/pid"
}

case $command in
  build | start | stop) "$command" ;;
  run) run "${4?text}" "${5:-600}" ;;
  *) die "there is no command $command: build, start, run, stop" ;;
esac
