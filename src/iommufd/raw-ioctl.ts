/**
 * ioctl(2) with a structure's bytes as they are: for what the methods of `Iommufd` and `VfioDevice` cannot say (a
 * size that is wrong, a reserved field that is not zero, an ioctl that there is not). Tests of a kernel use it,
 * machines do not.
 */

/** Memory that a structure points to. */
export interface RawPointer {
  /** Where in the structure the pointer is (bytes; a u64). */
  readonly at: number;
  /** What it points to; the kernel may write there. */
  readonly to: Uint8Array;
}

export interface RawIoctl {
  /**
   * @param fd of an iommufd or a VFIO device of this host
   * @param request the whole number, such as 0x3b81
   * @param argument the structure, which the kernel reads and writes; null: a null pointer
   * @throws HostError its errno
   */
  ioctl(fd: number, request: number, argument: Uint8Array | null, pointers?: readonly RawPointer[]): void;
}
