/** errno values that iommufd, VFIO and KVM calls give (Linux asm-generic/errno-base.h, errno.h). */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOTTY: 25,
  ENOSPC: 28,
  ESPIPE: 29,
  EOVERFLOW: 75,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ETIMEDOUT: 110,
} as const;

export type Errno = keyof typeof ERRNO;

/** A refused host call: which operation, the errno, and what it was about. */
export class HostError extends Error {
  constructor(
    /** The call's name as the account counts it, such as "HWPT_ALLOC". */
    readonly operation: string,
    readonly errno: Errno,
    readonly detail: string,
  ) {
    super(`${operation}: ${errno}${detail === "" ? "" : ` (${detail})`}`);
    this.name = "HostError";
  }
}
