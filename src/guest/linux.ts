/**
 * The `linux` program: what an operating system does with the machine's IOMMUs and functions, from the first
 * look at the firmware's tables to a kexec, each step checked.
 */
import type { GuestContext, GuestReport } from "./context.js";
import { Kernel, type KernelOptions } from "./kernel.js";
import { enableIommus, enumerate, identity, messages, ownTables, readTables } from "./linux/boot.js";
import { replug, resetFunctions } from "./linux/change.js";
import type { Session } from "./linux/session.js";
import { ats, pasids, provokedFault, quiet, tearDown, unmapped } from "./linux/translation.js";
import { Random } from "./random.js";
import { Reporter, skip } from "./report.js";
import type { AddressRange } from "./firmware/description.js";

/** Runs the whole scenario. A failed step ends it; the report says which and why. */
export async function linux(context: GuestContext): Promise<GuestReport> {
  const reporter = new Reporter((text) => context.say(text));
  const random = new Random(context.options.seed);
  const first = start(context, reporter, random, {});
  let ok = await boot(first, "");
  if (ok) {
    ok = await run(reporter, [
      ["PASIDs", () => pasids(first)],
      ["ATS", () => ats(first)],
      ["unmapped DMA", () => unmapped(first)],
      ["provoked fault", () => provokedFault(first)],
      ["function level reset", () => resetFunctions(first)],
      ["unplug and plug", () => replug(first, context)],
      ["tear down", () => tearDown(first)],
      ["nothing else", () => quiet(first)],
    ]);
  }
  finish(first);
  const second = start(context, reporter, random, { skipBuses: 1 });
  const { noReset } = context.options;
  if (ok && noReset !== undefined) {
    await reporter.step("system reset", async () => skip(noReset));
  } else if (ok) {
    ok = await reporter.step("system reset", async () => {
      await context.operator.reset();
      return "bus numbers are given anew, other ones where there is room";
    });
    ok = ok && (await boot(second, "second boot: ")) && (await reporter.step("second boot: nothing else", () => quiet(second)));
  }
  if (ok) {
    await kexec(context, noReset === undefined ? second : first, reporter, random);
  }
  finish(second);
  return reporter.report();
}

function start(context: GuestContext, reporter: Reporter, random: Random, options: Partial<KernelOptions>): Session {
  const { granule, firmware, sync, tolerate } = context.options;
  const kernel = new Kernel(context.port, { granule: Math.log2(granule), firmware, sync, tolerate, ...options });
  return { kernel, random, reporter, mapped: [], slots: [], provoked: [] };
}

function finish(session: Session): void {
  session.reporter.events.push(...session.kernel.events);
}

type Step = readonly [name: string, body: () => Promise<string>];

async function run(reporter: Reporter, steps: readonly Step[]): Promise<boolean> {
  for (const [name, body] of steps) {
    if (!(await reporter.step(name, body))) {
      return false;
    }
  }
  return true;
}

/** From the tables to functions with their own domains and messages. With ACPI the buses have numbers before the IOMMUs are probed. */
function boot(session: Session, prefix: string): Promise<boolean> {
  return run(session.reporter, [
    [`${prefix}firmware tables`, () => readTables(session)],
    [`${prefix}enable IOMMUs`, () => enableIommus(session)],
    [`${prefix}enumerate PCI`, () => enumerate(session)],
    [`${prefix}identity DMA`, () => identity(session)],
    [`${prefix}own tables`, () => ownTables(session)],
    [`${prefix}messages`, () => messages(session)],
  ]);
}

/** Another kernel starts without a reset, in RAM that the first has not used, and finds the IOMMUs enabled. */
async function kexec(context: GuestContext, old: Session, reporter: Reporter, random: Random): Promise<void> {
  const occupied: AddressRange[] = old.kernel.memory.inUse();
  const session = start(context, reporter, random, { skipBuses: 1, occupied });
  const ok = await run(reporter, [
    [
      "kexec",
      async () => {
        if (old.kernel.iommus.length === 0) {
          skip("the machine has no IOMMU to take over");
        }
        await old.kernel.quiesce();
        return "functions quiet, IOMMUs left enabled";
      },
    ],
  ]);
  if (ok && old.kernel.iommus.length > 0) {
    if (await boot(session, "kexec: ")) {
      await reporter.step("kexec: take-over", async () => {
        const names = session.kernel.iommus.filter((iommu) => iommu.tookOver).map((iommu) => iommu.name);
        return names.length === 0 ? skip("the first kernel's IOMMUs were off") : `${names.join(" ")} found enabled, aborted and set up anew`;
      });
      await reporter.step("kexec: tear down", () => tearDown(session));
      await reporter.step("kexec: nothing else", () => quiet(session));
    }
    finish(session);
  }
}
