/** Guest programs by name, or a user's own script. */
import { existsSync, statSync } from "node:fs";
import { extname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { Refusal } from "../support/index.js";
import { GUEST_NAMES, type GuestName } from "./choices/index.js";
import type { GuestContext, GuestProgram, GuestReport, GuestStep } from "./context.js";
import { GuestFailure } from "./failure.js";
import { helpers, type GuestHelpers } from "./helpers.js";
import { linux } from "./linux.js";

/** What a script's function is given. */
export interface ScriptContext extends GuestContext {
  readonly helpers: GuestHelpers;
}

type Script = (context: ScriptContext) => unknown;

/** A machine without a guest: nothing is touched. */
async function none(): Promise<GuestReport> {
  return { steps: [], dmaChecked: 0, events: [], ok: true };
}

/** The programs that `--guest NAME` knows. */
const programs: Readonly<Record<GuestName, GuestProgram>> = { linux, none };
export const guestPrograms: ReadonlyMap<string, GuestProgram> = new Map(Object.entries(programs));

/**
 * The program of that name, or the one in a file: an ES module (.js, .mjs, or .ts where Node.js runs it) whose
 * default export is an async function of a ScriptContext. What the script returns is completed to a report:
 * nothing stands for one step that went well. @throws Refusal where there is no such program or file, where the
 * file is no module, or where its default export is no function.
 */
export async function loadGuest(nameOrFile: string): Promise<GuestProgram> {
  const program = guestPrograms.get(nameOrFile);
  if (program !== undefined) {
    return program;
  }
  const path = resolve(nameOrFile);
  if (!existsSync(path) || !statSync(path).isFile()) {
    throw new Refusal(`no guest '${nameOrFile}'`, {
      found: existsSync(path) ? `${nameOrFile} is not a file` : `neither a program of that name nor a file`,
      wouldWork: `--guest NAME with one of ${GUEST_NAMES.join(", ")}, or --guest FILE with a script (docs/guest-scripts.md)`,
    });
  }
  if (![".js", ".mjs", ".ts", ".mts"].includes(extname(path))) {
    throw new Refusal(`guest script '${nameOrFile}' is not an ES module`, { found: `the file's name ends in '${extname(path)}'`, wouldWork: "a file .mjs, .js or .ts" });
  }
  const script = await importScript(nameOrFile, path);
  return async (context) => complete(nameOrFile, await callScript(nameOrFile, script, context));
}

async function importScript(name: string, path: string): Promise<Script> {
  let module: { default?: unknown };
  try {
    module = (await import(pathToFileURL(path).href)) as { default?: unknown };
  } catch (error) {
    throw new Refusal(`guest script '${name}' cannot be loaded`, {
      found: messageOf(error),
      wouldWork: "an ES module (.mjs, or .js below a package.json with \"type\": \"module\"; .ts where Node.js strips types)",
    });
  }
  if (typeof module.default !== "function") {
    throw new Refusal(`guest script '${name}' has no default function`, {
      found: module.default === undefined ? `exports: ${Object.keys(module).join(", ") || "none"}` : `the default export is of type ${typeof module.default}`,
      wouldWork: "export default async function (context) { ... }",
    });
  }
  return module.default as Script;
}

/** What the script throws becomes a failed step: the run goes on to its end and reports it. */
async function callScript(name: string, script: Script, context: GuestContext): Promise<unknown> {
  try {
    return await script({ ...context, say: (text) => context.say(text), helpers });
  } catch (error) {
    const kind = error instanceof GuestFailure || error instanceof Refusal ? "" : "threw ";
    return { ok: false, steps: [{ name, ok: false, detail: `${kind}${messageOf(error)}` }] };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? (error.message === "" ? error.name : error.message) : String(error);
}

/** Fills in what a script left out of its report. */
function complete(name: string, result: unknown): GuestReport {
  const given: Partial<GuestReport> = typeof result === "object" && result !== null ? result : {};
  const ok = given.ok ?? true;
  const steps = Array.isArray(given.steps) ? given.steps.map((step: unknown) => completeStep(step)) : [{ name, ok, detail: "done" }];
  return {
    steps,
    dmaChecked: Number.isSafeInteger(given.dmaChecked) ? Number(given.dmaChecked) : 0,
    events: Array.isArray(given.events) ? given.events : [],
    provoked: Array.isArray(given.provoked) ? given.provoked : [],
    ok: ok && steps.every((step) => step.ok),
  };
}

function completeStep(step: unknown): GuestStep {
  const given: Partial<GuestStep> = typeof step === "object" && step !== null ? step : {};
  return {
    name: String(given.name ?? "step"),
    ok: given.ok ?? true,
    detail: String(given.detail ?? ""),
    ...(given.skipped === undefined ? {} : { skipped: String(given.skipped) }),
  };
}
