import { HwInfoType, HW_INFO_VTD_BYTES, type HwInfo, type Iommufd, type IommufdDevice } from "../../../src/iommufd/index.js";
import { pack } from "../../../src/support/index.js";
import { CAP, ECAP } from "../../../src/vtd/spec/index.js";

/** A device of a host that takes everything and keeps nothing, and how often it was asked. */
export function hollowDevice(): { readonly device: IommufdDevice; readonly calls: { alloc: number; destroy: number; attach: number } } {
  const calls = { alloc: 0, destroy: 0, attach: 0 };
  const iommufd = {
    hwptAlloc: () => 1 + ++calls.alloc,
    destroy: () => void calls.destroy++,
    hwptInvalidate: () => ({ errno: null, handled: 1 }),
  } as unknown as Iommufd;
  const data = new Uint8Array(HW_INFO_VTD_BYTES);
  const words = new Int32Array(data.buffer);
  words.set(pack(CAP, new Int32Array(2), { MGAW: 47, FS1GP: 1 }), 2);
  words.set(pack(ECAP, new Int32Array(2), { SMTS: 1, FSTS: 1, NEST: 1, PASID: 1, PSS: 19 }), 4);
  const hwInfo: HwInfo = { type: HwInfoType.INTEL_VTD, data, dataLength: data.length, maxPasidLog2: 20, capabilities: 0 };
  const device: IommufdDevice = {
    name: "hollow",
    hostAddress: "0000:00:00.0",
    hostIommu: "dmar0",
    iommufd,
    iommufdName: "iommufd0",
    devId: 1,
    ioasId: 1,
    parentHwptId: 1,
    hwInfo,
    attach: () => void calls.attach++,
    detach: () => {},
    attachedTo: 1,
    openVtdFaults: () => null,
    tracksDirty: false,
    addDirtySource: () => {},
    removeDirtySource: () => {},
    noteDirty: () => {},
    onClosed: () => {},
  };
  return { device, calls };
}
