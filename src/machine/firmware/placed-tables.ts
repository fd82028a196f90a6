/** A machine's tables at guest-physical addresses. */
export interface PlacedTables {
  /** Null: the machine has none. */
  readonly deviceTree: { readonly address: number; readonly bytes: Uint8Array } | null;
  /** Null: acpi=off. */
  readonly acpi: { readonly address: number; readonly bytes: Uint8Array; readonly tables: ReadonlyMap<string, Uint8Array> } | null;
  /** What EFI would leave a kernel that takes ACPI; not there: nothing. */
  readonly efi?: { readonly address: number; readonly bytes: Uint8Array };
  /** Why a table is not there that the machine should have, and what would bring it. */
  readonly missing?: string;
}
