import type { GuestContext, GuestReport } from "../guest/index.js";

/** A guest by its name, ready to run. */
export interface GuestToRun {
  readonly name: string;
  run(context: GuestContext): Promise<GuestReport>;
}
