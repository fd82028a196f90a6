/** For who looks: which tables of the host the functions of a unit are on, and why. */
import type { ObjectAccount, TableAccount } from "../../iommufd/index.js";
import { hex } from "../../support/index.js";
import type { VtdForBackend } from "../device/index.js";
import { TTM_SCALABLE } from "../spec/index.js";
import type { PassthroughFunction } from "./function.js";

type Unit = Pick<VtdForBackend, "translationEnabled" | "tableMode">;

/** The table of requests without PASID first. */
export function tablesOf(fn: PassthroughFunction, unit: Unit): TableAccount[] {
  const { hostAddress, parentHwptId } = fn.host;
  const bound = [...fn.bindings.values()].filter(({ pasid }) => pasid !== fn.ridPasid);
  return [
    { hostAddress, pasid: null, table: fn.table, hwptId: fn.host.attachedTo, why: fn.reason ?? whyOf(fn, unit) },
    ...bound.map(({ pasid, hwptId }) => {
      const table = hwptId === null ? "parent" : "nested";
      return { hostAddress, pasid, table, hwptId: hwptId ?? parentHwptId, why: entryText(fn, pasid, table) };
    }),
    ...[...fn.blockedPasids].map(([pasid, why]) => ({ hostAddress, pasid, table: "blocked", hwptId: null, why })),
  ];
}

/** Why requests without PASID are where they are. */
function whyOf(fn: PassthroughFunction, { translationEnabled, tableMode }: Unit): string {
  if (!translationEnabled) {
    return "GSTS.TES is 0: requests are not translated (Intel VT-d 11.4.4.2)";
  }
  if (fn.table === "blocked") {
    return "no reason is known";
  }
  if (tableMode === TTM_SCALABLE) {
    return entryText(fn, fn.ridPasid, fn.table);
  }
  const entry = `the context entry of source id ${hex(fn.settledSourceId ?? 0)}`;
  return fn.table === "parent" ? `${entry} has TT 0b10: pass-through (Intel VT-d 9.3)` : `${entry} has second-stage tables, which are mirrored (Intel VT-d 9.3)`;
}

function entryText(fn: PassthroughFunction, pasid: number, table: "nested" | "parent" | "shadow"): string {
  const says = {
    nested: "PGTT 0b001: the first stage translates",
    parent: "PGTT 0b100: pass-through",
    shadow: "PGTT 0b010: second-stage tables, which are mirrored",
  }[table];
  return `the PASID entry ${pasid} of source id ${hex(fn.settledSourceId ?? 0)} has ${says} (Intel VT-d 9.6)`;
}

export function objectsOf(fn: PassthroughFunction): ObjectAccount[] {
  const { iommufdName: iommufd, parentHwptId } = fn.host;
  const nested = [...fn.bindings.values()].flatMap(({ pasid, hwptId }) =>
    hwptId === null ? [] : [{ iommufd, id: hwptId, kind: "hwpt-nested", on: parentHwptId, what: pasid === fn.ridPasid ? "nested" : `nested, PASID ${pasid}` } as const],
  );
  const mirrors = [fn.shadow, fn.growing].flatMap((mirror) =>
    mirror === null
      ? []
      : ([
          { iommufd, id: mirror.ioasId, kind: "ioas", on: null, what: "mirror" },
          { iommufd, id: mirror.hwptId, kind: "hwpt-paging", on: mirror.ioasId, what: "mirror" },
        ] as const),
  );
  return [...nested, ...mirrors];
}
