/** Rows as the client holds them, as rows that merge. */

import { GROUND, type Clock } from "../fields/clock.js";
import { readRow } from "../fields/metadata.js";
import { Row as MergingRow } from "../fields/row.js";
import type { Rules } from "../fields/rules.js";
import { later } from "../fields/texts.js";
import type { Json, Row } from "../protocol/json.js";
import type { RowMetadata } from "../replica/commit.js";
import type { Replica } from "../replica/replica.js";

/** How an entity's rows merge, once the server has said it. */
export function rulesOf(replica: Pick<Replica, "queries">, entity: string): Rules | undefined {
  for (const { selection, schema } of replica.queries.values()) {
    if (selection.entity === entity && schema?.rules) return schema.rules as Rules & Json;
  }
  return undefined;
}

/** @throws {FieldsError} when the metadata does not fit the row. */
export function mergingRow(row: Row, metadata: RowMetadata = {}, rules: Rules): MergingRow {
  const { clocks, lost: _, ...rest } = metadata;
  return readRow({ ...rest, ...(clocks && { fields: clocks as {} }) }, row, rules);
}

/** The newest clock that anybody who sees the row knows of; none where nothing was ever stamped. */
export function newestOf(row: MergingRow): Clock | undefined {
  const newest = later(row.newest, row.base);
  return newest === GROUND ? undefined : newest;
}
