/** Numbers n of the board's own devices, /machine/unattached/device[n], in the order in which QEMU 11.1's virt makes them. */
export interface VirtNumbers {
  readonly interruptController: number;
  /** The ITS or GICv2m frame; null: none. */
  readonly msiController: number | null;
  readonly hostBridge: number;
  /** The SMMU of iommu=smmuv3; null: none. */
  readonly smmu: number | null;
  /** The host of the first pxb-pcie; others follow. */
  readonly firstExpander: number;
}

/** UART and RTC stand before the host bridge; GPIO, its key, 32 virtio transports and the platform bus before the expanders. */
export function virtNumbers(cpus: number, hasMsiController: boolean, hasSmmu: boolean): VirtNumbers {
  const msiController = hasMsiController ? cpus + 1 : null;
  const hostBridge = cpus + (hasMsiController ? 4 : 3);
  const smmu = hasSmmu ? hostBridge + 1 : null;
  return { interruptController: cpus, msiController, hostBridge, smmu, firstExpander: (smmu ?? hostBridge) + 36 };
}
