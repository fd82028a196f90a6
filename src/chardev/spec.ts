/** Where a byte stream of the machine goes to: what QEMU calls a character device. */
export type ChardevSpec =
  | { readonly kind: "unix"; readonly path: string; readonly server: boolean; readonly wait: boolean }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number; readonly server: boolean; readonly wait: boolean }
  | { readonly kind: "stdio" }
  /** What is sent is written to a file, which is made anew; nothing comes from it. */
  | { readonly kind: "file"; readonly path: string; readonly append: boolean }
  | { readonly kind: "null" };

/** In QEMU's spelling. */
export function describeChardev(spec: ChardevSpec): string {
  switch (spec.kind) {
    case "unix":
      return `unix:${spec.path}${spec.server ? `,server=on,wait=${spec.wait ? "on" : "off"}` : ""}`;
    case "tcp":
      return `tcp:${spec.host.includes(":") ? `[${spec.host}]` : spec.host}:${spec.port}${spec.server ? `,server=on,wait=${spec.wait ? "on" : "off"}` : ""}`;
    case "file":
      return `file:${spec.path}`;
    default:
      return spec.kind;
  }
}
