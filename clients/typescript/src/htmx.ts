/**
 * The entry for plain HTML and HTMX:
 *
 *     <script src="/api/sync/client.js" data-sync-entities="todos lists"></script>
 *
 * keeps the named entities in step with the server and dispatches events: `rhtmx:todos:changed` on
 * `body` after each change, `rhtmx:connection:state` on `window` with the status. So
 * `hx-trigger="rhtmx:todos:changed from:body"` fetches a fragment again. `rhtmx:sync:ready` on `window` says that all
 * rows are current for the first time.
 *
 * `data-sync-fields="todos"` names the entities whose rows merge by their fields. Then there are also, on `body`,
 * `rhtmx:todos:field-changed` and `rhtmx:field:conflict`.
 */

import { createExtended } from "./create.js";
import { entity } from "./entity.js";
import type { Fields } from "./fields.js";
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
export function startFromScript(script: HTMLElement, fields?: Fields<string>): PageSync {
  const { syncEntities = "", syncUrl, syncName } = script.dataset;
  const names = syncEntities.split(/[\s,]+/).filter(Boolean);
  const sync: Sync = createExtended({
    entities: Object.fromEntries(names.map((name) => [name, entity()])),
    ...(syncUrl && { url: syncUrl }),
    ...(syncName && { name: syncName }),
    fields,
  });
  // Before there is a body nothing listens to it.
  const tell = (target: EventTarget | null, event: string, detail: object) =>
    target?.dispatchEvent(new CustomEvent(`rhtmx:${event}`, { bubbles: true, detail }));
  const views: PageSync["views"] = {};
  for (const name of names) {
    const view = (views[name] = sync.entity(name).live());
    view.subscribe(({ rows, state }) => tell(document.body, `${name}:changed`, { rows, state }));
  }
  let wasLive: boolean | undefined;
  const told = (status: Status) => {
    tell(window, "connection:state", status);
    if (status.state === "live") wasLive ||= tell(window, "sync:ready", status);
  };
  sync.on("status", told);
  queueMicrotask(() => told(sync.status));
  return { sync, views };
}
