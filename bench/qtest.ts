import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { createSimulatedHost, describeHost } from "../src/host/simulated/index.js";
import { parseArguments } from "../src/machine/arguments/index.js";
import { Machine } from "../src/machine/index.js";
import { QtestServer } from "../src/qtest/index.js";
import { Log } from "../src/support/index.js";
import { median } from "./measure.js";
import type { Bench } from "./registry.js";

const READS = 100_000;
/** An SMMU's register and a word of RAM in turn. */
const LINES = Buffer.from("readl 0x9050000\nreadl 0x40000000\n".repeat(READS / 2));
/** Of `OK 0x` and 16 digits. */
const ANSWER_BYTES = 22;

/** Reads a second over a Unix socket: all requests are written, and all answers come back. Wall-clock, client included. */
async function readsPerSecond(path: string): Promise<number> {
  const host = createSimulatedHost(describeHost({ name: "bench", memory: [{ numaNode: 0, base: "0x40000000", size: "1G" }], msiDoorbell: "0x08090040", smmus: [], functions: [] }, "bench"));
  const machine = new Machine(parseArguments("-M virt,iommu=smmuv3 -nodefaults -m 512 -qtest null -accel qtest".split(" ")), host, new Log());
  machine.start();
  const server = new QtestServer({ memory: machine.board.memory, ports: null, clock: machine.board.clock, findDevice: (name) => machine.pins.find(name) });
  const listener = createServer((socket) => server.serve({ readable: socket, writable: socket, end: () => socket.end(), close: () => socket.destroy() }));
  listener.listen(path);
  await once(listener, "listening");
  const client: Socket = connect(path);
  await once(client, "connect");
  let answered = 0;
  const start = performance.now();
  const done = new Promise<void>((resolve) => {
    client.on("data", (bytes: Buffer) => {
      answered += bytes.length;
      if (answered === READS * ANSWER_BYTES) {
        resolve();
      }
    });
  });
  client.write(LINES);
  await done;
  const seconds = (performance.now() - start) / 1000;
  client.destroy();
  listener.close();
  machine.shutdown();
  host.close();
  return READS / seconds;
}

export const qtestBench: Bench = {
  name: "qtest",
  title: "register-sized reads a second over a qtest socket, pipelined",
  async run(context) {
    const rates: number[] = [];
    for (let round = -1; round < context.rounds; round++) {
      const rate = await readsPerSecond(join(context.directory, `qtest${round + 1}`));
      if (round >= 0) {
        rates.push(rate);
      }
    }
    return [{ name: "qtest.pipelinedReads", unit: "reads/s", value: Math.round(median(rates)), atLeast: 200_000 }];
  },
};
