/**
 * Merges commits, for a store that is slower than the server. The result leads to the state after the
 * last of them, which is a committed instant of the database too.
 */

import type { RowKey } from "../protocol/json.js";
import { emptyCommit, orderAfter, type Commit, type Put, type QueryCommit, type RowsCommit } from "../replica/commit.js";

export function mergeCommits(commits: readonly Commit[]): Commit {
  const merged = emptyCommit();
  const queries = new Map<string, QueryCommit>();
  for (const commit of commits) {
    for (const part of commit.queries) queries.set(part.name, mergeQuery(queries.get(part.name), part));
    merged.acked.push(...commit.acked);
    merged.answered.push(...commit.answered);
    merged.rejected.push(...commit.rejected);
    if (commit.last) merged.last = commit.last;
  }
  merged.queries = [...queries.values()];
  return merged;
}

function mergeQuery(before: QueryCommit | undefined, after: QueryCommit): QueryCommit {
  if (!before) return after;
  const merged: QueryCommit = { ...before, ...after, settled: [...before.settled, ...after.settled] };
  const rows = before.rows && after.rows ? mergeRows(before.rows, after.rows) : (after.rows ?? before.rows);
  if (rows) merged.rows = rows;
  return merged;
}

function mergeRows(before: RowsCommit, after: RowsCommit): RowsCommit {
  if (after.reset) {
    const schema = after.schema ?? before.schema;
    return schema ? { ...after, schema } : after;
  }
  const rows = new Map<RowKey, Put | null>();
  for (const { gone, puts } of [before, after]) {
    for (const key of gone) rows.set(key, null);
    for (const put of puts) rows.set(put[0], put);
  }
  const merged: RowsCommit = { ...before, ...after, reset: before.reset, puts: [], gone: [] };
  if (!orderAfter(after, before.order)) delete merged.order;
  for (const [key, put] of rows) {
    if (put) merged.puts.push(put);
    else merged.gone.push(key);
  }
  return merged;
}
