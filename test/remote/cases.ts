/** The machines that our guest is played on over qtest, on viommu and on QEMUs, and what is expected of it. */
import { expect } from "vitest";
import type { Played } from "./played.js";

export const words = (text: string): string[] => text.split(" ");

const FUNCTIONS = "-device iommu-testdev -device edu -device pcie-root-port,id=rp,chassis=1 -device iommu-testdev,bus=rp,id=hot -device pcie-pci-bridge,id=pb -device edu,bus=pb,addr=3";
export const EXPANDERS =
  "-device pxb-pcie,id=p1,bus_nr=8,bus=pcie.0 -device pxb-pcie,id=p2,bus_nr=16,bus=pcie.0 -device arm-smmuv3,primary-bus=p1,id=s1 -device arm-smmuv3,primary-bus=p2,id=s2 " +
  "-device pcie-root-port,id=r1,bus=p1,chassis=1 -device pcie-root-port,id=r2,bus=p2,chassis=2 -device edu,bus=r1 -device iommu-testdev,bus=r2,id=hot -device edu,bus=pcie.0";
export const BOARD = "-cpu max -m 512";

/** What no QEMU has behind an emulated SMMU. */
export const NEVER = ["PASIDs", "ATS", "function level reset"];
export const MESSAGES = ["messages", "second boot: messages", "kexec: messages"];

/** Names of the steps that the guest skipped. */
export function skipped({ account }: Played): string[] {
  return (account?.guest?.steps ?? []).filter((step) => step.skipped !== null).map((step) => step.name);
}

/** The guest went well to its end. */
export function expectWell(played: Played): void {
  const { account, result, said } = played;
  expect(account?.failure ?? null, `${JSON.stringify(account?.guest?.steps.filter((step) => !step.ok))}\n${said}\n${result.err}`).toBeNull();
  expect(result.code, result.err).toBe(0);
  expect(account?.guest?.dmaChecked).toBeGreaterThan(1000);
  expect(account?.guest?.steps.at(-1)?.name).toBe("kexec: nothing else");
}

export type Case = readonly [what: string, machine: string, options: string[], skipped: string[]];

/** A machine of each kind that both viommu and QEMU 11.1 build. */
export const CASES: readonly Case[] = [
  ["the legacy SMMU, GICv2m", `-machine virt,iommu=smmuv3,gic-version=3,msi=gicv2m ${BOARD} ${FUNCTIONS}`, [], NEVER],
  ["an ITS, which is hidden", `-machine virt,iommu=smmuv3,gic-version=3 -smp 3 ${BOARD} ${FUNCTIONS}`, ["--granule", "16K"], [...NEVER, ...MESSAGES]],
  ["GICv2, stage 2", `-machine virt,gic-version=2 ${BOARD} -device arm-smmuv3,primary-bus=pcie.0,stage=2 ${FUNCTIONS}`, ["--granule", "64K"], NEVER],
  ["stage 1 only", `-machine virt,gic-version=2 ${BOARD} -device arm-smmuv3,primary-bus=pcie.0 ${FUNCTIONS}`, ["--seed", "7"], NEVER],
];

/** A list without order. */
export const sorted = (names: readonly string[]): string[] => [...names].sort();
