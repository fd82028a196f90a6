/** Each lesson of the package, followed in a browser to its end: what its text says to look for is there. */
import { describe, expect, it } from "vitest";
import { lessonNames, loadLesson, type Lesson } from "../../../src/inspect/lessons/index.js";
import { connectMonitor, openInspector, withLesson } from "../../../src/inspect/server/index.js";
import { parseArguments } from "../../../src/machine/arguments/index.js";
import { recognise } from "../../../src/machine/input/index.js";
import { defaultHost, findGuest, hostToRun, runMachine } from "../../../src/run/index.js";
import { readTextFile } from "../../../src/support/index.js";
import { browserRig, noBrowser } from "../browser.js";

/** Runs the lesson's machine; once its guest has ended, `look` is given the inspector's address. */
async function inspectLesson({ report, machine, guest, host }: Lesson, page: string, look: (address: string) => Promise<void>): Promise<void> {
  const args = parseArguments(recognise(readTextFile(machine, "a file of machine arguments"), machine));
  let inspector: Awaited<ReturnType<typeof openInspector>> | null = null;
  const account = await runMachine({
    arguments: args,
    host: await hostToRun(host ?? defaultHost(args)),
    guest: await findGuest(guest),
    inspection: {
      attach: async (monitor) => {
        const answers = await connectMonitor(monitor, "the machine's monitor");
        await answers.ask("x-viommu-timeline-set", { on: true });
        inspector = await openInspector({ answers: withLesson(answers, report), port: 0, control: false, page });
      },
      guestEnded: () => look(inspector!.address),
    },
  }).finally(() => inspector?.close());
  expect(account.failure).toBeNull();
}

describe.skipIf(noBrowser)("a lesson in the inspector", () => {
  const rig = browserRig();

  it.each(lessonNames())("%s is followed step by step", async (name) => {
    const lesson = await loadLesson(name);
    await inspectLesson(lesson, rig.folder, async (address) => {
      const page = await rig.open();
      try {
        await page.goto(address);
        const problems: string[] = [];
        for (const [index, step] of lesson.report.steps.entries()) {
          const heading = page.locator(".lesson h2");
          await heading.filter({ hasText: step.title }).waitFor({ timeout: 10_000 });
          expect(new URL(page.url()).hash, step.title).toBe(step.show);
          for (const text of step.sees) {
            await page.locator("main").getByText(text).filter({ visible: true }).first().waitFor({ timeout: 10_000 }).catch(async () => {
              problems.push(`step ${index + 1} (${step.title}): '${text}' is not to be seen in:\n${(await page.locator("main").innerText()).slice(0, 2000)}`);
            });
          }
          if (index + 1 < lesson.report.steps.length) {
            await page.locator(".lesson").getByRole("button", { name: "Next" }).click();
          }
        }
        expect(problems.join("\n")).toBe("");
        expect(await page.locator(".lesson").getByRole("button", { name: "Next" }).isDisabled()).toBe(true);
        expect(rig.faults()).toEqual([]);
        // A reload stays at the step, and Back goes by key.
        await page.reload();
        await page.locator(".lesson h2").filter({ hasText: lesson.report.steps.at(-1)!.title }).waitFor();
        await page.locator(".lesson").getByRole("button", { name: "Back" }).press("Enter");
        await page.locator(".lesson h2").filter({ hasText: lesson.report.steps.at(-2)!.title }).waitFor();
      } finally {
        // It asks its machine for news, which goes now; and the reload has ended what was asked for.
        await page.context().close();
        rig.faults();
      }
    });
  });
});
