/** What this client knows of changes. */

import type { Change } from "./generated.js";

/** Whether this client can apply a change. A newer server may send other kinds. */
export function isKnown(change: Change): boolean {
  switch (change.op) {
    case "put":
      return typeof change.key === "string" && typeof change.row === "object" && change.row !== null;
    case "patch":
      return typeof change.key === "string" && typeof change.values === "object" && change.values !== null;
    case "delete":
    case "leave":
      return typeof change.key === "string";
    case "truncate":
      return true;
    default:
      return false;
  }
}
