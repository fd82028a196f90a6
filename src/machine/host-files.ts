/** Descriptors of the host's functions that a machine has, and who runs its processors and is to know of them (KVM). */

/** KVM's VFIO device. */
export interface HostFileTaker {
  add(fd: number): void;
  /** The descriptor is closed after it. */
  remove(fd: number): void;
}

export class HostFiles {
  private readonly open = new Set<number>();
  private taker: HostFileTaker | null = null;

  opened(fd: number): void {
    this.open.add(fd);
    this.taker?.add(fd);
  }

  closing(fd: number): void {
    if (this.open.delete(fd)) {
      this.taker?.remove(fd);
    }
  }

  /** Tells all that are open now, and what comes and goes from then on. */
  connect(taker: HostFileTaker): void {
    this.taker = taker;
    this.open.forEach((fd) => taker.add(fd));
  }

  /** The taker goes, with what it knows. */
  disconnect(): void {
    this.taker = null;
  }
}
