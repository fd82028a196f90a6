#!/bin/sh
# The guest's first program: runs the tests that its command line names (lab=NAME,NAME), says how each went, powers off.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
# Of a kernel whose drivers are modules.
[ ! -e /modules/order ] || while read -r module; do insmod "/modules/$module"; done </modules/order
word() { sed -n "s/.*\b$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
echo "lab: ready, Linux $(uname -r), $(grep -c ^processor /proc/cpuinfo) CPUs, up $(cut -d' ' -f1 /proc/uptime) s"
function=$(word function)

# next_kernel KERNEL INITRD COMMAND-LINE [crash]: by kexec_file_load, or by kexec-tools where the kernel has kexec_load alone.
next_kernel() {
  [ -e /kexec-tools/kexec ] || { kexec "$@"; return; }
  tool() { /kexec-tools/ld-linux-aarch64.so.1 --library-path /kexec-tools /kexec-tools/kexec "$@"; }
  if [ -n "$4" ]; then tool -c -p "$1" --initrd="$2" --command-line="$3"; else tool -c -l "$1" --initrd="$2" --command-line="$3" && tool -e; fi
}

groups() {
  for group in /sys/kernel/iommu_groups/*; do echo "group ${group##*/} $(cat "$group/type") $(ls "$group/devices" | tr '\n' ' ')"; done
}
iommu() { dmesg | grep -iE 'dmar|iommu|smmu' | grep -v 'Adding to iommu group'; }
faults() { dmesg | grep -E 'fault addr|event 0x|event: ' | tail -n 1; dmesg | grep -cE 'fault addr|event: '; }
windows() { for group in /sys/kernel/iommu_groups/*; do echo "group ${group##*/} $(tr '\n' ' ' <"$group/reserved_regions")"; done; }
# The namespace of the NVMe with that serial number: controllers are numbered as they happen to start, and the namespace
# of one that comes back has another number while its old device is open.
nvme_of() {
  for _ in $(seq 1 100); do
    for one in /sys/class/nvme/nvme*/nvme*n*; do
      [ "$(tr -d ' ' <"${one%/*}/serial" 2>/dev/null)" = "$1" ] && [ -e "/dev/${one##*/}" ] && echo "/dev/${one##*/}" && return
    done
    sleep 0.1
  done
}
first_disk() { for _ in $(seq 1 100); do [ -e /dev/nvme0n1 ] && break; sleep 0.1; done; echo /dev/nvme0n1; }
disk() {
  for _ in $(seq 1 100); do [ -e /dev/nvme0n1 ] && break; sleep 0.1; done
  at=/dev/nvme0n1
  [ -z "$(word serial)" ] || at=$(nvme_of "$(word serial)")
  echo "md5 $(dd if="$at" bs=1M count=8 2>/dev/null | md5sum | cut -d' ' -f1)"
  echo "lab was here $(word token)" | dd of="$at" bs=512 seek=4 conv=notrunc,fsync 2>/dev/null && sync
  grep -c nvme /proc/interrupts
}
# Every disk by its function: its first 8 MiB, not from the cache. A driver that has just found its function takes a while.
sums() {
  for class in /sys/bus/pci/devices/*/class; do
    [ "$(cat "$class")" != 0x010802 ] || for _ in $(seq 1 600); do ls "${class%class}"nvme/nvme*/nvme*n* >/dev/null 2>&1 && break; sleep 0.1; done
  done
  echo 3 >/proc/sys/vm/drop_caches
  for block in /sys/block/nvme*n*; do
    echo "sum $(basename "$(readlink -f "$block/device/device")") $(dd if="/dev/${block##*/}" bs=1M count=8 2>/dev/null | md5sum | cut -d' ' -f1)"
  done
}
# What is done to the disk while other tests run.
load() { (while :; do dd if=/dev/nvme0n1 of=/dev/null bs=64k count=64 iflag=direct 2>/dev/null || sleep 0.1; done) & }
# The driver stands aside and takes the function again.
flr() { grep -q flr "/sys/bus/pci/devices/$function/reset_method" && echo 1 >"/sys/bus/pci/devices/$function/reset" && sleep 2; }
irqs() { grep -E 'nvme|arm-smmu' /proc/interrupts; }
bars() {
  for function in /sys/bus/pci/devices/*; do
    echo "bars ${function##*/} $(head -n 6 "$function/resource" | while read -r first last _; do [ "$last" = 0x0000000000000000 ] || echo "$first-$last"; done | tr '\n' ' ')"
  done
}
clock() { cat /sys/class/rtc/rtc0/name && date -u +%Y-%m-%d && [ "$(date -u +%Y)" -gt 2000 ]; }
# The function goes and comes back by the monitor.
plug() {
  for _ in $(seq 1 600); do [ -e "/sys/bus/pci/devices/$function" ] || break; sleep 0.1; done
  [ -e "/sys/bus/pci/devices/$function" ] && { echo "it does not go"; return 1; }
  echo "lab: gone"
  for _ in $(seq 1 600); do [ -e "/sys/bus/pci/devices/$function" ] && break; sleep 0.1; done
  [ -e "/sys/bus/pci/devices/$function" ] || { echo "it does not come back"; return 1; }
  echo "lab: back"
  sleep 1
}
# The function goes and comes back and works, as often as is said.
turns() {
  for turn in $(seq 1 "$(word turns)"); do
    echo "lab: turn $turn"
    # shellcheck disable=SC2046
    plug && dma "$function" $(word with) || return 1
  done
}
# Other functions' DMA in four processes, while the function goes and comes back.
# shellcheck disable=SC2046
storms() {
  storm $(word others | tr , ' ') & others=$!
  turns
  result=$?
  touch /tmp/over
  wait $others && return $result
}
# A kernel's memory after its panic, in the next one.
crashed() { [ -s /proc/vmcore ] && echo "vmcore $(dd if=/proc/vmcore bs=4 count=1 2>/dev/null | od -An -c | tr -d ' ')"; }
nodes() {
  for node in /sys/devices/system/node/node[0-9]*; do
    echo "node ${node##*node} cpus $(cat "$node/cpulist") KiB $(sed -n 's/.*MemTotal: *\([0-9]*\).*/\1/p' "$node/meminfo") distances $(cat "$node/distance")"
  done
  for one in /sys/bus/pci/devices/*; do echo "numa ${one##*/} $(cat "$one/numa_node")"; done
}
# Programs on a disk with a system of its own (lab.sh puts them there).
tools_disk() { mkdir -p /mnt && mount -t ext4 "$(nvme_of tools)" /mnt && mount -t proc proc /mnt/proc && mount -t sysfs sys /mnt/sys && mount -t devtmpfs dev /mnt/dev; }
tools() { tools_disk && chroot /mnt /tools.sh "$(nvme_of work)"; }
# fio reads the disk for as long as other tests run, again when it has come back; each of its ends is told. It takes the
# nothing that can be read of a disk that is gone for the end of a file, and would go on for ever.
fio() {
  if [ ! -e /mnt/tools.sh ]; then
    tools_disk || return 1
    (while :; do
      disk=$(nvme_of "$(word serial)")
      [ -n "$disk" ] || continue
      chroot /mnt fio --name=load --filename="$disk" --direct=1 --ioengine=libaio --iodepth=8 --rw=randread --bs=4k --time_based --runtime=36000 --output-format=terse --minimal >/tmp/fio 2>&1 &
      while [ -e "$disk" ] && kill -0 $! 2>/dev/null; do sleep 0.2; done
      kill $! 2>/dev/null
      wait $!
      awk -F';' 'NF > 6 { print "fio: error " $5 " after " $6 " KiB" }' /tmp/fio
    done) &
  fi
  before=
  for _ in $(seq 1 1200); do
    disk=$(nvme_of "$(word serial)")
    reads=$(awk '{ print $1 }' "/sys/block/${disk#/dev/}/stat" 2>/dev/null)
    before=${before:-$reads}
    [ -z "$reads" ] || [ "$reads" -lt $((before + 64)) ] || return 0
    sleep 0.1
  done
  cat /tmp/fio
  return 1
}
# The kernel tells of ten faults in five seconds: what comes then is told again.
pause() { sleep 6; }
# Reboots the first time; the disk remembers.
once() {
  for _ in $(seq 1 100); do [ -e /dev/nvme0n1 ] && break; sleep 0.1; done
  if dd if=/dev/nvme0n1 bs=512 skip=8 count=1 2>/dev/null | grep -q 'was here'; then
    echo "lab: again after a reboot"
  else
    echo "was here" | dd of=/dev/nvme0n1 bs=512 seek=8 conv=notrunc,fsync 2>/dev/null && echo "lab: reboot" && reboot -f
  fi
}
stress() {
  for n in $(seq 1 "$(nproc)"); do (for _ in $(seq 1 "$(word rounds)"); do dd if=/dev/zero of=/dev/null bs=64k count=64 2>/dev/null; done; echo "worker $n") & done
  wait
}

names=$(word lab)
for name in $(echo "$names" | tr , ' '); do
  case $name in
    dma | pasid | pair | edu) "$name" "$function" ;;
    silent) dma "$function" silent ;;
    intx | stray) edu "$function" "$name" ;;
    ats) dma "$function" ats silent ;;
    dma:*) dma "${name#dma:}" ;;
    maps) maps "$function" "$(word most)" ;;
    rates) rates "$function" "$(word warm)" "$(nproc)" ;;
    reads) reads "$(first_disk)" "$(word warm)" "$(nproc)" ;;
    reads:counted) echo "rates: counted now" && sleep 4 && reads "$(first_disk)" counted "$(nproc)" ;;
    reboot) echo "lab: reboot"; reboot -f ;;
    kexec) next_kernel /boot/vmlinuz /boot/initrd.gz "$(sed "s/\blab=[^ ]*/lab=again,groups,$(word then)/" /proc/cmdline)" ;;
    kdump) next_kernel /boot/vmlinuz /boot/initrd.gz "$(sed "s/\blab=[^ ]*/lab=again,crashed,groups,$(word then)/; s/crashkernel=[^ ]*/nr_cpus=1/" /proc/cmdline)" crash && echo "lab: panic" && exit 1 ;;
    # The first program's end is a panic.
    panic) echo "lab: panic"; exit 1 ;;
    again) echo "lab: begun anew" ;;
    wait) sleep 100000 ;;
    shell) setsid cttyhack sh || sh ;;
    *) "$name" ;;
  esac && echo "lab: $name ok" || echo "lab: $name FAILED"
done
echo "lab: done"
poweroff -f
