/** Firmware in which the CPU of a QEMU without the qtest accelerator waits. */

/** `wfi`, and a branch back to it (Arm DDI 0487, C6.2). */
const IDLE_ARM = Uint8Array.of(0x7f, 0x20, 0x03, 0xd5, 0xff, 0xff, 0xff, 0x17);
/** Bytes of the ROM that ends at 4 GiB. */
const PC_BYTES = 64 * 1024;
/** At the start of its last 16 bytes, where an x86 CPU begins: `cli`, `hlt`, and a jump back to that; `hlt` everywhere else. */
const IDLE_PC = [0xfa, 0xf4, 0xeb, 0xfd];

/** The bytes for `-bios`. */
export function idleFirmware(board: "virt" | "q35"): Uint8Array {
  if (board === "virt") {
    return IDLE_ARM;
  }
  const rom = new Uint8Array(PC_BYTES).fill(0xf4);
  rom.set(IDLE_PC, PC_BYTES - 16);
  return rom;
}
