/**
 * What KubeVirt makes of GPUs of Grace machines (VEP-199, alpha): for each an expander bus with an accelerated SMMU of its
 * own, and eight nodes without memory and processors as generic initiators.
 */
import type { DomainWords } from "../domain-xml/words.js";
import type { XmlElement } from "../domain-xml/xml.js";
import type { YamlValue } from "./tree.js";

/** Resource names of NVIDIA's device plugin. KubeVirt goes by PCI ids, which a VMI does not have. */
const GRACE = /^nvidia\.com\/(?:.*[_-])?(?:GH\d|GB\d|GRACE|VR\d)/i;
const NODES_EACH = 8;
const HOLE_EACH = 512;
/** Buses of one expander, from the last ones down. */
const [LAST_BUS, BUSES_EACH] = [254, 4];

interface Gpu {
  readonly value: YamlValue;
  /** Among functions of the host. */
  readonly index: number;
}

export class GraceTopology {
  private constructor(private readonly gpus: readonly Gpu[]) {}

  /** Null: there is none of Grace's. */
  static of(arm: boolean, hosts: ReadonlyArray<{ readonly value: YamlValue; readonly resource: string }>): GraceTopology | null {
    const gpus = hosts.flatMap(({ value, resource }, index) => (arm && GRACE.test(resource) ? [{ value, index }] : []));
    return gpus.length === 0 ? null : new GraceTopology(gpus);
  }

  private busOf(n: number): number {
    return 1 + 2 * n;
  }

  /** A GPU behind the port of its own expander, the first function of which is a node's initiator. */
  place(hostdev: XmlElement, index: number): XmlElement {
    const n = this.gpus.findIndex((one) => one.index === index);
    if (n < 0) {
      return hostdev;
    }
    const { value } = this.gpus[n];
    const first = 1 + NODES_EACH * n;
    return {
      ...hostdev,
      children: [...hostdev.children, value.element("driver", { name: "vfio", iommufd: "yes" }), value.element("acpi", { nodeset: `${first}-${first + NODES_EACH - 1}` }), value.element("address", { type: "pci", domain: "0", bus: String(this.busOf(n) + 1), slot: "0", function: "0" })],
    };
  }

  /** Controllers and IOMMUs. */
  devices(): XmlElement[] {
    const [{ value: first }] = this.gpus;
    const hole = 2 ** Math.ceil(Math.log2(HOLE_EACH * this.gpus.length));
    return [
      first.element("controller", { type: "pci", index: "0", model: "pcie-root" }, [first.element("pcihole64", { unit: "GiB" }, [], String(hole))]),
      ...this.gpus.flatMap(({ value }, n) => {
        const bus = this.busOf(n);
        return [
          value.element("controller", { type: "pci", index: String(bus), model: "pcie-expander-bus" }, [value.element("target", { busNr: String(LAST_BUS - BUSES_EACH * (this.gpus.length - n)) }, [value.element("node", {}, [], "0")])]),
          value.element("controller", { type: "pci", index: String(bus + 1), model: "pcie-root-port" }, [value.element("address", { type: "pci", bus: String(bus), slot: "0", function: "0" })]),
          value.element("iommu", { model: "smmuv3" }, [value.element("driver", { pciBus: String(bus), accel: "on", ats: "on", ril: "off", ssidSize: "20", oas: "48" })]),
        ];
      }),
    ];
  }

  /** Node 0 of all processors and memory, and the GPUs' nodes. */
  numa(at: YamlValue, cpus: number, memory: XmlElement): XmlElement[] {
    const cells = [at.element("cell", { id: "0", cpus: cpus === 1 ? "0" : `0-${cpus - 1}`, memory: memory.text, unit: "b" })];
    for (let id = 1; id <= NODES_EACH * this.gpus.length; id++) {
      cells.push(at.element("cell", { id: String(id), memory: "0", unit: "KiB" }));
    }
    return [at.element("numa", {}, cells)];
  }

  tell(words: DomainWords): void {
    for (const { value } of this.gpus) {
      words.note(value.element("gpu"), "grace-topology", `${value.toString()}: taken for a GPU of a Grace machine by its resource's name: an expander bus with an SMMU (accel=on, ats=on, ril=off, ssidSize 20, oas 48, whatever the host has), ${NODES_EACH} nodes; its bus number and the node of the expander are not said`);
    }
  }
}
