#!/bin/sh
# tools.sh NAMESPACE: on the disk with nvme-cli and fio, whose root it is: both against another NVMe and its namespace.
# Ends with what failed.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
disk=$1
controller=${1%n1}
# What they print is long, and the console slow.
must() { echo "tools: $*"; "$@" >/tmp/out 2>&1 || { echo "tools: $1 FAILED: $?"; cat /tmp/out; exit 1; }; }
must nvme id-ctrl $controller
must nvme id-ns $disk
must nvme smart-log $controller
must nvme error-log $controller -e 1
must nvme fw-log $controller
must nvme get-feature $controller -f 7 -H
must nvme set-feature $controller -f 6 -V 1
must nvme get-feature $controller -f 6
must nvme list
must fio --name=verify --filename=$disk --direct=1 --ioengine=libaio --iodepth=8 --rw=randwrite --bs=4k --size=4m --verify=crc32c --verify_fatal=1 --output-format=terse --minimal
echo "tools: fio has verified $(cut -d';' -f6,47 /tmp/out) KiB read, written"
must nvme flush $disk
# What is told not to be needed, and what is made zero.
must nvme write-zeroes $disk -s 8 -c 7
[ "$(dd if=$disk bs=512 skip=8 count=8 iflag=direct 2>/dev/null | tr -d '\0' | wc -c)" = 0 ] || { echo "tools: write-zeroes FAILED"; exit 1; }
must nvme dsm $disk -d -s 64 -b 64
must nvme reset $controller
[ "$(dd if=$disk bs=4096 count=4 iflag=direct 2>/dev/null | wc -c)" = 16384 ] || { echo "tools: reading after a reset FAILED"; exit 1; }
echo "tools: done"
