/** Numbers n of the board's own devices, /machine/unattached/device[n], in the order in which QEMU 11.1's q35 makes them: the first CPU, kvmvapic, the other CPUs, then the chipset. Null: the machine is without it. */
export interface Q35Numbers {
  readonly lpc: number;
  readonly ahci: number | null;
  readonly smbus: number | null;
  readonly firstExpander: number;
}

/** Nine devices of the LPC bridge stand before the AHCI controller, eight memories' EEPROMs behind the SMBus controller. */
export function q35Numbers(cpus: number, hasAhci: boolean, hasSmbus: boolean): Q35Numbers {
  const lpc = cpus + 1;
  const ahci = hasAhci ? lpc + 10 : null;
  const smbus = hasSmbus ? lpc + 10 + (hasAhci ? 1 : 0) : null;
  return { lpc, ahci, smbus, firstExpander: lpc + 10 + (hasAhci ? 1 : 0) + (hasSmbus ? 9 : 0) };
}
