/** Events for pages without a script of their own. */

import type { Entity } from "../entity.js";
import { keyOfRow } from "../key.js";
import type { Row, RowKey } from "../protocol/json.js";
import type { Conflicts } from "./conflicts.js";

/**
 * Dispatches on `body`: `rhtmx:<entity>:field-changed` with `{key, fields}` when a row has changed, and `rhtmx:field:conflict`
 * with each new conflict.
 */
export function dispatchFields(entity: Entity<Row> & { readonly conflicts: Conflicts }): void {
  const { name, conflicts, ports } = entity;
  // Before there is a body nothing listens to it.
  const dispatch = (event: string, detail: object) => document.body?.dispatchEvent(new CustomEvent(event, { bubbles: true, detail }));
  const view = entity.live();
  let before: ReadonlyMap<RowKey, Row> = new Map();
  view.subscribe(() => {
    const rows = new Map(view.rows.map((row) => [keyOfRow(row, ports.keyColumns(name))!, row]));
    for (const [key, row] of rows) {
      const fields = changedFields(before.get(key) ?? row, row);
      if (fields.length) dispatch(`rhtmx:${name}:field-changed`, { key, fields });
    }
    before = rows;
  });
  let known: ReadonlySet<string> = new Set();
  conflicts.subscribe(({ rows }) => {
    for (const conflict of rows) if (!known.has(conflict.id)) dispatch("rhtmx:field:conflict", conflict);
    known = new Set(rows.map(({ id }) => id));
  });
}

function changedFields(before: Row, after: Row): string[] {
  if (before === after) return [];
  const columns = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...columns].filter((column) => JSON.stringify(before[column]) !== JSON.stringify(after[column]));
}
