import { CERROR_NONE, CMD, EVENT, EVT, get, isCfgiOrTlbi, OP } from "../../../../smmuv3/spec/index.js";
import { getWide } from "../../../../support/index.js";
import {
  HwInfoType,
  type HwptAllocRequest,
  type IovaRange,
  ViommuType,
} from "../../../../iommufd/index.js";
import { CommandCheck } from "./command-check.js";
import { domainKind, SmmuPagingDomain } from "./domains.js";
import type { HostMemory, PhysicalFunction, PhysicalSmmu } from "../hardware-port.js";
import { hwInfoOf } from "./hw-info.js";
import type { IommuAccount, IommuDriver, Master, PagingDomain, ViommuPort } from "../iommu-driver.js";
import type { KernelRules } from "../kernel-rules.js";
import { guarded, type Refuse } from "../objects.js";
import { nestingObstacle, smmuFeatures, type SmmuFeatures } from "./features.js";
import { abortEntry } from "./stream-entries.js";
import { SmmuMaster } from "./master.js";
import { TagPool } from "../tag-pool.js";
import type { UnclaimedFaultListener } from "../unclaimed-fault.js";
import { Vsmmu } from "./vsmmu.js";

/** The window of IOVAs for MSIs that the driver asks for (IOMMU_RESV_SW_MSI; Linux MSI_IOVA_BASE, MSI_IOVA_LENGTH). */
const MSI_WINDOW: IovaRange = { start: 0x800_0000n, last: 0x80f_ffffn };

/** Events that the kernel passes to a guest (struct iommu_vevent_arm_smmuv3). */
const FORWARDED_EVENTS: ReadonlySet<number> = new Set([
  EVENT.C_BAD_STE,
  EVENT.F_STREAM_DISABLED,
  EVENT.C_BAD_SUBSTREAMID,
  EVENT.C_BAD_CD,
  EVENT.F_TRANSLATION,
  EVENT.F_ADDR_SIZE,
  EVENT.F_ACCESS,
  EVENT.F_PERMISSION,
]);

/** What one SMMU has of tags and events. */
export interface SmmuAccount extends IommuAccount {
  readonly vmids: number;
  readonly asids: number;
  /** Events that went to no guest, by event number. */
  readonly unhandledEvents: ReadonlyMap<number, number>;
}

/** The kernel's driver of one physical SMMU: what all its functions share, and where its events go. */
export class SmmuDriver implements IommuDriver {
  readonly reserved = MSI_WINDOW;
  readonly mapsDoorbells = true;
  readonly wantsPageRequests = false;
  readonly features: SmmuFeatures;
  /** How guests' commands are judged; null: they are taken as they are. */
  readonly commandCheck: CommandCheck | null;
  readonly vmids: TagPool;
  readonly asids: TagPool;
  /** Events that went to no guest, by their number. */
  readonly unhandledEvents = new Map<number, number>();
  /** Commands that the hardware answered with an error. */
  commandErrors = 0;
  onUnclaimedFault: UnclaimedFaultListener | null = null;
  private readonly masters = new Map<number, SmmuMaster>();

  constructor(
    readonly smmu: PhysicalSmmu,
    readonly memory: HostMemory,
    rules: KernelRules,
    /** The kernel has the part of iommufd that is SMMUv3's (CONFIG_ARM_SMMU_V3_IOMMUFD). */
    private readonly hasIommufd = true,
  ) {
    this.features = smmuFeatures(smmu);
    this.commandCheck = rules.judgesCommands ? new CommandCheck(smmu.idr) : null;
    this.vmids = new TagPool(`VMIDs of ${smmu.name}`, this.features.vmidBits);
    this.asids = new TagPool(`ASIDs of ${smmu.name}`, this.features.asidBits);
    this.toRepeat = smmu.hasErratum("nvidia-t264-smmu-3") ? [] : null;
    smmu.onEvent((record) => this.handleEvent(record));
  }

  /** Takes charge of a function: until it is attached its transactions abort. */
  probe(device: PhysicalFunction): SmmuMaster {
    const master = new SmmuMaster(this, device);
    this.masters.set(device.sourceId, master);
    master.install(abortEntry());
    device.enablePasid(master.pasidBits > 0);
    return master;
  }

  get name(): string {
    return this.smmu.name;
  }

  get cacheCoherent(): boolean {
    return this.features.cacheCoherent;
  }

  get tracksDirty(): boolean {
    return this.features.dirty;
  }

  get hwInfoType(): number {
    return this.hasIommufd ? HwInfoType.ARM_SMMUV3 : HwInfoType.NONE;
  }

  hwInfo(): Uint8Array {
    return !this.hasIommufd ? new Uint8Array(0) : hwInfoOf(this.smmu);
  }

  allocatePaging(_master: Master, flags: number, refuse: Refuse): SmmuPagingDomain {
    const kind = domainKind(this, flags, refuse);
    if (!this.features.kernelPages) {
      throw refuse("EINVAL", `${this.name} has no 4 KiB granule`);
    }
    return guarded(() => new SmmuPagingDomain(this, kind), refuse);
  }

  /** This SMMU's nested tables are made on a vIOMMU (no domain_alloc_nested in Linux). */
  allocateNested(_master: Master, _parent: object, _request: HwptAllocRequest, refuse: Refuse): never {
    throw refuse("EOPNOTSUPP", "this SMMU's nested tables are made on a vIOMMU");
  }

  checkViommu(type: number, refuse: Refuse): void {
    if (!this.hasIommufd) {
      throw refuse("EOPNOTSUPP", "the kernel was built without CONFIG_ARM_SMMU_V3_IOMMUFD");
    }
    const obstacle = nestingObstacle(this.features, this.smmu.coherent);
    if (obstacle !== null) {
      throw refuse("EOPNOTSUPP", `${this.name} ${obstacle}`);
    }
    if (type !== ViommuType.ARM_SMMUV3) {
      throw refuse("EOPNOTSUPP", `type ${type}`);
    }
  }

  allocateViommu(port: ViommuPort, refuse: Refuse): Vsmmu {
    return new Vsmmu(this, this.own(port.parent, "parent", refuse), port);
  }

  /** The stream table is the hardware's to give back. */
  close(): void {}

  account(): SmmuAccount {
    return {
      name: this.name,
      vmids: this.vmids.live,
      asids: this.asids.live,
      unhandledEvents: this.unhandledEvents,
      commandErrors: this.commandErrors,
    };
  }

  /** TLBI and CFGI since the last CMD_SYNC, of an SMMU that wants them twice; null: it does not. */
  private readonly toRepeat: Int32Array[] | null;

  /** Runs a command of the kernel's own, of four words; an error is counted and, as in Linux, the command passed over. */
  run(words: Int32Array): void {
    this.runWords(words[0], words[1], words[2], words[3]);
    if (this.toRepeat !== null && isCfgiOrTlbi(get(words, CMD.OPCODE))) {
      this.toRepeat.push(words);
    }
  }

  /** Runs a command as it is: a guest's. */
  runWords(word0: number, word1: number, word2: number, word3: number): void {
    if (this.smmu.command(word0, word1, word2, word3) !== CERROR_NONE) {
      this.commandErrors++;
    }
  }

  sync(): void {
    this.syncOnce();
    const again = this.toRepeat?.splice(0) ?? [];
    if (again.length > 0) {
      again.forEach((words) => this.runWords(words[0], words[1], words[2], words[3]));
      this.syncOnce();
    }
  }

  /** The CMD_SYNC of a guest's commands, which the kernel does not repeat. */
  syncOnce(): void {
    this.runWords(OP.SYNC, 0, 0, 0);
  }

  /** A domain of this driver: a table is one SMMU's. */
  own(domain: PagingDomain, what: string, refuse: Refuse): SmmuPagingDomain {
    if (!(domain instanceof SmmuPagingDomain) || domain.driver !== this) {
      const owner = domain instanceof SmmuPagingDomain ? domain.driver.name : "another IOMMU";
      throw refuse("EINVAL", `the ${what} belongs to ${owner}, the function to ${this.name}`);
    }
    return domain;
  }

  /** IHI 0070, 7.3: to the guest that owns the stream, with its own StreamID; stage-2 faults are the host's. */
  private handleEvent(record: Int32Array): void {
    const number = get(record, EVT.NUMBER);
    const guest = this.masters.get(record[1] >>> 0)?.guest ?? null;
    if (guest !== null && FORWARDED_EVENTS.has(number) && get(record, EVT.S2) === 0) {
      const copy = Int32Array.from(record);
      copy[1] = guest.vsid;
      if (guest.vsmmu.reportEvent(copy)) {
        return;
      }
    }
    this.unhandledEvents.set(number, (this.unhandledEvents.get(number) ?? 0) + 1);
    const master = this.masters.get(record[1] >>> 0);
    if (master !== undefined && this.onUnclaimedFault !== null) {
      const secondStage = get(record, EVT.S2) !== 0;
      this.onUnclaimedFault({
        function: master.device.description.address,
        pasid: get(record, EVT.SSV) === 0 ? null : get(record, EVT.SSID),
        address: getWide(record, EVT.INPUT_ADDR),
        isWrite: get(record, EVT.RNW) === 0,
        secondStage,
        guestPhysical: secondStage ? getWide(record, EVT.IPA) : null,
      });
    }
  }
}
