/** Guests by name or file. */
import { guestPrograms, loadGuest } from "../guest/index.js";
import type { GuestToRun } from "./guest.js";

/** The guest that runs where none is named. */
export const DEFAULT_GUEST = "linux";

export function guestNames(): string[] {
  return [...guestPrograms.keys()];
}

/**
 * A guest: a name, a script's file, or `none` for a machine that is started and shut down.
 * @throws Refusal where there is neither
 */
export async function findGuest(name: string): Promise<GuestToRun | null> {
  if (name === "none") {
    return null;
  }
  const program = await loadGuest(name);
  return { name, run: (start) => program(start) };
}
