/** What inspectors ask of a monitor: arguments, refusals, and the examples of docs/qmp.md. */
import { readFileSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import { QmpMonitor } from "../../src/qmp/index.js";
import { IOVA } from "../guest/landing.js";
import { running, type Rig } from "../inspect/machine/rigs.js";
import { type Answer, QmpClient } from "./rig.js";

let end: () => void = () => {};
afterEach(() => end());

async function connect(which: "smmuv3" | "vtd"): Promise<{ rig: Rig; ask: (command: string, args?: Answer) => Promise<Answer> }> {
  const rig = await running(which);
  const monitor = new QmpMonitor({ machine: rig.machine, packageName: "viommu test", chardevs: () => [], quit: () => {} });
  end = () => {
    monitor.close();
    expect(rig.end()).toBe(0);
  };
  const client = new QmpClient(monitor);
  await client.ask("qmp_capabilities");
  const ask = async (command: string, args?: Answer): Promise<Answer> => {
    // What answers is loaded with the first question.
    for (let [answer] = await client.ask(command, args), turns = 0; ; [answer] = await client.take(), turns++) {
      if (answer !== undefined || turns > 500) {
        return answer;
      }
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  };
  return { rig, ask };
}

const COMMANDS: Readonly<Record<string, readonly string[]>> = {
  "x-viommu-map": [],
  "x-viommu-registers": ["iommu"],
  "x-viommu-walk": ["function", "pasid?", "iova", "access?", "privileged?", "kind?"],
  "x-viommu-queues": ["iommu?"],
  "x-viommu-caches": ["iommu?", "function?"],
};

describe("the commands for inspectors", () => {
  it("are told by query-commands, and with their arguments by query-qmp-schema", async () => {
    const { ask } = await connect("smmuv3");
    const { return: commands } = (await ask("query-commands")) as { return: Array<{ name: string }> };
    const { return: schema } = (await ask("query-qmp-schema")) as unknown as { return: Array<{ name: string; "meta-type": string; "arg-type": string; members?: Array<{ name: string; default?: null }> }> };
    for (const [name, members] of Object.entries(COMMANDS)) {
      expect(commands).toContainEqual({ name });
      const type = schema.find((one) => one.name === name)!["arg-type"];
      expect(schema.find((one) => one.name === type)!.members!.map((member) => `${member.name}${"default" in member ? "?" : ""}`)).toEqual(members);
    }
  });

  it("are refused in QEMU's manner, with what there is", async () => {
    const { ask } = await connect("smmuv3");
    const refused: ReadonlyArray<readonly [command: string, args: Answer, words: string]> = [
      ["x-viommu-registers", {}, "Parameter 'iommu' is missing"],
      ["x-viommu-registers", { iommu: 5 }, "Invalid parameter type for 'iommu', expected: string"],
      ["x-viommu-registers", { iommu: "smmu7" }, "there is no IOMMU 'smmu7'; there are: smmu1, smmu0, smmu3.0x0000000005600000, smmu3.0x0000000011600000"],
      ["x-viommu-queues", { iommu: "" }, "there is no IOMMU ''; there are: smmu1, smmu0"],
      ["x-viommu-walk", { iova: "0x1000" }, "Parameter 'function' is missing"],
      ["x-viommu-walk", { function: "gpu9", iova: "0x1000" }, "there is no function 'gpu9'; there are: pcie.1, rp1, gpu0, test0"],
      ["x-viommu-walk", { function: "gpu0", iova: "1000" }, "iova '1000' is no address: 0x and up to 16 hexadecimal digits are"],
      ["x-viommu-walk", { function: "gpu0", iova: "0x10000000000000000" }, "iova '0x10000000000000000' is no address"],
      ["x-viommu-walk", { function: "gpu0", iova: 4096 }, "Invalid parameter type for 'iova', expected: string"],
      ["x-viommu-walk", { function: "gpu0", iova: "0x1000", pasid: 1048576 }, "pasid 1048576 is none: 0 to 1048575 are"],
      ["x-viommu-walk", { function: "gpu0", iova: "0x1000", pasid: -1 }, "pasid -1 is none"],
      ["x-viommu-walk", { function: "gpu0", iova: "0x1000", pasid: 1.5 }, "Invalid parameter type for 'pasid', expected: integer"],
      ["x-viommu-walk", { function: "gpu0", iova: "0x1000", access: "rw" }, "Parameter 'access' does not accept value 'rw'; it accepts read, write, execute"],
      ["x-viommu-walk", { function: "gpu0", iova: "0x1000", kind: "" }, "Parameter 'kind' does not accept value ''; it accepts untranslated, ats-request, ats-translated"],
      ["x-viommu-caches", { function: "<b>gpu0</b>" }, "there is no function '<b>gpu0</b>'; there are: pcie.1, rp1, gpu0, test0"],
      ["x-viommu-caches", { function: "gpu0", depth: 3 }, "Parameter 'depth' is unexpected"],
      ["x-viommu-map", { all: true }, "Parameter 'all' is unexpected"],
    ];
    for (const [command, args, words] of refused) {
      const { error } = (await ask(command, args)) as { error: { class: string; desc: string } };
      expect([command, error.class, error.desc.slice(0, words.length)]).toEqual([command, "GenericError", words]);
    }
  });

  it("answer of a VT-d too", async () => {
    const { ask, rig } = await connect("vtd");
    expect([await rig.lands(), await rig.lands({ ats: true })]).toEqual(["before", "before"]);
    const { return: registers } = (await ask("x-viommu-registers", { iommu: "dmar2" })) as { return: { architecture: string; registers: Array<{ name: string }> } };
    expect([registers.architecture, registers.registers.map(({ name }) => name)]).toEqual(["vtd", ["CAP", "ECAP", "GSTS", "RTADDR"]]);
    const { return: caches } = (await ask("x-viommu-caches", { function: "nic0" })) as { return: { entries: Array<{ agrees: boolean }> } };
    expect(caches.entries.map(({ agrees }) => agrees)).toEqual([true, true, true, true]);
    const { return: queues } = (await ask("x-viommu-queues", { iommu: "iommu0" })) as { return: { queues: Array<{ name: string }> } };
    expect(queues.queues.map(({ name }) => name)).toEqual(["invalidation", "fault"]);
  });
});

/** A line that is asked, and lines of what a part of its answer is. */
function examples(): Array<{ readonly ask: { execute: string; arguments?: Answer }; readonly parts: ReadonlyArray<readonly [path: string, value: unknown]> }> {
  const text = readFileSync(new URL("../../docs/qmp.md", import.meta.url), "utf8");
  const found: ReturnType<typeof examples> = [];
  for (const line of text.slice(text.indexOf("## For inspectors"), text.indexOf("## What is not")).split("\n")) {
    const asked = /^ {4}-> (\{.*\})$/.exec(line);
    const answered = /^ {4}<- (\S+): (.*)$/.exec(line);
    if (asked !== null) {
      found.push({ ask: JSON.parse(asked[1]) as { execute: string }, parts: [] });
    } else if (answered !== null) {
      (found.at(-1)!.parts as Array<readonly [string, unknown]>).push([answered[1], JSON.parse(answered[2])]);
    }
  }
  return found;
}

describe("the examples of docs/qmp.md", () => {
  it("are what the machine there answers", async () => {
    const { rig, ask } = await connect("smmuv3");
    expect([await rig.lands(), await rig.lands({ ats: true })]).toEqual(["before", "before"]);
    await rig.domain.table.unmap(IOVA, 0x1000, { page: async () => {}, walk: async () => {} });
    const all = examples();
    expect([...new Set(all.map(({ ask: { execute } }) => execute))]).toEqual(Object.keys(COMMANDS));
    for (const { ask: asked, parts } of all) {
      const answer = await ask(asked.execute, asked.arguments);
      expect(parts.length).toBeGreaterThan(0);
      for (const [path, value] of parts) {
        const part = path.split(".").reduce<unknown>((of, key) => (of as Record<string, unknown>)[key], answer.return);
        expect([path, part]).toEqual([path, value]);
      }
    }
  });
});
