/** Values that lost against others, of one entity: what its users may want to see and decide. */

import { GROUND } from "../fields/clock.js";
import { strategyOf, type Rules } from "../fields/rules.js";
import type { Entity, WriteResult } from "../entity.js";
import type { Conflict, StampedValue, Write } from "../protocol/generated.js";
import type { Row, RowKey } from "../protocol/json.js";
import { toJson } from "../protocol/to_json.js";
import type { QueryRows } from "../replica/query_rows.js";
import type { Replica } from "../replica/replica.js";
import { rulesOf } from "./rows.js";

/** A value that a field does not hold, though somebody wrote it without knowing of the other. */
export interface FieldConflict extends Conflict {
  readonly id: string;
  /**
   * Under `keep_both` the server keeps the lost value, and everybody sees it who has the row in a list, until somebody
   * resolves it. Otherwise it was written here, and is only here, until it is dismissed; so is one whose row is gone.
   */
  readonly isKept: boolean;
}

/** How to resolve a conflict: what the field holds stays, the lost value comes back, or another takes its place. */
export type Resolution = "keep" | "take" | { readonly value: unknown };

/** The id of the conflict in which a value lost; its clock is its own. */
export function idOf({ entity, key, field, lost }: Pick<Conflict, "entity" | "key" | "field" | "lost">): string {
  return JSON.stringify(["conflict", entity, key, field, lost.hlc]);
}

const NONE: readonly never[] = [];

/** The open conflicts of one entity. */
export class Conflicts {
  #rows: readonly FieldConflict[] = NONE;
  readonly #listeners = new Set<(conflicts: Conflicts) => void>();
  readonly #entity: Entity<Row>;
  readonly #replica: Replica;
  readonly #own: () => Iterable<Conflict>;
  readonly #dismiss: (...ids: string[]) => void;

  /** @param own the values of this client's that lost. */
  constructor(entity: Entity<Row>, replica: Replica, own: () => Iterable<Conflict>, dismiss: (...ids: string[]) => void) {
    this.#entity = entity;
    this.#replica = replica;
    this.#own = own;
    this.#dismiss = dismiss;
  }

  /** The oldest first; another array when something has changed, and only then. */
  get rows(): readonly FieldConflict[] {
    return this.#rows;
  }

  /** Calls `listener` after every change; the result unsubscribes. */
  subscribe(listener: (conflicts: Conflicts) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Forgets values of this client's that lost. Those that the server keeps stay: `resolve` them. */
  dismiss(...conflicts: readonly Pick<FieldConflict, "id">[]): void {
    this.#dismiss(...conflicts.map(({ id }) => id));
  }

  /**
   * Settles a conflict: `"keep"` what the field holds, `"take"` the lost value, or write another `{ value }`. Where the server
   * keeps the lost value, nobody sees it any more; if somebody was faster, this is rejected with `not_found`.
   *
   * @throws {TypeError} when the value is not JSON.
   */
  resolve(conflict: FieldConflict, how: Resolution): Promise<WriteResult> {
    const { id, key, field, lost, isKept } = conflict;
    const values: Row = how === "keep" ? {} : { [field]: how === "take" ? lost.value : toJson(how.value, field) };
    const write: Write = { entity: this.#entity.name, op: "update", key, values, ...(isKept && { resolves: { [field]: [lost.hlc] } }) };
    const nothing = how === "keep" && !isKept;
    const result = nothing ? Promise.resolve({ ok: true } as const) : this.#entity.ports.write(write).result;
    this.#dismiss(id);
    return result;
  }

  /** Takes in what has changed, and tells the listeners. */
  refresh(): void {
    const { name } = this.#entity;
    const found = new Map<string, FieldConflict>();
    for (const conflict of this.#own()) {
      if (conflict.entity !== name) continue;
      const id = idOf(conflict);
      found.set(id, { ...conflict, id, isKept: false });
    }
    for (const conflict of this.#keptValues()) found.set(conflict.id, conflict);
    const rows = [...found.values()].sort((a, b) => (a.lost.hlc < b.lost.hlc ? -1 : Number(a.lost.hlc > b.lost.hlc)));
    if (JSON.stringify(rows) === JSON.stringify(this.#rows)) return;
    this.#rows = rows.length ? rows : NONE;
    for (const listener of [...this.#listeners]) listener(this);
  }

  /** The values that the server keeps and that nobody here is about to resolve. */
  *#keptValues(): Iterable<FieldConflict> {
    const { name } = this.#entity;
    const rules = rulesOf(this.#replica, name);
    if (!rules || !keepsBoth(rules)) return;
    for (const query of this.#replica.queries.values()) {
      if (query.selection.entity !== name || query.selection.mode === undefined) continue;
      const resolved = this.#resolved(query);
      for (const [key, row] of query.rows) yield* this.#keptOf(key, row, rules, resolved);
    }
  }

  *#keptOf(key: RowKey, row: Row, rules: Rules, resolved: ReadonlySet<string>): Iterable<FieldConflict> {
    const { name: entity } = this.#entity;
    const metadata = this.#replica.metadata.get(row);
    for (const [field, values] of Object.entries(metadata?.lost ?? {})) {
      const clock = metadata!.clocks?.[field];
      const hlc = typeof clock === "string" ? clock : (metadata!.base ?? metadata!.born ?? GROUND);
      const kept: StampedValue = { value: row[field] ?? null, hlc };
      for (const lost of values) {
        const conflict = { entity, key, field, lost, kept, strategy: strategyOf(rules, field) };
        const id = idOf(conflict);
        if (!resolved.has(id)) yield { ...conflict, id, isKept: true };
      }
    }
  }

  /** What mutations resolve whose effects a query does not have yet. */
  #resolved({ settled }: QueryRows): Set<string> {
    const { name: entity } = this.#entity;
    const ids = new Set<string>();
    for (const mutation of this.#replica.queue) {
      if (settled.has(mutation.id)) continue;
      for (const [key, { resolves }] of this.#replica.writesOn(entity, mutation)) {
        for (const [field, clocks] of Object.entries(resolves ?? {})) {
          for (const hlc of clocks) ids.add(idOf({ entity, key, field, lost: { hlc, value: null } }));
        }
      }
    }
    return ids;
  }
}

/** Whether the server keeps values that lost. */
function keepsBoth(rules: Rules): boolean {
  const strategies: (string | undefined)[] = [rules.strategy, ...Object.values(rules.columns).map(({ strategy }) => strategy)];
  return strategies.includes("keep_both");
}

