/** The machines whose host calls are refused. */
import type { Spec } from "./harness.js";

export const ONE_SMMU: Spec = {
  name: "one SMMU, one function",
  host: "arm-small",
  line:
    "-M virt,accel=kvm,gic-version=3 -m 64M -nodefaults -object iommufd,id=iommufd0 -device arm-smmuv3,primary-bus=pcie.0,id=smmu0,accel=on " +
    "-device pcie-root-port,id=rp1,chassis=1 -device vfio-pci,host=0000:01:00.0,bus=rp1,iommufd=iommufd0,id=nic0",
};

export const TWO_SMMUS: Spec = {
  name: "two SMMUs and an emulated NIC",
  host: "grace",
  line:
    "-M virt,accel=kvm,gic-version=3 -m 64M -nodefaults -object iommufd,id=iommufd0 " +
    "-device pxb-pcie,id=pcie.1,bus_nr=16 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on -device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 " +
    "-device vfio-pci,host=0008:02:00.0,bus=rp1,id=nic0,iommufd=iommufd0 " +
    "-device pxb-pcie,id=pcie.2,bus_nr=32 -device arm-smmuv3,primary-bus=pcie.2,id=smmu2,accel=on -device pcie-root-port,id=rp2,bus=pcie.2,chassis=2 " +
    "-device vfio-pci,host=0009:02:00.0,bus=rp2,id=nic1,iommufd=iommufd0 -device virtio-net-pci,id=net0",
};

const ONE_DEVICE =
  "-device intel-iommu,id=iommu0,scalable-mode=on,fsts=on,pasid-bits=10,device-iotlb=on,intremap=on,caching-mode=on " +
  "-device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=0000:6a:01.0,bus=rp0,id=dsa0,iommufd=iommufd0";

export const ONE_FUNCTION: Spec = {
  name: "an intel-iommu, one function",
  host: "two-socket-spr",
  line: `-M q35,accel=kvm,kernel-irqchip=split -m 64M -nodefaults -object iommufd,id=iommufd0 ${ONE_DEVICE}`,
};

export const Q35: Spec = {
  name: "an intel-iommu, two sockets, two iommufds",
  host: "two-socket-spr",
  line:
    "-M q35,accel=kvm,kernel-irqchip=split -m 64M -nodefaults -object iommufd,id=iommufd0 -object iommufd,id=iommufd1 " +
    `${ONE_DEVICE} ` +
    "-device pcie-root-port,id=rp1,chassis=2 -device vfio-pci,host=0000:97:00.0,bus=rp1,id=nic1,iommufd=iommufd1 -device virtio-net-pci,id=net0",
  // The second one's tables are mirrored.
  kexecs: [{}, { scalable: false }],
};
