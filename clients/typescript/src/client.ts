/** The bundle at `/api/sync/client.js`: starts what its script element asks for, and sets `window.rhtmx`. */

import { createExtended as createSync } from "./create.js";
import { entity } from "./entity.js";
import type { Fields } from "./fields.js";
import { startFromScript, type PageSync } from "./htmx.js";

declare global {
  interface Window {
    rhtmx?: { createSync: typeof createSync; entity: typeof entity } & Partial<PageSync>;
  }
}

const script = document.querySelector<HTMLElement>("script[data-sync-entities]");
// A page that includes the script twice has one client.
window.rhtmx ??= { createSync, entity };
if (script && !window.rhtmx.sync) {
  const { syncFields } = script.dataset;
  const start = (fields?: Fields<string>) => Object.assign(window.rhtmx!, startFromScript(script, fields));
  if (syncFields) void import("./fields.js").then(({ fieldsOfPage }) => start(fieldsOfPage(syncFields)));
  else start();
}
