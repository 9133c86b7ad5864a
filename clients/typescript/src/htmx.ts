/**
 * The entry for plain HTML and HTMX:
 *
 *     <script src="/api/sync/client.js" data-sync-entities="todos lists"></script>
 *
 * keeps the named entities in step with the server and tells the page by events: on `body`
 * `rhtmx:todos:changed` after each change, on `window` `rhtmx:connection:state` with the status. So
 * `hx-trigger="rhtmx:todos:changed from:body"` fetches a fragment anew.
 */

import { createSync } from "./create.js";
import { entity } from "./entity.js";
import type { Row } from "./protocol/json.js";
import type { View } from "./replica/view.js";
import type { Status } from "./status.js";
import type { Sync } from "./sync.js";

/** What a page's own scripts find at `window.rhtmx`. */
export interface PageSync {
  sync: Sync;
  /** The live lists of whole entities, by name. */
  views: { [name: string]: View<Row> };
}

/** Opens what a script element asks for. */
export function startFromScript(script: HTMLElement): PageSync {
  const { syncEntities = "", syncUrl, syncName } = script.dataset;
  const names = syncEntities.split(/[\s,]+/).filter(Boolean);
  const sync: Sync = createSync({
    entities: Object.fromEntries(names.map((name) => [name, entity()])),
    ...(syncUrl && { url: syncUrl }),
    ...(syncName && { name: syncName }),
  });
  const views: PageSync["views"] = {};
  for (const name of names) {
    const view = (views[name] = sync.entity(name).live());
    view.subscribe(() => {
      const { rows, state } = view;
      // While there is no body yet, nobody listens to it.
      document.body?.dispatchEvent(new CustomEvent(`rhtmx:${name}:changed`, { bubbles: true, detail: { rows, state } }));
    });
  }
  const tell = (status: Status) => window.dispatchEvent(new CustomEvent("rhtmx:connection:state", { detail: status }));
  sync.on("status", tell);
  queueMicrotask(() => tell(sync.status));
  return { sync, views };
}
