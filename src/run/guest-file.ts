/** Guests by name or file. */
import type { GuestToRun } from "./guest.js";

/**
 * A guest: a name, a script's file, or `none` for a machine that is started and shut down.
 * @throws Refusal where there is neither
 */
export async function findGuest(name: string): Promise<GuestToRun | null> {
  if (name === "none") {
    return null;
  }
  const { loadGuest } = await import("../guest/index.js");
  const program = await loadGuest(name);
  return { name, run: (start) => program(start) };
}
