import { readFileSync } from "node:fs";
import { type ArgumentInput, commandHead, locateWords, type MachineArguments, parseArguments, readArguments } from "../machine/arguments/index.js";
import { recognise } from "../machine/input/index.js";
import { readTextFile, Refusal, systemWords } from "../support/index.js";

/**
 * The machine's arguments of a command: words after `--`, or one file that holds them in whatever form (`-`: standard
 * input), a plan as data among them. A file's name is told from an option by its first letter.
 * @throws Refusal
 */
export async function machineInput(words: readonly string[]): Promise<ArgumentInput> {
  const [first] = words;
  if (first === undefined) {
    throw new Refusal("no machine arguments", { wouldWork: "viommu run FILE.args, or viommu run -- -machine virt ..." });
  }
  if (first !== "-" && (first.startsWith("-") || commandHead(words).length > 0)) {
    return { words: locateWords(words), findings: [] };
  }
  const [text, name] = first === "-" ? [standardInput(), "standard input"] : [readTextFile(first, "a file of machine arguments"), first];
  const { words: ofFile, findings } = recognise(isPlan(text) ? await lineOfPlan(text, name) : text, name);
  return { words: [...ofFile, ...locateWords(words.slice(1)).map((word) => ({ ...word, index: ofFile.length + word.index }))], findings };
}

/** The same as words, for who reads a recording. Standard input has been read by then: there is nothing more to be had of it. */
export async function recordedWords(words: readonly string[]): Promise<readonly string[]> {
  return words[0] === "-" ? words : locateWords((await machineInput(words)).words).map(({ text }) => text);
}

/**
 * The machine's arguments of a command. Where they are refused, what a simulated host would refuse of the rest is told
 * with it: the first run shows all that is wrong.
 * @param host as `--host` names it; undefined: the default
 * @throws Refusal
 */
export async function machineArguments(words: readonly string[], host: string | undefined, descriptors?: ReadonlyMap<string, string>): Promise<MachineArguments> {
  const input = await machineInput(words);
  try {
    return parseArguments(input);
  } catch (error) {
    const { partial } = error instanceof Refusal ? readArguments(input) : { partial: null };
    if (!(error instanceof Refusal) || partial === null || host === "linux") {
      throw error;
    }
    const { defaultHost, hostToRun, whatElse } = await import("../run/index.js");
    let which: Awaited<ReturnType<typeof hostToRun>>;
    try {
      which = await hostToRun(host ?? defaultHost(partial));
    } catch {
      throw error;
    }
    throw await whatElse(error, partial, which, descriptors);
  }
}

/** What `viommu plan --format json` writes. */
const isPlan = (text: string): boolean => /^\s*\{/.test(text) && /"expanders"\s*:/.test(text);

/** @throws Refusal with all in which it is no plan */
async function lineOfPlan(text: string, name: string): Promise<string> {
  const [{ writePlan }, { planSchema }] = await Promise.all([import("../plan/index.js"), import("../plan/report/index.js")]);
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (error) {
    throw new Refusal(`${name} is not JSON: ${(error as Error).message}`, { wouldWork: "the output of viommu plan --format json as it is" });
  }
  const read = planSchema.safeParse(data);
  if (!read.success) {
    throw new Refusal(`${name} is no plan`, {
      found: read.error.issues.map((issue) => `${issue.path.join(".") || "the file"}: ${issue.message}`).join("; "),
      wouldWork: "the output of viommu plan --format json as it is, or of --format viommu",
    });
  }
  return writePlan(read.data, "viommu", { hostName: read.data.host, qemu: "11.1", libvirt: "12.9" });
}

function standardInput(): string {
  try {
    return readFileSync(0, "utf8");
  } catch (error) {
    throw new Refusal(`Could not read standard input: ${systemWords(error)}`, { wouldWork: "viommu run FILE.args" });
  }
}
