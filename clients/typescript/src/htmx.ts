/**
 * The entry for plain HTML and HTMX:
 *
 *     <script src="/api/sync/client.js" data-sync-entities="todos lists"></script>
 *
 * keeps the named entities in step with the server and dispatches events: `rhtmx:todos:changed` on
 * `body` after each change, `rhtmx:connection:state` on `window` with the status. So
 * `hx-trigger="rhtmx:todos:changed from:body"` fetches a fragment again.
 */

import { createExtended } from "./create.js";
import { entity } from "./entity.js";
import type { Row } from "./protocol/json.js";
import type { View } from "./replica/view.js";
import type { Status } from "./status.js";
import type { Sync } from "./sync.js";

/** The part of `window.rhtmx` that a script element starts. */
export interface PageSync {
  sync: Sync;
  /** The live lists of whole entities, by name. */
  views: { [name: string]: View<Row> };
}

/** Starts what a script element asks for. */
export function startFromScript(script: HTMLElement): PageSync {
  const { syncEntities = "", syncUrl, syncName } = script.dataset;
  const names = syncEntities.split(/[\s,]+/).filter(Boolean);
  const sync: Sync = createExtended({
    entities: Object.fromEntries(names.map((name) => [name, entity()])),
    ...(syncUrl && { url: syncUrl }),
    ...(syncName && { name: syncName }),
  });
  const views: PageSync["views"] = {};
  for (const name of names) {
    const view = (views[name] = sync.entity(name).live());
    view.subscribe(() => {
      const { rows, state } = view;
      // Before there is a body nothing listens to it.
      document.body?.dispatchEvent(new CustomEvent(`rhtmx:${name}:changed`, { bubbles: true, detail: { rows, state } }));
    });
  }
  const dispatch = (status: Status) => window.dispatchEvent(new CustomEvent("rhtmx:connection:state", { detail: status }));
  sync.on("status", dispatch);
  queueMicrotask(() => dispatch(sync.status));
  return { sync, views };
}
