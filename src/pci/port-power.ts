/**
 * Power management of a root port with a slot (PCIe 7.5.2; PCI PM 1.2, 3.2): in D3hot, where a driver takes no hotplug
 * interrupts, a hotplug event wakes it by a PME (PCIe 6.7.3.4), which the root port tells of in Root Status (7.5.3.14) and
 * by the interrupt that both share. QEMU's ports have none of it; a driver that lets them sleep hears nothing of a slot.
 */
import { addPowerManagement } from "./capabilities.js";
import type { ConfigRegisters, PciFunction } from "./function.js";

/** PMC: version 3, PME from D0 and D3hot. */
const CAPABILITIES = 0x4803;
/** PMCSR */
const STATE = 0x0003;
const NO_SOFT_RESET = 0x0008;
const PME_ENABLE = 0x0100;
const PME_STATUS = 0x8000;
/** Root Control, at 0x1c of the PCI Express capability. */
const ROOT_CONTROL = 0x1c;
const PME_INTERRUPT_ENABLE = 0x0008;
/** Root Status: requester 15:0 */
const ROOT_STATUS = 0x20;
const ROOT_PME_STATUS = 0x1_0000;

export class PortPower implements ConfigRegisters {
  readonly offset: number;
  readonly size = 4;
  /** A hotplug event is there whose enable is set, whether or not it interrupts. */
  private hotplugEvent = false;
  private waking = false;
  private interrupting = false;

  /** @param express offset of the port's PCI Express capability @param interrupt raises or lowers the PME interrupt */
  constructor(
    private readonly port: PciFunction,
    at: number,
    private readonly express: number,
    private readonly interrupt: (level: boolean) => void,
  ) {
    const { config } = port;
    this.offset = addPowerManagement(config, at, CAPABILITIES) + 4;
    config.set16(this.offset, NO_SOFT_RESET);
    config.allow(this.offset, 2, PME_ENABLE);
    config.allowClear(this.offset, 2, PME_STATUS);
    config.allow(express + ROOT_CONTROL, 2, PME_INTERRUPT_ENABLE);
    config.allowClear(express + ROOT_STATUS, 4, ROOT_PME_STATUS);
    port.registers.push(this, { offset: express + ROOT_CONTROL, size: 8, written: () => this.tell() });
  }

  /** Hotplug events with their enables have come, or gone. */
  hotplug(event: boolean): void {
    this.hotplugEvent = event;
    this.written();
  }

  written(): void {
    const { config } = this.port;
    const status = config.get16(this.offset);
    const waking = this.hotplugEvent && (status & STATE) !== 0 && (status & PME_ENABLE) !== 0;
    if (waking && !this.waking) {
      config.set16(this.offset, status | PME_STATUS);
      config.set32(this.express + ROOT_STATUS, (ROOT_PME_STATUS | this.port.bdf) >>> 0);
    }
    this.waking = waking;
    this.tell();
  }

  reset(): void {
    this.hotplugEvent = false;
    this.waking = false;
    this.tell();
  }

  /** 7.5.3.14: the interrupt follows PME Status and PME Interrupt Enable. */
  private tell(): void {
    const { config } = this.port;
    const wanted = (config.get16(this.express + ROOT_CONTROL) & PME_INTERRUPT_ENABLE) !== 0 && (config.get32(this.express + ROOT_STATUS) & ROOT_PME_STATUS) !== 0;
    if (wanted !== this.interrupting) {
      this.interrupting = wanted;
      this.interrupt(wanted);
    }
  }
}
