/** What keeps a function of the host from a guest. */
import { FIRMWARE_WANTS_DIRECT, leavesDmaToVfio, notViable } from "../../iommufd/index.js";
import type { HostFacts } from "../../plan/index.js";
import type { FunctionDescription } from "../simulated/file/index.js";
import { denylisted } from "../simulated/kernel/index.js";
import { iommuCure } from "./iommu-rules.js";
import { nodeProblems } from "./kernel-rules.js";
import { type HostProblem, listed, type Patient, problem, versionOf } from "./wanted.js";

const DEVICES = "/sys/bus/pci/devices";
const NVIDIA = 0x10de;
/** NVIDIA's GPUs whose memory is the processors' too: vfio-pci alone does not give it (Linux drivers/vfio/pci/nvgrace-gpu). */
const COHERENT_GPUS: ReadonlySet<number> = new Set([0x2342, 0x2345, 0x2348, 0x2941, 0x31c2]);
const CLASS_DISPLAY = 0x03;
const CLASS_BRIDGE_OTHER = 0x0680;

/** Functions that are asked for, in the order in which problems are to be mended. */
export function functionProblems(patient: Patient): HostProblem[] {
  const { host, wanted } = patient;
  const all = new Map(host.description.functions.map((fn) => [fn.address, fn]));
  const ports = host.description.ports ?? [];
  const groups = new Set<number>();
  return wanted.functions.flatMap((address) => {
    const fn = all.get(address);
    if (fn === undefined) {
      if (ports.some((port) => port.address === address)) {
        return [problem("error", "bridge", `vfio ${address}: a bridge is not passed through`, "a PCI Express port or a bridge", "the functions behind it")];
      }
      const known = [...all.keys()];
      return [problem("error", "no-function", `vfio ${address}: no such host device`, `${DEVICES} has ${known.length === 0 ? "no PCI functions" : listed(known)}`, "a function of this host (lspci -D)")];
    }
    if (fn.group === null) {
      return [problem("error", "no-group", `vfio ${address}: no iommu_group found: No such file or directory`, "no IOMMU of the host serves the function", iommuCure(patient))];
    }
    const first = !groups.has(fn.group);
    groups.add(fn.group);
    return [...driverProblems(patient, fn), ...(first ? groupProblems(patient, fn) : [])];
  });
}

function driverProblems({ host }: Patient, fn: FunctionDescription): HostProblem[] {
  const { address, driver } = fn;
  const device = host.functions.get(address)?.characterDevice ?? null;
  if (device !== null) {
    return nodeProblems(host, `dev/${device}`, "a group or an ACL that lets this user open it, or a descriptor from who may: -device vfio-pci,fd=N");
  }
  const words = `vfio ${address}: couldn't open directory ${DEVICES}/${address}/vfio-dev: No such file or directory`;
  const denied = denylisted(fn);
  if (denied !== null) {
    return [problem("error", "denylist", `vfio ${address}: ${denied}`, "errata by which its user could harm the host", "another function, or vfio-pci.disable_denylist=1 where its guests are trusted")];
  }
  if (!driver.includes("vfio")) {
    const cure = `the driver vfio-pci: modprobe vfio-pci; driverctl set-override ${address} vfio-pci (or, by hand: echo vfio-pci >${DEVICES}/${address}/driver_override; ${driver === "" ? "" : `echo ${address} >/sys/bus/pci/drivers/${driver}/unbind; `}echo ${address} >/sys/bus/pci/drivers_probe)`;
    const override = host.functions.get(address)?.driverOverride ?? null;
    const misnamed = override !== null && override !== driver ? `, and its driver_override is ${override}, ${/^vfio[_-]pci$|^pci[_-]vfio$|^vfio$/.test(override) && override !== "vfio-pci" ? "a name that no driver has" : "whose driver is not there or does not take it"}` : "";
    return [problem("error", "driver", words, `${driver === "" ? "the function has no driver" : `the function's driver is ${driver}`}${misnamed}`, cure)];
  }
  if (host.description.kernelConfig?.CONFIG_VFIO_DEVICE_CDEV === "n" && host.nodes["dev/iommu"] === "absent") {
    // No function has one, and why has been told.
    return [];
  }
  return [problem("error", "no-character-device", words, `the function's driver is ${driver}, and Linux ${host.description.kernel} shows no character device of it`, "a kernel with CONFIG_VFIO_DEVICE_CDEV (Linux 6.6 or newer)")];
}

/** DMA of a group is one process's: no function in it may have a driver of the kernel's. */
function groupProblems({ host }: Patient, fn: FunctionDescription): HostProblem[] {
  const { functions } = host.description;
  const members = functions.filter(({ group }) => group === fn.group);
  const others = members.filter((other) => other !== fn && !leavesDmaToVfio(other.driver));
  const foreign =
    others.length === 0
      ? []
      : [problem("error", "group", `vfio ${fn.address}: ${notViable(fn.group!)}`, `${listed(others.map((other) => `${other.address} (${other.driver})`))} in the same IOMMU group`, `all functions of the group without a driver or with vfio-pci; ${acsCure(host.description.ports, fn, others)}`)];
  const direct = members.find(({ reserved }) => reserved?.some(({ type }) => type === "direct") === true);
  return direct === undefined
    ? foreign
    : [...foreign, problem("error", "direct-mapping", `vfio ${fn.address}: ${FIRMWARE_WANTS_DIRECT}`, `${direct.address} has a reserved range of type direct (RMRR, or the IORT's RMR)`, "a firmware setting that gives the range up (often of the management controller or of USB), another slot, or another function")];
}

/** The port that should keep functions apart, where it is known. */
function acsCure(ports: Patient["host"]["description"]["ports"], fn: FunctionDescription, others: readonly FunctionDescription[]): string {
  const slot = (address: string): string => address.replace(/\.\d$/, "");
  if (others.every(({ address }) => slot(address) === slot(fn.address))) {
    return "they are functions of one device, which stay together";
  }
  const open = (fn.upstream ?? []).findLast((port) => ports?.some(({ address, acs }) => address === port && acs === false));
  return `${open === undefined ? "" : `${open} has no ACS, or it is off: `}a slot behind a port with ACS puts a function in a group of its own`;
}

/** What is not in the way, and should be known of functions that are asked for. */
export function companionProblems({ host, wanted }: Patient): HostProblem[] {
  const { functions, kernel } = host.description;
  const asked = functions.filter(({ address }) => wanted.functions.includes(address));
  return asked.flatMap((fn) => {
    const slot = fn.address.replace(/\.\d$/, "");
    const siblings = functions.filter((other) => other !== fn && other.address.startsWith(`${slot}.`) && other.group !== fn.group && !leavesDmaToVfio(other.driver));
    const problems: HostProblem[] = [];
    if (siblings.length > 0 && fn.class >>> 16 === CLASS_DISPLAY) {
      problems.push(problem("warning", "companions", `vfio ${fn.address}: other functions of the GPU are not given with it`, listed(siblings.map((other) => `${other.address} (${other.name}, ${other.driver})`)), "vfio-pci for them too: a reset of one is a reset of all"));
    }
    if (fn.vendor === NVIDIA && COHERENT_GPUS.has(fn.device) && fn.driver === "vfio-pci") {
      problems.push(problem("warning", "nvgrace-driver", `vfio ${fn.address}: the GPU's memory is not given with it`, `its driver is vfio-pci, and its memory is shown as BARs by nvgrace-gpu-vfio-pci (CONFIG_NVGRACE_GPU_VFIO_PCI)${versionOf(kernel) < 6009 ? ", which Linux has since 6.9" : ""}`, `driverctl set-override ${fn.address} nvgrace-gpu-vfio-pci`));
    }
    const switches = functions.filter((other) => other.vendor === NVIDIA && other.class >>> 8 === CLASS_BRIDGE_OTHER && !wanted.functions.includes(other.address));
    if (fn.vendor === NVIDIA && fn.class >>> 16 === CLASS_DISPLAY && switches.length > 0) {
      problems.push(problem("warning", "nvswitch", `vfio ${fn.address}: the GPU's NVLinks go through switches that the guest does not have`, listed(switches.map(({ address, driver }) => `${address} (${driver === "" ? "no driver" : driver})`)), "the switches too, or the host's Fabric Manager in shared NVSwitch mode"));
    }
    if (fn.reset?.length === 0) {
      problems.push(problem("warning", "no-reset", `vfio ${fn.address}: the function cannot be reset`, "its reset_method is empty: what a guest leaves in it the next one finds", "a firmware or a card with function level reset"));
    }
    return problems;
  });
}

/** BARs that addresses do not reach. */
export function barProblems({ host, wanted }: Patient, facts: HostFacts): HostProblem[] {
  const { functions, addressBits } = host.description;
  return functions
    .filter(({ address }) => wanted.functions.includes(address))
    .flatMap((fn) => {
      const { iommu } = facts.factsOf(fn);
      const ofIommu = iommu?.kind === "vtd" ? iommu.offer.awBits.value : iommu?.kind === "smmuv3" && iommu.description.idr5 !== null ? iommu.offer.oas.value : null;
      const limits = [addressBits === null ? null : { bits: addressBits, of: "processors have" }, ofIommu === null ? null : { bits: ofIommu, of: `a guest behind ${iommu!.name} has` }].filter((one) => one !== null);
      const large = fn.bars.find(({ size }) => limits.some(({ bits }) => size > 2 ** (bits - 1)));
      const narrow = limits.find(({ bits }) => large !== undefined && large.size > 2 ** (bits - 1));
      return large === undefined || narrow === undefined
        ? []
        : [problem("error", "bar-size", `vfio ${fn.address}: BAR ${large.index} of ${large.size / 2 ** 30} GiB finds no place`, `the ${narrow.of} ${narrow.bits} bits of address`.replace("the a guest", "a guest"), "a smaller BAR (resizable BAR: resource N_resize, or a firmware setting), or a wider IOMMU")];
    });
}
