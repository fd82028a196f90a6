/** What is at the other end of a serial port. */
export interface SerialEnd {
  /** Takes a byte of the guest's. */
  send(byte: number): void;
  /** The guest has read what there was: more can be given. */
  hasRoom(): void;
}

export const NOBODY: SerialEnd = { send: () => {}, hasRoom: () => {} };
