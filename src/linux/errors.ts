import { type Errno, errnoName, errnoWords } from "../support/index.js";

/** A refused system call: which, the errno and its name and words. */
export class SystemError extends Error {
  /** The errno's name, such as "EBUSY": one for each number, so 95 is EOPNOTSUPP and never ENOTSUP. */
  readonly code: Errno;

  constructor(
    /** The call as strace names it, such as "ioctl(KVM_CREATE_VM)". */
    readonly call: string,
    readonly errno: number,
  ) {
    const code = errnoName(errno);
    super(`${call}: ${code} (${errnoWords(code)})`);
    this.name = "SystemError";
    this.code = code;
  }
}
