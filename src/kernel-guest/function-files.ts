/** Functions of the host as KVM knows them: a machine's descriptors of them in the VM's VFIO device. */
import { KvmVfio, type KvmVm } from "../kvm/index.js";
import { SystemError } from "../linux/index.js";
import type { HostFiles } from "../machine/index.js";
import type { Log } from "../support/index.js";

export class FunctionFiles {
  private constructor(
    private readonly device: Pick<KvmVfio, "add" | "remove" | "close">,
    private readonly files: HostFiles,
    private readonly log: Log,
  ) {
    files.connect({
      add: (fd) => this.attempt("is not told to KVM", () => device.add(fd)),
      remove: (fd) => this.attempt("stays known to KVM", () => device.remove(fd)),
    });
  }

  /** Null: the kernel has no such device, and its VMs do without. */
  static of(vm: Pick<KvmVm, "fd">, files: HostFiles, log: Log, make = (): Pick<KvmVfio, "add" | "remove" | "close"> => new KvmVfio(vm)): FunctionFiles | null {
    try {
      return new FunctionFiles(make(), files, log);
    } catch (error) {
      if (error instanceof SystemError) {
        log.info(`kvm: ${error.message}: it does not know of the functions of the host`);
        return null;
      }
      throw error;
    }
  }

  /** Before the VM is closed. */
  close(): void {
    this.files.disconnect();
    this.device.close();
  }

  private attempt(what: string, call: () => void): void {
    try {
      call();
    } catch (error) {
      if (!(error instanceof SystemError)) {
        throw error;
      }
      this.log.warnLimited("kvm.vfio", `kvm: ${error.message}: a function of the host ${what}: its DMA counts as coherent`);
    }
  }
}
