/** What a page may ask for: to look, and to trace; with control to stop the machine and let it go on. */
const LOOKING = /^(?:x-viommu|query|trace-event)-[a-z0-9-]{1,64}$/;
const CONTROL: ReadonlySet<string> = new Set(["stop", "cont"]);

export function isAllowed(command: string, control: boolean): boolean {
  return LOOKING.test(command) || (control && CONTROL.has(command));
}
