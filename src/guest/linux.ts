/**
 * The `linux` program: what an operating system does with the machine's IOMMUs and functions, from the first
 * look at the firmware's tables to a kexec, each step checked.
 */
import type { GuestContext, GuestReport } from "./context.js";
import { Kernel, type KernelOptions } from "./kernel.js";
import { enableIommus, enumerate, identity, messages, ownTables, readTables } from "./linux/boot.js";
import { replug, resetFunctions } from "./linux/change.js";
import { diskSteps } from "./linux/disks.js";
import type { Session } from "./linux/session.js";
import { ats, pasids, provokedFault, quiet, tearDown, unmapped } from "./linux/translation.js";
import { FIRST_VECTOR, LAST_VECTOR } from "./messages.js";
import { Random } from "./random.js";
import { Reporter, skip } from "./report.js";
import type { AddressRange } from "./firmware/dmar.js";

const VECTORS_OF_A_KERNEL = 60;

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
      ...(await diskSteps(first)),
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
    await kexecs(context, noReset === undefined ? second : first, reporter, random);
  }
  finish(second);
  return reporter.report();
}

function start(context: GuestContext, reporter: Reporter, random: Random, options: Partial<KernelOptions>): Session {
  const { granule, firmware, sync, tolerate, vtd } = context.options;
  const kernel = new Kernel(context.port, { granule: Math.log2(granule), firmware, sync, tolerate, vtd, ...options });
  return { kernel, random, reporter, mapped: [], slots: [], provoked: [] };
}

function finish({ kernel, reporter, provoked }: Session): void {
  reporter.events.push(...kernel.events);
  reporter.provoked.push(...provoked);
  reporter.functions = [...(reporter.functions ?? []), ...kernel.describeFunctions()];
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

/** Kernels start without a reset, each in RAM that those before have not used, and find the IOMMUs enabled. */
async function kexecs(context: GuestContext, first: Session, reporter: Reporter, random: Random): Promise<void> {
  const occupied: AddressRange[] = [];
  let old = first;
  for (const [i, vtd] of (context.options.kexecs ?? [context.options.vtd]).entries()) {
    occupied.push(...old.kernel.memory.inUse());
    // The next part of the vectors: those of the kernels before may be pending.
    const firstVector = FIRST_VECTOR + ((i + 1) * VECTORS_OF_A_KERNEL) % (LAST_VECTOR - FIRST_VECTOR);
    const session = start(context, reporter, random, { skipBuses: 1, occupied: [...occupied], vtd, firstVector });
    if (!(await kexec(old, session, reporter, i === 0 ? "kexec" : `kexec ${i + 1}`))) {
      return;
    }
    old = session;
  }
}

async function kexec(old: Session, session: Session, reporter: Reporter, name: string): Promise<boolean> {
  const ok = await run(reporter, [
    [
      name,
      async () => {
        if (old.kernel.iommus.length === 0) {
          skip("the machine has no IOMMU to take over");
        }
        await old.kernel.quiesce();
        return "functions quiet, IOMMUs left enabled";
      },
    ],
  ]);
  if (!ok || old.kernel.iommus.length === 0) {
    return false;
  }
  const well =
    (await boot(session, `${name}: `)) &&
    (await run(reporter, [
      [`${name}: take-over`, () => takenOver(session)],
      [`${name}: tear down`, () => tearDown(session)],
      [`${name}: nothing else`, () => quiet(session)],
    ]));
  finish(session);
  return well;
}

async function takenOver({ kernel }: Session): Promise<string> {
  const found = kernel.iommus.filter((iommu) => iommu.tookOver);
  return found.length === 0 ? skip("the first kernel's IOMMUs were off") : found.map((iommu) => `${iommu.name} found enabled, ${iommu.takeOver}`).join("; ");
}
