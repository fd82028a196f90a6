/**
 * Records every device type of a QEMU: names, buses, properties, whether it can be hot-plugged, and configuration
 * space of those that are PCI functions, by asking programs of both architectures.
 *
 * usage: node tools/record-devices/main.js FOLDER aarch64=COMMAND x86_64=COMMAND
 *
 * COMMAND is what starts qemu-system-ARCH; it and this process see the same folder of temporary files. FOLDER/qemu-VERSION.json
 * is written (docs/devices.md says what is in it).
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { record } from "./config-space.js";
import { coldTypes } from "./hotplug.js";
import { MACHINES, mapConfigSpace, PLACES, controllers } from "./machines.js";
import { ALONE, alwaysOf, needsOf } from "./needs.js";
import { printed, Qemu, QemuEnded } from "./qemu.js";
import { serveVhostUser } from "./vhost-user.js";
import { compose } from "./compose.js";

const BATCH = 24;
const CPU = /-(?:arm|x86_64)-cpu$/;
const tell = (text) => process.stderr.write(`${text}\n`);

/** Types by `-device help`: name, bus, alias, description, category. */
function parseHelp(text) {
  const types = [];
  let category = "";
  for (const line of text.split("\n")) {
    const title = /^(.*) devices:$/.exec(line);
    const entry = /^name "([^"]+)"(?:, bus ([^,]+))?(?:, alias "([^"]+)")?(?:, desc "(.*)")?$/.exec(line);
    if (title !== null) {
      category = title[1];
    } else if (entry !== null) {
      types.push({ name: entry[1], bus: entry[2] ?? null, alias: entry[3] ?? null, description: entry[4] ?? "", category });
    }
  }
  return types;
}

/** Buses that a device made, by `info qtree`: names (the device's id as `$`) and types. */
function busesOf(tree, id) {
  const buses = [];
  let depth = -1;
  let name = null;
  for (const line of tree.split(/\r?\n/)) {
    const indent = line.search(/\S/);
    if (depth >= 0 && indent >= 0 && indent <= depth) {
      depth = -1;
    }
    if (new RegExp(`^\\s*dev: [^,]+, id "${id}"$`).test(line)) {
      depth = indent;
    } else if (depth >= 0) {
      name = /^\s*bus: (.*)$/.exec(line)?.[1] ?? name;
      const type = /^\s*type (.*)$/.exec(line)?.[1];
      if (type !== undefined && name !== null) {
        buses.push({ name: name.replace(id, "$"), type });
        name = null;
      }
    }
  }
  return buses.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * Starts a machine with devices, those left out that keep it from starting.
 * @param items `{ name, device, words }`
 * @returns the machine, with those that are in it, and what was said of the others; null: it does not say which keeps it
 */
async function startWith(command, words, items) {
  const refused = new Map();
  let left = [...items];
  for (;;) {
    try {
      const qemu = await Qemu.start(command, [...words, ...left.flatMap(({ words: own, device }) => [...own, "-device", JSON.stringify(device)])]);
      return { qemu, there: left, refused };
    } catch (error) {
      if (!(error instanceof QemuEnded)) {
        throw error;
      }
      const lines = error.words.split("\n");
      const culprit = left.find(({ device }) => lines.some((line) => line.includes(`"id":"${device.id}"`) || line.includes(`'${device.id}'`))) ?? (left.length === 1 ? left[0] : null);
      if (culprit !== null) {
        const said = lines.find((line) => line.includes(`"id":"${culprit.device.id}"`)) ?? lines.at(-1);
        refused.set(culprit.name, said.replace(/^.*?"\}: /, "").replace(/^qemu-system-\w+: /, "").replaceAll(culprit.device.id, "ID"));
        left = left.filter((one) => one !== culprit);
        continue;
      }
      return { qemu: null, there: left, refused };
    }
  }
}

/** Of `BATCH` names, but for those that cannot be with others of their kind. */
function* chunks(names) {
  const rest = names.filter((name) => !ALONE.test(name));
  for (let from = 0; from < rest.length; from += BATCH) {
    yield rest.slice(from, from + BATCH);
  }
  for (const name of names.filter((one) => ALONE.test(one))) {
    yield [name];
  }
}

/** Runs items through machines of `BATCH` each: first with nothing but their places, then those that need more with it. */
async function tryAll(command, words, names, place, look) {
  const folder = mkdtempSync(path.join(tmpdir(), "record-devices-"));
  const refused = new Map();
  const without = new Map();
  const used = new Map();
  const run = async (chunk, needed) => {
    const ends = [];
    const items = chunk.map((name, n) => {
      const socket = path.join(folder, `v${n}`);
      const needs = needed ? needsOf(name, n + 1, socket) : null;
      if (needs?.vhostUser === true) {
        rmSync(socket, { force: true });
        ends.push(serveVhostUser(socket));
      }
      used.set(name, Object.keys(needs?.properties ?? {}));
      return { name, n, words: needs?.words ?? [], device: { driver: name, ...place.device(n), ...alwaysOf(name, n + 1), ...(needs?.properties ?? {}), id: `dev${n}x` } };
    });
    const { qemu, there, refused: said } = await startWith(command, [...words, ...place.words(items.length)], items);
    if (qemu !== null) {
      for (const item of there) {
        await look(qemu, item);
      }
      await qemu.end();
    }
    ends.forEach((end) => end());
    if (qemu === null) {
      const left = there.map(({ name }) => name);
      const half = left.length >> 1;
      for (const part of [left.slice(0, half), left.slice(half)]) {
        (await run(part, needed)).forEach((words, name) => said.set(name, words));
      }
    }
    return said;
  };
  const again = [];
  for (const chunk of chunks(names)) {
    const said = await run(chunk, false);
    for (const [name, words] of said) {
      const needs = needsOf(name, 0, "");
      if (needs === null || needs.hopeless) {
        refused.set(name, words);
      } else {
        again.push(name);
      }
      if (needs !== null) {
        used.set(name, Object.keys(needs.properties));
        without.set(name, words);
      }
    }
  }
  for (const chunk of chunks(again)) {
    const said = await run(chunk, true);
    said.forEach((words, name) => refused.set(name, words));
  }
  rmSync(folder, { recursive: true, force: true });
  return { refused, without: new Map([...without].map(([name, words]) => [name, { words, properties: used.get(name) }])) };
}

async function recordBoard(board, command) {
  const machine = MACHINES[board];
  const types = parseHelp(await printed(command, ["-machine", "none", "-device", "help"]));
  tell(`${board}: ${types.length} types`);
  const bare = await Qemu.start(command, [...machine.words], { qtest: false });
  const { version } = bare;
  const devices = types.map((type) => ({ ...type, buses: [], places: {} }));
  const byName = new Map(devices.map((one) => [one.name, one]));
  for (const one of devices) {
    const listed = await bare.command("device-list-properties", { typename: one.name });
    one.properties = listed.filter(({ type }) => !type.startsWith("child<"));
  }
  const all = await bare.command("qom-list-types", { implements: "device", abstract: false });
  const fixed = all.map(({ name }) => name).filter((name) => !byName.has(name)).sort();
  const tree = await bare.command("human-monitor-command", { "command-line": "info qtree" });
  const own = [...tree.matchAll(/bus: (\S+)\r?\n\s*type (\S+)/g)].map(([, name, type]) => ({ name, type }));
  await bare.end();
  const cold = await coldTypes(command, machine.words, board, devices.filter(({ name }) => !CPU.test(name)));
  devices.forEach((one) => (one.hotpluggable = !cold.has(one.name)));
  const functions = devices.filter(({ bus }) => bus === "PCI").map(({ name }) => name);
  for (const [name, place] of Object.entries(PLACES)) {
    const result = await tryAll(command, machine.words, functions, place, async (qemu, { name: type, n, device }) => {
      if (qemu.mapped === undefined) {
        qemu.mapped = true;
        await mapConfigSpace(qemu, board);
        qemu.tree = await qemu.command("human-monitor-command", { "command-line": "info qtree" });
      }
      for (const { at, secondary } of place.bridges(n)) {
        await qemu.write(machine.ecam + at + 0x18, Buffer.of(0, secondary, secondary));
      }
      const one = byName.get(type);
      one.buses = busesOf(qemu.tree, device.id);
      one.places[name] = await record(qemu, machine.ecam + place.address(n));
    });
    result.refused.forEach((words, type) => (byName.get(type).places[name] = { refused: words }));
    result.without.forEach((needs, type) => (byName.get(type).needs = needs));
    tell(`${board}: ${name}: ${result.refused.size} refused`);
  }
  const others = devices.filter(({ bus, name }) => bus !== "PCI" && !CPU.test(name)).map(({ name }) => name);
  const place = { words: () => [], device: () => ({}) };
  const result = await tryAll(command, [...machine.words, ...controllers(board)], others, place, async (qemu, { name, device }) => {
    qemu.tree ??= await qemu.command("human-monitor-command", { "command-line": "info qtree" });
    byName.get(name).buses = busesOf(qemu.tree, device.id);
  });
  result.refused.forEach((words, type) => (byName.get(type).refused = words));
  result.without.forEach((needs, type) => (byName.get(type).needs = needs));
  tell(`${board}: other buses: ${result.refused.size} refused`);
  return { version, devices, fixed, own };
}

const [folder, ...words] = process.argv.slice(2);
const commands = new Map(words.map((word) => [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1).split(" ")]));
if (folder === undefined || Object.values(MACHINES).some(({ architecture }) => !commands.has(architecture))) {
  tell("usage: node tools/record-devices/main.js FOLDER aarch64=COMMAND x86_64=COMMAND");
  process.exit(2);
}
const boards = {};
for (const [board, { architecture }] of Object.entries(MACHINES)) {
  boards[board] = await recordBoard(board, commands.get(architecture));
}
const { version, text } = compose(boards);
const to = path.join(folder, `qemu-${version.split(".").slice(0, 2).join(".")}.json`);
writeFileSync(to, text);
tell(`${to}: ${text.length} bytes`);
