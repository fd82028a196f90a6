import { existsSync, readdirSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { packageFolder, readTextFile, Refusal } from "../../support/index.js";
import type { LessonReport } from "../report/index.js";

export interface Lesson {
  readonly report: LessonReport;
  /** Files, by absolute path: the machine's arguments, the script that is its guest. */
  readonly machine: string;
  readonly guest: string;
  /** Name or file of the host; null: the machine's default. */
  readonly host: string | null;
}

const shipped = (): string => join(packageFolder(), "examples", "lessons");

/** Names of the lessons that come with the package, in the order in which they build on each other. */
export function lessonNames(): string[] {
  const order = ["one-stage", "two-stages", "pasids", "stale-tlb", "msi-fault"];
  const found = readdirSync(shipped(), { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => name);
  return found.sort((a, b) => order.indexOf(a) - order.indexOf(b));
}

/**
 * Reads a lesson: one that comes with the package by its name, or a folder with `lesson.yaml`, `machine.args` and `guest.mjs`.
 * @throws Refusal that names the file, and of lesson.yaml all that is wrong with it
 */
export async function loadLesson(nameOrFolder: string): Promise<Lesson> {
  const folder = /^[\w-]+$/.test(nameOrFolder) && lessonNames().includes(nameOrFolder) ? join(shipped(), nameOrFolder) : resolve(nameOrFolder);
  const path = join(folder, "lesson.yaml");
  if (!existsSync(path)) {
    throw new Refusal(`there is no lesson '${nameOrFolder}'`, {
      found: `no file ${path}`,
      wouldWork: `${lessonNames().join(", ")}, or a folder with lesson.yaml, machine.args and guest.mjs`,
    });
  }
  const [{ parse }, { z }] = await Promise.all([import("yaml"), import("zod")]);
  const text = z.string().trim().min(1);
  const schema = z.strictObject({
    title: text,
    about: text,
    host: text.optional(),
    steps: z.array(z.strictObject({ title: text, show: z.string().regex(/^#\/[a-z]+(?:\?|$)/, "an address within the inspector: #/walk?function=..."), text, sees: z.array(text).default([]) })).min(1),
  });
  let content: unknown;
  try {
    content = parse(readTextFile(path, "a lesson"), { maxAliasCount: 0 });
  } catch (error) {
    throw error instanceof Refusal ? error : new Refusal(`${path} is not YAML: ${(error as Error).message.split("\n")[0]}`);
  }
  const read = schema.safeParse(content);
  if (!read.success) {
    throw new Refusal(`${path} is no lesson`, { found: read.error.issues.map((issue) => `${issue.path.join(".") || "the file"}: ${issue.message}`).join("; ") });
  }
  const [machine, guest] = ["machine.args", "guest.mjs"].map((name) => join(folder, name));
  const missing = [machine, guest].filter((file) => !existsSync(file));
  if (missing.length > 0) {
    throw new Refusal(`the lesson ${nameOrFolder} has no ${missing.map((file) => basename(file)).join(" and no ")}`, { found: `no file ${missing.join(", ")}` });
  }
  const { title, about, steps, host } = read.data;
  return { report: { name: basename(folder), title, about, steps }, machine, guest, host: host ?? null };
}
