/** What `-device arm-smmuv3` asks for, checked as QEMU 11.1 checks it and in its words. */
import type { AccelerationProperties, SmmuProperties } from "../../smmuv3/index.js";
import { Refusal } from "../../support/index.js";
import type { CommonOptions } from "./common-options.js";
import { booleanProperty, type DeviceArgument, deviceLabel, textProperty } from "./device.js";

export interface SmmuRequest {
  /** Without acceleration: what the guest sees. With: the start of it, until the acceleration decides. */
  readonly properties: SmmuProperties;
  readonly acceleration: AccelerationProperties | null;
  /** A kernel's processors read the registers as memory: where that is coherent ("auto"), or else the kernel is refused. */
  readonly registerPages: boolean | "auto";
}

/**
 * @param kernel a kernel runs on vCPUs: x-msi=auto is on for it
 * @throws Refusal in QEMU's words
 */
export function checkSmmuProperties(device: DeviceArgument, machine: CommonOptions, kernel: boolean): SmmuRequest {
  const accel = booleanProperty(device, "accel");
  const stage = parseStage(device, accel);
  const ril = textProperty(device, "ril");
  const ats = textProperty(device, "ats");
  const oas = textProperty(device, "oas");
  const ssidsize = textProperty(device, "ssidsize");
  // IDR0.MSI: QEMU has none. Linux polls the memory of its CMD_SYNC then, where it would read CMDQ_CONS by an exit.
  const msi = onOff(textProperty(device, "x-msi"));
  const messages = msi === "auto" ? kernel : msi;
  const label = deviceLabel(device);
  const registerPages = onOff(textProperty(device, "x-register-pages"));
  if (registerPages === true && !kernel) {
    throw new Refusal(`${label}: registers are read as memory by processors`, { rule: "register-pages", found: "x-register-pages=on, and no kernel on vCPUs", wouldWork: "-accel kvm with -kernel, or x-register-pages=auto" });
  }
  if (accel) {
    checkAccelerator(machine, label);
  }
  if (oas !== "auto" && oas !== "44" && oas !== "48") {
    throw new Refusal("QEMU SMMUv3 model only implements auto, 44 bit, or 48 bit OAS. Other OasMode values are not supported.", {
      rule: "oas-value",
      found: `${label} with oas=${oas}`,
      wouldWork: accel ? "oas=auto, oas=44, oas=48" : "oas=auto, oas=44",
    });
  }
  checkCmdqv(textProperty(device, "cmdqv"), accel, label);
  if (accel) {
    return {
      properties: { stage, ril: true, ats: false, oas: 44, ssidsize: 0, cd2l: false, msi: messages },
      acceleration: {
        ril: onOff(ril),
        ats: onOff(ats),
        oas: oas === "auto" ? "auto" : oas === "48" ? 48 : 44,
        ssidsize: ssidsize === "auto" ? "auto" : Number(ssidsize),
      },
      registerPages,
    };
  }
  const needsAccel = (words: string, what: string, instead: string): never => {
    throw new Refusal(words, { rule: "needs-accel", found: `${label} with ${what} and accel=off`, wouldWork: `${instead}, or accel=on` });
  };
  if (ril === "off") {
    needsAccel("ril can only be disabled if accel=on", "ril=off", "ril=auto");
  }
  if (ats === "on") {
    needsAccel("ats can only be enabled if accel=on", "ats=on", "ats=auto");
  }
  if (oas === "48") {
    needsAccel("oas must be 44 bits when accel=off", "oas=48", "oas=auto");
  }
  if (ssidsize !== "auto" && ssidsize !== "0") {
    needsAccel("ssidsize can only be greater than 0 bits if accel=on", `ssidsize=${ssidsize}`, "ssidsize=auto");
  }
  return { properties: { stage, ril: true, ats: false, oas: 44, ssidsize: 0, cd2l: false, msi: messages }, acceleration: null, registerPages };
}

function onOff(value: string): boolean | "auto" {
  return value === "auto" ? "auto" : value === "on";
}

/** QEMU takes any other text for stage 1 without a word; here it is an error. */
function parseStage(device: DeviceArgument, accel: boolean): "1" | "2" | "nested" {
  const stage = textProperty(device, "stage") || "1";
  const label = deviceLabel(device);
  if (stage !== "1" && stage !== "2" && stage !== "nested") {
    throw new Refusal(`Parameter 'stage' does not accept value '${stage}'`, { found: `${label} with stage=${stage}`, wouldWork: accel ? "stage=1" : "stage=1, stage=2, stage=nested" });
  }
  if (accel && stage !== "1") {
    throw new Refusal("Only stage1 is supported for SMMUv3 with accel=on", {
      rule: "accel-stage",
      found: `${label} with stage=${stage}: the host has stage 2 for the machine's memory`,
      wouldWork: "stage=1 (the default), or accel=off",
    });
  }
  return stage;
}

/** An accelerator that was said and could not carry an accelerated SMMU. Nothing said means the one that can. */
function checkAccelerator(machine: CommonOptions, label: string): void {
  const found =
    machine.accelerator !== null && machine.accelerator !== "kvm"
      ? `accel=${machine.accelerator}`
      : machine.kernelIrqchip !== null && machine.kernelIrqchip !== "on"
        ? `kernel-irqchip=${machine.kernelIrqchip}`
        : null;
  if (found !== null) {
    throw new Refusal("SMMUv3 accel=on requires KVM with kernel-irqchip=on support", {
      rule: "accel-needs-kvm",
      found: `${label} with accel=on, and ${found} for the machine`,
      wouldWork: "-accel kvm, or no -accel at all",
    });
  }
}

function checkCmdqv(cmdqv: string, accel: boolean, label: string): void {
  if (cmdqv !== "on") {
    return;
  }
  if (!accel) {
    throw new Refusal("cmdqv can only be enabled if accel=on", { rule: "needs-accel", found: `${label} with cmdqv=on and accel=off`, wouldWork: "cmdqv=auto or cmdqv=off" });
  }
  throw new Refusal("CMDQV requested but not supported", {
    rule: "cmdqv",
    found: `${label} with cmdqv=on: the virtual command queues of Tegra241 are not modelled, commands are batched instead`,
    wouldWork: "cmdqv=auto or cmdqv=off",
  });
}
