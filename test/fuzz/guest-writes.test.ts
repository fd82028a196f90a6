/**
 * Whatever a guest does, on whole machines (VIOMMU_FUZZ=nightly: more than a million operations). A failure
 * names the seed and the operation; the same seed does the same again.
 */
import { expect, describe, it } from "vitest";
import { Fuzzer } from "./fuzzer.js";
import { Random } from "./random.js";
import { World, type WorldSpec } from "./world.js";

const NIGHTLY = process.env.VIOMMU_FUZZ === "nightly";
/** Operations of each seed, in episodes that begin with an honest boot. */
const OPERATIONS = NIGHTLY ? 60_000 : 1_000;
const EPISODE = NIGHTLY ? 2_000 : 500;

const COMMON = "-M virt,accel=kvm,gic-version=3 -m 64M -nodefaults -object iommufd,id=iommufd0";

interface Case extends WorldSpec {
  readonly additions: readonly string[];
}

const GRACE: Case = {
  name: "several SMMUs, accelerated and not, on a server",
  host: "grace",
  line:
    `${COMMON} -device edu,id=edu0 ` +
    "-device pxb-pcie,id=pcie.1,bus_nr=16 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on,ats=on,ril=on,oas=48,ssidsize=16 " +
    "-device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 -device vfio-pci,host=0008:02:00.0,bus=rp1,id=nic0,iommufd=iommufd0 -device pcie-root-port,id=rp5,bus=pcie.1,chassis=5 " +
    "-device pxb-pcie,id=pcie.2,bus_nr=32 -device arm-smmuv3,primary-bus=pcie.2,id=smmu2,accel=on " +
    "-device pcie-root-port,id=rp2,bus=pcie.2,chassis=2 -device vfio-pci,host=0009:02:00.0,bus=rp2,id=nic1,iommufd=iommufd0 " +
    "-device pcie-root-port,id=rp3,bus=pcie.2,chassis=3 -device vfio-pci,host=0009:03:00.0,bus=rp3,id=disk1,iommufd=iommufd0 " +
    "-device pxb-pcie,id=pcie.3,bus_nr=48 -device arm-smmuv3,primary-bus=pcie.3,id=smmu3,stage=nested " +
    "-device pcie-root-port,id=rp4,bus=pcie.3,chassis=4 -device nvme,serial=1,id=disk2,bus=rp4 -device pcie-root-port,id=rp6,bus=pcie.3,chassis=6 -device iommu-testdev,bus=rp6 " +
    "-device pcie-root-port,id=rp7,bus=pcie.3,chassis=7 -device pcie-pci-bridge,id=pci.8,bus=rp7 -device edu,bus=pci.8,addr=1 -device edu,bus=pci.8,addr=2 " +
    "-device virtio-net-pci,id=net0,bus=pcie.0",
  witness:
    `${COMMON} -device pxb-pcie,id=pcie.1,bus_nr=16 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on ` +
    "-device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 -device vfio-pci,host=0009:01:00.0,bus=rp1,id=gpu1,iommufd=iommufd0",
  additions: [
    "vfio-pci,host=0009:02:00.0,bus=rp5,id=wrong-smmu,iommufd=iommufd0",
    "vfio-pci,host=0008:01:00.0,bus=rp5,id=gpu0,iommufd=iommufd0",
    "vfio-pci,host=0009:01:00.0,bus=rp3,id=taken,iommufd=iommufd0",
    "vfio-pci,host=0008:02:00.0,bus=rp5,id=twice,iommufd=iommufd0",
    "e1000e,bus=rp5,id=emulated",
    "nvme,serial=1,bus=rp4,id=disk3",
    "vfio-pci,host=00ff:02:00.0,bus=rp5,id=none,iommufd=iommufd0",
    "vfio-pci,host=0008:01:00.0,bus=rp5,id=legacy",
    "edu,bus=pcie.0",
  ],
};

const SMALL: Case = {
  name: "one SMMU for everything, on a small server",
  host: "arm-small",
  line:
    `${COMMON} -device arm-smmuv3,primary-bus=pcie.0,id=smmu0,accel=on -device pcie-root-port,id=rp1,chassis=1 -device vfio-pci,host=0000:01:00.0,bus=rp1,id=nic0,iommufd=iommufd0 ` +
    "-device pcie-root-port,id=rp2,chassis=2 -device x3130-upstream,id=up,bus=rp2 -device xio3130-downstream,id=down0,bus=up,chassis=3 " +
    "-device vfio-pci,host=0000:02:00.0,bus=down0,id=disk0,iommufd=iommufd0 -device xio3130-downstream,id=down1,bus=up,chassis=4",
  witness: `${COMMON} -device arm-smmuv3,primary-bus=pcie.0,id=smmu0,accel=on -device pcie-root-port,id=rp1,chassis=1 -device vfio-pci,host=0000:01:00.1,bus=rp1,id=nic1,iommufd=iommufd0`,
  additions: ["vfio-pci,host=0001:01:00.0,bus=down1,id=wrong-smmu,iommufd=iommufd0", "vfio-pci,host=0001:03:00.0,bus=down1,id=driver,iommufd=iommufd0", "e1000e,bus=down1,id=emulated"],
};

const BOARD: Case = {
  name: "a board: functions behind an SMMU, behind a bridge, behind none",
  host: "board",
  line:
    `${COMMON} -device vfio-pci,host=0000:03:00.0,id=nic0,iommufd=iommufd0 -device pxb-pcie,id=pcie.1,bus_nr=16 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on,ril=off,ats=off,oas=44,ssidsize=0 ` +
    "-device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 -device vfio-pci,host=0000:01:00.0,bus=rp1,id=disk0,iommufd=iommufd0",
  witness: `${COMMON} -device arm-smmuv3,primary-bus=pcie.0,id=smmu0,accel=on -device pcie-root-port,id=rp1,chassis=1 -device vfio-pci,host=0000:02:00.0,bus=rp1,id=disk1,iommufd=iommufd0`,
  additions: ["vfio-pci,host=0000:02:00.0,bus=rp1,id=taken,iommufd=iommufd0"],
};

const SHARED: Case = {
  name: "functions of one slot, and one behind a conventional bridge",
  host: "arm-small",
  line:
    `${COMMON} -device pxb-pcie,id=pcie.1,bus_nr=16 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on ` +
    "-device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 -device vfio-pci,host=0000:01:00.0,bus=rp1,addr=0.0,multifunction=on,id=nic0,iommufd=iommufd0 -device vfio-pci,host=0000:01:00.1,bus=rp1,addr=0.1,id=nic1,iommufd=iommufd0 " +
    "-device pxb-pcie,id=pcie.2,bus_nr=32 -device arm-smmuv3,primary-bus=pcie.2,id=smmu2,accel=on " +
    "-device pcie-root-port,id=rp2,bus=pcie.2,chassis=2 -device pcie-pci-bridge,id=pci.1,bus=rp2 -device vfio-pci,host=0001:01:00.0,bus=pci.1,addr=1,id=nic2,iommufd=iommufd0 " +
    "-device pxb-pcie,id=pcie.3,bus_nr=64 -device arm-smmuv3,primary-bus=pcie.3,id=smmu3,stage=2 -device pcie-root-port,id=rp3,bus=pcie.3,chassis=3 -device e1000e,id=net0,bus=rp3",
  witness: `${COMMON} -device arm-smmuv3,primary-bus=pcie.0,id=smmu0,accel=on -device pcie-root-port,id=rp1,chassis=1 -device vfio-pci,host=0000:02:00.0,bus=rp1,id=disk0,iommufd=iommufd0`,
  additions: ["vfio-pci,host=0001:01:00.1,bus=pci.1,addr=2,id=nic3,iommufd=iommufd0", "vfio-pci,host=0001:01:00.1,bus=rp1,addr=0.2,id=nic3,iommufd=iommufd0", "virtio-net-pci,bus=rp1,addr=0.3,id=net1"],
};

const PC = "-M q35,accel=kvm,kernel-irqchip=split -m 64M -nodefaults -object iommufd,id=iommufd0";

const TWO_SOCKETS: Case = {
  name: "an intel-iommu, functions of two sockets, emulated ones beside them",
  host: "two-socket-spr",
  line:
    `${PC} -object iommufd,id=iommufd1 -device intel-iommu,id=iommu0,scalable-mode=on,fsts=on,pasid-bits=8,device-iotlb=on,intremap=on,caching-mode=on,x-require-nesting=on -device edu,id=edu0 ` +
    "-device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=0000:6a:01.0,bus=rp0,id=dsa0,iommufd=iommufd0 " +
    "-device pcie-root-port,id=rp1,chassis=2 -device vfio-pci,host=0000:97:00.0,bus=rp1,id=nic1,iommufd=iommufd1 " +
    "-device pcie-root-port,id=rp2,chassis=3 -device x3130-upstream,id=up,bus=rp2 -device xio3130-downstream,id=down0,bus=up,chassis=4 " +
    "-device vfio-pci,host=0000:98:00.0,bus=down0,id=gpu0,iommufd=iommufd0 -device xio3130-downstream,id=down1,bus=up,chassis=5 " +
    "-device pcie-root-port,id=rp3,chassis=6 -device nvme,serial=1,id=disk0,bus=rp3 -device pcie-root-port,id=rp4,chassis=7 " +
    "-device pcie-root-port,id=rp5,chassis=8 -device pcie-pci-bridge,id=pci.8,bus=rp5 -device edu,bus=pci.8,addr=1 -device edu,bus=pci.8,addr=2 " +
    "-device iommu-testdev -device virtio-net-pci,id=net0",
  witness:
    `${PC} -device intel-iommu,id=iommu0,scalable-mode=on,fsts=on,pasid-bits=8,device-iotlb=on,caching-mode=on ` +
    "-device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=0000:6b:00.0,bus=rp0,id=qat0,iommufd=iommufd0",
  additions: [
    "vfio-pci,host=0000:97:00.1,bus=rp4,id=nic2,iommufd=iommufd0",
    "vfio-pci,host=0000:17:00.0,bus=rp4,id=nic3,iommufd=iommufd1",
    "vfio-pci,host=0000:6a:01.0,bus=rp4,id=twice,iommufd=iommufd0",
    "vfio-pci,host=0000:6b:00.0,bus=down1,id=taken,iommufd=iommufd0",
    "vfio-pci,host=0000:17:00.1,bus=rp4,id=legacy",
    "vfio-pci,host=0000:17:00.1,bus=pci.8,addr=3,id=bridged,iommufd=iommufd0",
    "nvme,serial=1,bus=rp4,id=disk1",
    "edu,bus=pcie.0",
  ],
};

const MIRRORED: Case = {
  name: "an intel-iommu in legacy mode, whose tables are mirrored",
  host: "desktop",
  line:
    `${PC} -device intel-iommu,id=iommu0,caching-mode=on,intremap=on,aw-bits=39 -device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=0000:01:00.0,bus=rp0,id=disk0,iommufd=iommufd0 ` +
    "-device pcie-root-port,id=rp1,chassis=2 -device virtio-net-pci,id=net0",
  witness: `${PC} -device intel-iommu,id=iommu0,caching-mode=on,aw-bits=39 -device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=0000:02:00.0,bus=rp0,id=other,iommufd=iommufd0`,
  additions: ["vfio-pci,host=0000:02:00.0,bus=rp1,id=taken,iommufd=iommufd0", "nvme,serial=1,bus=rp1,id=disk1"],
};

const BOTH_MODES: Case = {
  name: "an intel-iommu whose guest may use either mode, without caching mode",
  host: "two-socket-spr",
  line:
    `${PC} -device intel-iommu,id=iommu0,scalable-mode=on,fsts=on,pasid-bits=6,intremap=on -device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=0000:6a:01.0,bus=rp0,id=dsa0,iommufd=iommufd0 ` +
    "-device pcie-root-port,id=rp1,chassis=2 -device vfio-pci,host=0000:e2:00.0,bus=rp1,id=grabber,iommufd=iommufd0 -device virtio-net-pci,id=net0",
  witness: `${PC} -device intel-iommu,id=iommu0,scalable-mode=on,fsts=on -device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=0000:6b:00.0,bus=rp0,id=other,iommufd=iommufd0`,
  additions: ["vfio-pci,host=0000:97:00.0,bus=rp1,id=nic1,iommufd=iommufd0", "nvme,serial=1,bus=rp1,id=disk1"],
};

const SECOND_STAGE: Case = {
  name: "an intel-iommu in scalable mode with second stages, which are mirrored",
  host: "two-socket-spr",
  line:
    `${PC} -device intel-iommu,id=iommu0,scalable-mode=on,caching-mode=on,intremap=on -device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=0000:6a:01.0,bus=rp0,id=dsa0,iommufd=iommufd0 ` +
    "-device pcie-root-port,id=rp1,chassis=2 -device vfio-pci,host=0000:97:00.0,bus=rp1,id=nic1,iommufd=iommufd0 -device virtio-net-pci,id=net0",
  witness: `${PC} -device intel-iommu,id=iommu0,caching-mode=on -device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=0000:97:00.1,bus=rp0,id=other,iommufd=iommufd0`,
  additions: ["vfio-pci,host=0000:97:00.1,bus=rp1,id=taken,iommufd=iommufd0", "nvme,serial=1,bus=rp1,id=disk1"],
};

const SEEDS: Array<[Case, number[]]> = [
  [GRACE, NIGHTLY ? [1, 2, 3, 4, 5, 6, 7, 8] : [1, 2]],
  [SMALL, NIGHTLY ? [21, 22, 23, 24, 25] : [21]],
  [SHARED, NIGHTLY ? [41, 42, 43] : [41]],
  [BOARD, NIGHTLY ? [31, 32, 33] : [31]],
  [TWO_SOCKETS, NIGHTLY ? [51, 52, 53, 54, 55, 56] : [51]],
  [MIRRORED, NIGHTLY ? [61, 62, 63] : [61]],
  [BOTH_MODES, NIGHTLY ? [71, 72, 73] : [71]],
  [SECOND_STAGE, NIGHTLY ? [81, 82, 83] : [81]],
];

const ERRNOS = ["ENOMEM", "EINVAL", "EBUSY", "EIO", "ETIMEDOUT"] as const;

interface Life {
  readonly world: World;
  readonly fuzzer: Fuzzer;
}

async function begin(spec: Case, seed: number): Promise<Life> {
  const world = await World.make(spec);
  const fuzzer = new Fuzzer(world, seed, spec.additions);
  expect(await fuzzer.boot(), "a new machine boots").toBe(true);
  return { world, fuzzer };
}

async function end({ world, fuzzer }: Life): Promise<void> {
  await world.checkWitness();
  // What device_del asked for and the guest never gave ends with a reset.
  world.machine.reset();
  await fuzzer.settle();
  expect(world.violations).toEqual([]);
  world.end();
}

/** Runs a seed to its end, on one machine or, where its devices have got lost, on the next. Returns the operations done. */
async function fuzz(spec: Case, seed: number): Promise<number> {
  const random = new Random(seed ^ 0x5eed);
  let done = 0;
  let requests = 0;
  let life = await begin(spec, seed);
  while (done < OPERATIONS) {
    const { world, fuzzer } = life;
    for (let n = 1; n <= EPISODE; n++) {
      if (spec.failing === true && random.oneIn(20)) {
        world.observer.failOn({ operation: "*", nth: 1 + random.below(12), errno: random.pick(ERRNOS), handled: random.below(3) });
      }
      fuzzer.step();
      if (n % 50 === 0) {
        world.checkObjects();
      }
      if (n % 500 === 0) {
        await world.checkWitnessTlb(() => fuzzer.invalidate());
      }
    }
    done += EPISODE;
    requests += world.requests;
    world.observer.clearFailures();
    if (done < OPERATIONS && !(await fuzzer.boot())) {
      await end(life);
      life = await begin(spec, seed + 1000 * done);
    }
  }
  await end(life);
  // On a host that refuses calls, functions are blocked more often than not.
  expect(requests).toBeGreaterThan(OPERATIONS / (spec.failing === true ? 125 : 62));
  return done;
}

describe.each(SEEDS)("$name", (spec, seeds) => {
  it.each(seeds)("withstands any guest, seed %i", { timeout: NIGHTLY ? 3_600_000 : 120_000 }, async (seed) => {
    const operations = await fuzz(spec, seed);
    if (NIGHTLY) {
      process.stderr.write(`fuzz, ${spec.name}, seed ${seed}: ${operations} operations\n`);
    }
  });

  it.each(seeds.slice(0, NIGHTLY ? 2 : 1))("withstands any guest on a host whose calls fail, seed %i", { timeout: NIGHTLY ? 3_600_000 : 120_000 }, async (seed) => {
    const operations = await fuzz({ ...spec, failing: true }, seed + 100);
    if (NIGHTLY) {
      process.stderr.write(`fuzz, ${spec.name}, failing host calls, seed ${seed + 100}: ${operations} operations\n`);
    }
  });
});
