/**
 * The device tree of a machine: the nodes that QEMU's virt board gives for what is modelled here, and what it does not
 * give: SMMUs of expander buses, and the reserved window of accelerated SMMUs (device-tree-pci.ts).
 */
import { affinityOf, type FirmwareDescription, type KernelBoot, type PlatformDevice } from "./description.js";
import { cells64, type DeviceTreeNode, flatten } from "./device-tree-blob.js";
import { type Children, EDGE_RISING, hostBridges, LEVEL_HIGH, PHANDLE, type Properties, reg, reservedMemory, smmuPhandle, SPI, unit } from "./device-tree-pci.js";
import type { EfiImage } from "./efi.js";
import { TIMER_INTIDS } from "./gtdt.js";


/** GIC interrupt specifier, first cell (Linux arm,gic-v3.yaml): SPIs are of device-tree-pci.ts. */
const PPI = 1;

export function buildDeviceTree(description: FirmwareDescription): Uint8Array {
  const { interrupts, smmus } = description;
  const functions = hostBridges(description);

  const children: Children = [];
  for (const { base, size, numaNode } of description.ram) {
    const properties: Properties = [
      ["device_type", "memory"],
      ["reg", reg({ base, size })],
    ];
    if (numaNode !== null) {
      properties.push(["numa-node-id", [numaNode]]);
    }
    children.push([`memory@${unit(base)}`, { properties }]);
  }
  if (functions.window !== null) {
    children.push(["reserved-memory", reservedMemory(description, functions.window)]);
  }
  const distances = description.numa?.distances ?? null;
  if (distances !== null) {
    // Linux numa.txt: pairs of nodes with their distance.
    const matrix = distances.flatMap((row, from) => row.flatMap((distance, to) => [from, to, distance]));
    children.push(["distance-map", { properties: [["compatible", "numa-distance-map-v1"], ["distance-matrix", matrix]] }]);
  }
  children.push(["cpus", cpuNodes(description)]);
  children.push([`intc@${unit(interrupts.distributor.base)}`, interruptController(description)]);
  smmus.forEach((smmu, index) => {
    children.push([
      `smmuv3@${unit(smmu.base)}`,
      {
        properties: [
          ["compatible", "arm,smmu-v3"],
          ["reg", reg(smmu)],
          ["interrupts", [0, 1, 2, 3].flatMap((line) => [SPI, smmu.spi + line, EDGE_RISING])],
          ["interrupt-names", ["eventq", "priq", "cmdq-sync", "gerror"]],
          ["dma-coherent", true],
          ["#iommu-cells", [1]],
          ["phandle", [smmuPhandle(index)]],
        ],
      },
    ]);
  });
  children.push(...platformNodes(description), ...functions.nodes);
  children.push(["chosen", { properties: [...bootProperties(description.boot), ["stdout-path", `/pl011@${unit(description.platform.uarts[0].base)}`]] }]);

  return flatten({
    properties: [
      ["interrupt-parent", [PHANDLE.gic]],
      ["dma-coherent", true],
      ["model", "linux,dummy-virt"],
      ["#size-cells", [2]],
      ["#address-cells", [2]],
      ["compatible", "linux,dummy-virt"],
    ],
    children,
  });
}

function cpuNodes({ cpus: count, numa }: FirmwareDescription): DeviceTreeNode {
  return {
    properties: [
      ["#address-cells", [1]],
      ["#size-cells", [0]],
    ],
    children: Array.from({ length: count }, (_unused, cpu) => {
      const affinity = affinityOf(cpu);
      const properties: Properties = [
        ["device_type", "cpu"],
        ["compatible", "arm,armv8"],
        ["reg", [affinity]],
      ];
      if (count > 1) {
        properties.push(["enable-method", "psci"]);
      }
      if (numa !== null) {
        properties.push(["numa-node-id", [numa.cpus[cpu]]]);
      }
      return [`cpu@${unit(affinity)}`, { properties }] as const;
    }),
  };
}

function interruptController(description: FirmwareDescription): DeviceTreeNode {
  const { gicVersion, distributor, second, its, v2m } = description.interrupts;
  const children: Children = [];
  if (its !== null) {
    children.push([
      `its@${unit(its.base)}`,
      {
        properties: [
          ["compatible", "arm,gic-v3-its"],
          ["msi-controller", true],
          ["#msi-cells", [1]],
          ["reg", reg(its)],
          ["phandle", [PHANDLE.msi]],
        ],
      },
    ]);
  }
  if (v2m !== null) {
    children.push([
      `v2m@${unit(v2m.base)}`,
      {
        properties: [
          ["compatible", "arm,gic-v2m-frame"],
          ["msi-controller", true],
          ["reg", reg(v2m)],
          ["phandle", [PHANDLE.msi]],
        ],
      },
    ]);
  }
  const properties: Properties = [
    ["compatible", gicVersion === 3 ? "arm,gic-v3" : "arm,cortex-a15-gic"],
    ["reg", reg(distributor, second)],
    ["interrupt-controller", true],
    ["#interrupt-cells", [3]],
    ["#address-cells", [2]],
    ["#size-cells", [2]],
    ["ranges", true],
    ["phandle", [PHANDLE.gic]],
  ];
  if (gicVersion === 3) {
    properties.push(["#redistributor-regions", [1]]);
  }
  return { properties, children };
}

/** Timers, PSCI, serial ports, clock, and the power key, as QEMU has them. */
function platformNodes({ platform }: FirmwareDescription): Children {
  const { uarts, rtc, gpio } = platform;
  const cell = (name: string, device: PlatformDevice, compatible: string, clocks: readonly string[], more: Properties = []) =>
    [
      `${name}@${unit(device.base)}`,
      {
        properties: [
          ["compatible", [compatible, "arm,primecell"]],
          ["reg", reg(device)],
          ["interrupts", [SPI, device.spi, LEVEL_HIGH]],
          ["clocks", clocks.map(() => PHANDLE.clock)],
          ["clock-names", clocks],
          ...more,
        ],
      },
    ] as const;
  const { secure, nonSecure, virtual, hypervisor } = TIMER_INTIDS;
  return [
    ["psci", { properties: [["compatible", ["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]], ["method", "hvc"]] }],
    [
      "timer",
      {
        properties: [
          ["compatible", ["arm,armv8-timer", "arm,armv7-timer"]],
          ["always-on", true],
          ["interrupts", [secure, nonSecure, virtual, hypervisor].flatMap((intid) => [PPI, intid - FIRST_PPI, LEVEL_HIGH])],
        ],
      },
    ],
    [
      "apb-pclk",
      {
        properties: [
          ["compatible", "fixed-clock"],
          ["#clock-cells", [0]],
          ["clock-frequency", [24_000_000]],
          ["clock-output-names", "clk24mhz"],
          ["phandle", [PHANDLE.clock]],
        ],
      },
    ],
    ...uarts.map((uart) => cell("pl011", uart, "arm,pl011", ["uartclk", "apb_pclk"])),
    cell("pl031", rtc, "arm,pl031", ["apb_pclk"]),
    cell("pl061", gpio, "arm,pl061", ["apb_pclk"], [["#gpio-cells", [2]], ["gpio-controller", true], ["phandle", [PHANDLE.gpio]]]),
    [
      "gpio-keys",
      {
        properties: [["compatible", "gpio-keys"]],
        children: [["poweroff", { properties: [["label", "GPIO Key Poweroff"], ["linux,code", [KEY_POWER]], ["gpios", [PHANDLE.gpio, gpio.powerKey, 0]]] }]],
      },
    ],
  ];
}

/** Linux input-event-codes.h. */
const KEY_POWER = 116;
/** INTID of the first private interrupt that a device tree can name (Arm IHI 0069, 2.2). */
const FIRST_PPI = 16;

/** Of /chosen: what a kernel is told at its entry. */
function bootProperties(boot: KernelBoot | null): Properties {
  if (boot === null) {
    return [];
  }
  const { commandLine, ramdisk } = boot;
  return [
    ["bootargs", commandLine],
    ...(ramdisk === null ? [] : ([["linux,initrd-start", cells64(ramdisk.base)], ["linux,initrd-end", cells64(ramdisk.base + ramdisk.size)]] as const)),
  ];
}

/**
 * The tree of a kernel that takes ACPI: nothing but /chosen, with EFI's system table and memory map (Linux
 * Documentation/arch/arm/uefi.rst). Any other node would make arm64's Linux take the tree for the machine's.
 */
export function buildStubTree(boot: KernelBoot, { systemTable, memoryMap }: Pick<EfiImage, "systemTable" | "memoryMap">): Uint8Array {
  return flatten({
    properties: [
      ["#address-cells", [2]],
      ["#size-cells", [2]],
    ],
    children: [
      [
        "chosen",
        {
          properties: [
            ...bootProperties(boot),
            ["linux,uefi-system-table", cells64(systemTable)],
            ["linux,uefi-mmap-start", cells64(memoryMap.address)],
            ["linux,uefi-mmap-size", [memoryMap.size]],
            ["linux,uefi-mmap-desc-size", [memoryMap.descriptorBytes]],
            ["linux,uefi-mmap-desc-ver", [memoryMap.version]],
            // 2: switched off. Without it Linux takes none of these.
            ["linux,uefi-secure-boot", [2]],
          ],
        },
      ],
    ],
  });
}
