# What lab.sh needs to know of an x86 host: the machine of x86.sh with a VT-d of QEMU's, which has second stages (legacy
# and scalable mode) and does not nest, and functions that a guest can be given.
#   0000:02:00.0, 0000:03:00.0  NVMe of $dir/nvme1.img and nvme2.img     0000:00:06.0  edu
. "$here/x86.sh"
arch_shared=x86
arch_append="console=ttyS0 intel_iommu=on${VIOMMU_LAB_SCALABLE:+,sm_on}"

arch_prepare() {
  for n in 1 2; do [ -e "$dir/nvme$n.img" ] || head -c 64M /dev/urandom >"$dir/nvme$n.img"; done
}

x86_qemu=$(declare -f arch_qemu)
eval "x86_${x86_qemu#arch_}"
arch_qemu() {
  x86_qemu
  qemu+=(-device "intel-iommu,intremap=on,caching-mode=off${VIOMMU_LAB_SCALABLE:+,x-scalable-mode=on}"
    -device pcie-root-port,id=rp1,chassis=1,addr=4 -device pcie-root-port,id=rp2,chassis=2,addr=5 -device edu,addr=6
    -monitor "unix:$dir/monitor,server=on,wait=off")
  for n in 1 2; do
    qemu+=(-drive "file=$dir/nvme$n.img,if=none,id=nvme$n,format=raw,cache=unsafe" -device "nvme,serial=lab$n,drive=nvme$n,bus=rp$n")
  done
}
