/**
 * The QEMU whose monitor, command line and device models these are: clients choose their commands by it.
 * What it runs on is told as the package.
 */
export const QEMU_VERSION = { major: 11, minor: 1, micro: 0 } as const;
