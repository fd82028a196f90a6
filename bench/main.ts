import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { compilerVersion, CProgram, findCompiler } from "./c-program.js";
import { benches, type BenchContext, type BenchResult } from "./registry.js";
import { json, table } from "./report.js";

const command = new Command("bench")
  .description("measures this project beside C programs that do the same work, compiled in the same run")
  .option("--json <file>", "write the figures there, keyed by name")
  .option("--only <names>", `run some benches only, separated by commas: ${benches.map((b) => b.name).join(", ")}`)
  .option("--rounds <n>", "measurements of each figure", toRounds, 11)
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
  .parse();
const options = command.opts<{ json?: string; only?: string; rounds: number }>();

const chosen = options.only === undefined ? benches : benches.filter((bench) => options.only!.split(",").includes(bench.name));
if (chosen.length === 0) {
  command.error(`error: --only: none of ${options.only} is a bench; there are ${benches.map((b) => b.name).join(", ")}`, { exitCode: 2 });
}

const directory = mkdtempSync(join(tmpdir(), "viommu-bench-"));
const compiler = findCompiler();
const programs: CProgram[] = [];
const context: BenchContext = {
  directory,
  rounds: options.rounds,
  say: (line) => process.stderr.write(`${line}\n`),
  startC: (name, args) => {
    if (compiler === undefined) {
      return Promise.resolve(undefined);
    }
    const program = CProgram.start(compiler, directory, name, args);
    programs.push(program);
    return Promise.resolve(program);
  },
};

const cpu = cpus()[0]?.model.trim() ?? "unknown processor";
console.log(`Node.js ${process.version}, ${cpu}, ${compiler === undefined ? "no C compiler: no counterparts" : `${compilerVersion(compiler)} -O2`}`);
console.log(`medians of ${options.rounds} rounds of processor time, both sides in turn`);
try {
  const results: BenchResult[] = [];
  for (const bench of chosen) {
    context.say(`measuring: ${bench.title}`);
    results.push(...(await bench.run(context)));
  }
  for (const line of table(results)) {
    console.log(line);
  }
  if (options.json !== undefined) {
    writeFileSync(options.json, json(results));
  }
} finally {
  for (const program of programs) {
    program.stop();
  }
  rmSync(directory, { recursive: true, force: true });
}

function toRounds(text: string): number {
  const rounds = Number(text);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1000) {
    throw new InvalidArgumentError("expected a number from 1 to 1000");
  }
  return rounds;
}
