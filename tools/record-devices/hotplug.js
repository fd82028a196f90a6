/** Which types can be plugged while the machine runs. */
import { controllers } from "./machines.js";
import { Qemu, QemuEnded } from "./qemu.js";

const COLD = /^Device '[^']*' does not support hotplugging$|expects a pluggable device type/;

/**
 * Tries each type in a running machine that has a bus for it. Whether a type can be plugged is asked before its place
 * is, so that one slot does for all functions.
 * @param types `{ name, bus }`
 * @returns names of those that cannot
 */
export async function coldTypes(command, words, board, types) {
  const cold = new Set();
  const start = () => Qemu.start(command, [...words, ...controllers(board), "-device", "pcie-root-port,id=above,chassis=1"], { qtest: false });
  let qemu = await start();
  for (const { name, bus } of types) {
    try {
      const { error } = await qemu.reply("device_add", { driver: name, ...(bus === "PCI" ? { bus: "above", addr: "0" } : {}) });
      if (COLD.test(error?.desc ?? "")) {
        cold.add(name);
      }
    } catch (error) {
      if (!(error instanceof QemuEnded)) {
        throw error;
      }
      // It was plugged, and that was its end.
      qemu = await start();
    }
  }
  await qemu.end();
  return cold;
}
