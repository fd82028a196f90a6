/** Registers that tell the time as EFI's GetTime gives it: an EFI_TIME (UEFI 2.10, 8.3) in UTC. */
import type { MmioHandler } from "../../memory/index.js";
import type { SecondClock } from "./pl031.js";

export const EFI_TIME_BYTES = 16;

export class EfiClock implements MmioHandler {
  constructor(private readonly clock: Pick<SecondClock, "now">) {}

  read(offset: number, size: number): bigint {
    if (offset + size > EFI_TIME_BYTES) {
      return 0n;
    }
    const time = new Date(this.clock.now() * 1000);
    const bytes = Buffer.alloc(EFI_TIME_BYTES);
    bytes.writeUInt16LE(time.getUTCFullYear(), 0);
    bytes.set([time.getUTCMonth() + 1, time.getUTCDate(), time.getUTCHours(), time.getUTCMinutes(), time.getUTCSeconds()], 2);
    let value = 0n;
    for (let n = size - 1; n >= 0; n--) {
      value = (value << 8n) | BigInt(bytes[offset + n]);
    }
    return value;
  }

  write(): void {}
}
