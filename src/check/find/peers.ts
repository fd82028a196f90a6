/** Functions of the host that reach each other: what is in the way of peer to peer, or of the IOMMU in between. */
import { type DeviceArgument, deviceLabel } from "../../machine/arguments/index.js";
import { HostFacts } from "../../plan/index.js";
import type { HostFunction, Raised, Subject } from "../subject.js";
import { atLeast, kernelOf } from "./version.js";

/** Linux's first whose VFIO gives BARs as dma-bufs (CONFIG_VFIO_PCI_DMABUF), which is how an iommufd maps them. */
const DMA_BUFS = [6, 19] as const;

interface Peer {
  readonly device: DeviceArgument;
  readonly fn: HostFunction;
  readonly iommu: string | null;
}

const labels = (peers: readonly Peer[]): string => peers.map(({ device, fn }) => `${deviceLabel(device)} (host ${fn.address})`).join(", ");

export function peerToPeer(subject: Subject): Raised[] {
  const { host, topology } = subject;
  if (host === null) {
    return [];
  }
  const facts = new HostFacts(host);
  const peers = topology.passedThrough.flatMap((device): Peer[] => {
    const fn = subject.hostFunction(device);
    return fn === null || fn.bars.length === 0 ? [] : [{ device, fn, iommu: facts.factsOf(fn).iommu?.name ?? null }];
  });
  if (peers.length < 2) {
    return [];
  }
  return [...withoutDmaBufs(subject, peers), ...withoutAcs(subject, peers), ...severalIommus(subject, peers)];
}

/** An iommufd takes no BAR by its address in the process: no function has another one's in its tables. */
function withoutDmaBufs(subject: Subject, peers: readonly Peer[]): Raised[] {
  const { kernel, kernelConfig } = subject.host!;
  const old = !atLeast(kernelOf(kernel), DMA_BUFS);
  const mapped = peers.filter(({ device }) => device.properties.has("iommufd"));
  if (mapped.length < 2 || (!old && kernelConfig?.CONFIG_VFIO_PCI_DMABUF !== "n")) {
    return [];
  }
  return [
    {
      rule: "peer-to-peer",
      words: `functions of the host do not reach each other's BARs: Linux ${kernel} maps none into an iommufd`,
      found: `${labels(mapped)}; ${old ? "VFIO gives BARs as dma-bufs from 6.19 on" : "CONFIG_VFIO_PCI_DMABUF is not set"}. All else of them works`,
      wouldWork: "Linux 6.19 or newer with CONFIG_VFIO_PCI_DMABUF=y",
      spot: subject.spotOf(mapped[1].device, "host"),
    },
  ];
}

/** Ports above both functions whose access control is off: what one sends to the other's addresses never comes to the IOMMU. */
function withoutAcs(subject: Subject, peers: readonly Peer[]): Raised[] {
  const open = new Set(subject.host!.ports?.filter(({ acs }) => acs === false).map(({ address }) => address));
  const told = new Set<string>();
  return peers.flatMap((peer, index) =>
    peers.slice(index + 1).flatMap((other): Raised[] => {
      const port = peer.fn.upstream?.find((one) => open.has(one) && other.fn.upstream?.includes(one) === true);
      if (port === undefined || told.has(port)) {
        return [];
      }
      told.add(port);
      return [
        {
          rule: "peer-to-peer",
          words: `DMA between ${deviceLabel(peer.device)} and ${deviceLabel(other.device)} does not pass the IOMMU`,
          found: `port ${port} is above both, and its ACS is off: an address of one that is a BAR of the other on the host's bus goes there untranslated`,
          wouldWork: "slots behind different ports with ACS",
          spot: subject.spotOf(other.device, "host"),
        },
      ];
    }),
  );
}

/** Behind several physical IOMMUs a request from one to the other goes through the processor's root complexes. */
function severalIommus(subject: Subject, peers: readonly Peer[]): Raised[] {
  const behind = peers.filter(({ iommu }) => iommu !== null);
  const other = behind.find(({ iommu }) => iommu !== behind[0].iommu);
  if (other === undefined) {
    return [];
  }
  const names = [...new Set(behind.map(({ iommu }) => iommu))];
  return [
    {
      rule: "peer-to-peer",
      words: `peer to peer between functions behind ${names.length} IOMMUs of the host goes from one root complex to another`,
      found: `${labels(behind)}, behind ${names.join(", ")}; whether the host forwards such requests, and how fast, is told nowhere`,
      wouldWork: "functions behind one IOMMU where they exchange data, or bounce buffers in memory (NCCL_P2P_DISABLE=1)",
      spot: subject.spotOf(other.device, "host"),
    },
  ];
}
