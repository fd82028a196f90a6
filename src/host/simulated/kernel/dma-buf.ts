/** A dma-buf of a function's registers (Linux vfio_pci_dmabuf.c), and who has it mapped. */

/** Mappings that end where a device takes its registers back. */
export interface DmaBufUser {
  /** Takes all mappings of the file out of the tables, for good; the ranges stay taken. */
  revoke(file: DmaBuf): void;
}

export class DmaBuf {
  /** Nothing of it can be mapped: its function is closed, or does not decode memory. */
  revoked = false;
  private readonly users = new Set<DmaBufUser>();

  constructor(
    readonly fd: number,
    /** Host-physical. */
    readonly address: number,
    readonly bytes: number,
  ) {}

  use(user: DmaBufUser): void {
    this.users.add(user);
  }

  /** Ends all mappings. */
  revoke(): void {
    this.revoked = true;
    this.users.forEach((user) => user.revoke(this));
    this.users.clear();
  }

  /** It can be mapped again. */
  giveBack(): void {
    this.revoked = false;
  }
}
