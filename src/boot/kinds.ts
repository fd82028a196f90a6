/** What kinds of kernel files there are, for the words about one that is another than asked for. */

/** Of an arm64 Image, "ARM\x64" (Linux Documentation/arch/arm64/booting.rst). */
export const IMAGE_MAGIC = 0x644d_5241;
export const IMAGE_MAGIC_AT = 56;
/** Of a bzImage's setup header: "HdrS" (Linux Documentation/arch/x86/boot.rst). */
export const SETUP_MAGIC = 0x5372_6448;
export const SETUP_MAGIC_AT = 0x202;

export const ELF_MAGIC = 0x7f45_4c46;
/** e_machine, at its offset. */
export const ELF_MACHINE_AT = 18;
export const ELF_X86_64 = 62;
const ELF_MACHINES: Readonly<Record<number, string>> = { 3: "x86", 40: "Arm", 62: "x86-64", 183: "AArch64", 243: "RISC-V" };

/** What a file seems to be; null: nothing that is known here. */
export function foreignKind(file: Uint8Array): string | null {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length >= 64 && view.getUint32(0, false) === ELF_MAGIC) {
    const machine = view.getUint16(ELF_MACHINE_AT, true);
    return `an ELF file for ${ELF_MACHINES[machine] ?? `machine ${machine}`} (a vmlinux)`;
  }
  if (file.length >= 64 && view.getUint32(IMAGE_MAGIC_AT, true) === IMAGE_MAGIC) {
    return "an Image for AArch64";
  }
  if (file.length >= SETUP_MAGIC_AT + 4 && view.getUint32(SETUP_MAGIC_AT, true) === SETUP_MAGIC) {
    return "a bzImage for x86";
  }
  return file.length >= 2 && view.getUint16(0, false) === 0x1f8b ? "a gzip file" : null;
}
