#!/bin/sh
# state.sh: what a monitor could leave behind on this host, one "NAME VALUE" a line; the memory in KiB once caches are
# dropped. IOMMU and KVM page tables are counted in nr_iommu_pages and SecPageTables.
[ -d /sys/kernel/debug/kvm ] || mount -t debugfs debugfs /sys/kernel/debug
open=0
for file in /proc/[0-9]*/fd/*; do
  case $(readlink "$file" 2>/dev/null) in /dev/iommu | /dev/vfio/* | /dev/kvm | anon_inode:kvm-* | anon_inode:*iommufd*) open=$((open + 1)) ;; esac
done
echo 3 >/proc/sys/vm/drop_caches
echo "descriptors $open"
echo "machines $(ls -d /sys/kernel/debug/kvm/*/ 2>/dev/null | wc -l)"
echo "iommu-pages $(sed -n 's/^nr_iommu_pages //p' /proc/vmstat)"
echo "second-tables $(sed -n 's/^SecPageTables: *\([0-9]*\).*/\1/p' /proc/meminfo)"
echo "available $(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo)"
echo "files $(cut -f1 /proc/sys/fs/file-nr)"
echo "complaints $(dmesg | grep -ciE 'warning:|bug:|call trace|oops|refcount|unable to handle|leak')"
