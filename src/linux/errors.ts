import { getSystemErrorMap } from "node:util";

/** A refused system call: which, the errno and its name and words. */
export class SystemError extends Error {
  /** The errno's name, such as "EBUSY". */
  readonly code: string;

  constructor(
    /** The call as strace names it, such as "ioctl(KVM_CREATE_VM)". */
    readonly call: string,
    readonly errno: number,
  ) {
    const [code, words] = getSystemErrorMap().get(-errno) ?? [`E${errno}`, `errno ${errno}`];
    super(`${call}: ${code} (${words})`);
    this.name = "SystemError";
    this.code = code;
  }
}
