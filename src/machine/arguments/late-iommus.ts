/** IOMMUs that stand behind functions which they are to cover. */
import { type DeviceArgument, deviceLabel, textProperty } from "./device.js";

/**
 * Notes passed-through functions that QEMU makes before the IOMMU of their bus: it asks for a function's address space
 * when it makes it (hw/vfio/pci.c, vfio_pci_realize) and leaves it in the machine's memory. Here the IOMMU covers them, as
 * it covers emulated ones in QEMU too, whose address spaces are taken when the machine is done (hw/pci/pci.c,
 * pcibus_machine_done).
 */
export function noteLateIommus(devices: readonly DeviceArgument[], notes: string[]): void {
  devices.forEach((iommu, index) => {
    if (iommu.model.category !== "iommu") {
      return;
    }
    const root = iommu.model.properties.has("primary-bus") ? textProperty(iommu, "primary-bus") : null;
    const before = devices.slice(0, index).filter((device) => device.model.name === "vfio-pci" && (root === null || rootBus(device, devices) === root));
    if (before.length > 0) {
      notes.push(`${iommu.where}: QEMU does not put ${before.map(deviceLabel).join(", ")} behind an IOMMU that stands after; here it does cover what is on its buses`);
    }
  });
}

/** ID of the root bus that a device is below. */
function rootBus(device: DeviceArgument, devices: readonly DeviceArgument[]): string {
  let at: DeviceArgument | undefined = device;
  // A bus that a device names is below the device of that id, but for an expander's, which is a root.
  for (let steps = 0; at !== undefined && steps < devices.length; steps++) {
    const { bus }: DeviceArgument = at;
    const above: DeviceArgument | undefined = bus === null ? undefined : devices.find(({ id }) => id === bus);
    if (above === undefined || above.model.name === "pxb-pcie") {
      return bus ?? "pcie.0";
    }
    at = above;
  }
  return "pcie.0";
}
