/**
 * HWPT_INVALIDATE on a vIOMMU: a guest's commands made safe for the physical queue (Linux
 * arm_vsmmu_cache_invalidate, arm_vsmmu_convert_user_cmd; struct iommu_viommu_arm_smmuv3_invalidate).
 */
import {
  ARM_SMMUV3_INVALIDATE_BLOCK,
  INVALIDATE_ARM_SMMUV3_BYTES,
  InvalidateDataType,
  type Errno,
  type InvalidateRequest,
  type InvalidateResult,
} from "../../../../iommufd/index.js";
import { CMD, OP } from "../../../../smmuv3/spec/index.js";
import type { Vsmmu } from "./vsmmu.js";

const WORDS = INVALIDATE_ARM_SMMUV3_BYTES / 4;

export function invalidateVsmmu(vsmmu: Vsmmu, request: InvalidateRequest): InvalidateResult {
  const failed = (errno: Errno): InvalidateResult => ({ errno, handled: 0 });
  const { entryCount, entryLength } = request;
  if (request.dataType !== InvalidateDataType.ARM_SMMUV3 || entryCount === 0) {
    return failed("EINVAL");
  }
  if (request.data.length < entryCount * entryLength) {
    return failed("EFAULT");
  }
  const commands = readCommands(request);
  if (commands === null) {
    return failed("E2BIG");
  }
  // As Linux does: an entry is converted, and what is converted is issued, with a sync, when it fills a block or is
  // the last. A refused entry leaves the open block unissued, though entry_num counts it.
  let issued = 0;
  for (let entry = 0; entry < entryCount; entry++) {
    if (!convert(vsmmu, commands, entry * WORDS)) {
      return { errno: "EIO", handled: entry };
    }
    const end = entry + 1;
    if (end === entryCount || end - issued === ARM_SMMUV3_INVALIDATE_BLOCK) {
      for (let at = issued * WORDS; at < end * WORDS; at += WORDS) {
        vsmmu.driver.runWords(commands[at], commands[at + 1], commands[at + 2], commands[at + 3]);
      }
      vsmmu.driver.syncOnce();
      issued = end;
    }
  }
  return { errno: null, handled: entryCount };
}

/** Entries of any length: shorter ones are filled up with zeros, what is beyond has to be zero (null: it is not). */
function readCommands({ data, entryCount, entryLength }: InvalidateRequest): Int32Array | null {
  const commands = new Int32Array(entryCount * WORDS);
  if (entryLength === INVALIDATE_ARM_SMMUV3_BYTES && (data.byteOffset & 3) === 0) {
    commands.set(new Int32Array(data.buffer, data.byteOffset, entryCount * WORDS));
    return commands;
  }
  const bytes = new Uint8Array(commands.buffer);
  for (let i = 0; i < entryCount; i++) {
    for (let at = 0; at < entryLength; at++) {
      const byte = data[i * entryLength + at];
      if (at < INVALIDATE_ARM_SMMUV3_BYTES) {
        bytes[i * INVALIDATE_ARM_SMMUV3_BYTES + at] = byte;
      } else if (byte !== 0) {
        return null;
      }
    }
  }
  return commands;
}

/** Converts the command at `at` in place: the guest's VMID and StreamID become physical. False: it may not be run. */
function convert(vsmmu: Vsmmu, commands: Int32Array, at: number): boolean {
  if (vsmmu.driver.commandCheck?.takes(commands, at) === false) {
    return false;
  }
  switch (commands[at] & 0xff) {
    case OP.TLBI_NSNH_ALL:
      commands.fill(0, at, at + WORDS);
      commands[at] = OP.TLBI_NH_ALL;
      commands[at + CMD.VMID.word] = vsmmu.vmid << CMD.VMID.shift;
      return true;
    case OP.TLBI_NH_VA:
    case OP.TLBI_NH_VAA:
    case OP.TLBI_NH_ALL:
    case OP.TLBI_NH_ASID:
      commands[at + CMD.VMID.word] =
        (commands[at + CMD.VMID.word] & ~CMD.VMID.inPlace) | (vsmmu.vmid << CMD.VMID.shift);
      return true;
    case OP.ATC_INV:
    case OP.CFGI_CD:
    case OP.CFGI_CD_ALL: {
      const device = vsmmu.devices.get(BigInt(commands[at + CMD.SID.word] >>> 0));
      if (device === undefined) {
        return false;
      }
      commands[at + CMD.SID.word] = device.streamId;
      return true;
    }
    default:
      return false;
  }
}
