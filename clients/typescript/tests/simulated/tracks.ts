/** What a simulated database knows of rows that merge by their fields, and what it makes of writes. */

import { applyWrite, clockAfter, metadataOf, millisOf, nodeOf, nodeOfClient, readRow, Row as MergingRow, type Clock, type Conflict, type Rules } from "../../src/fields/index.js";
import type { RejectCode, Write } from "../../src/protocol/generated.js";
import type { Json, Row, RowKey } from "../../src/protocol/json.js";

export class Refused extends Error {
  constructor(readonly code: RejectCode, message: string) {
    super(message);
  }
}

interface Merged {
  /** Undefined when it is gone. */
  row: Row | undefined;
  hlc: Clock;
  conflicts: readonly Conflict[];
}

const DATABASE = "database";
const nameOf = (entity: string, key: RowKey) => JSON.stringify([entity, key]);

export class Tracks {
  /** How rows merge, by entity. */
  readonly rules = new Map<string, Rules>();
  /** The server's time, in milliseconds from 1970. */
  now: () => number = () => 0;
  /** The rows of which something is known. */
  readonly rows: Map<string, MergingRow>;

  constructor(parent?: Tracks) {
    this.rows = new Map(parent?.rows);
    if (parent) Object.assign(this, { rules: parent.rules, now: parent.now });
  }

  merges(entity: string): boolean {
    return this.rules.has(entity);
  }

  /** The members of a row beside its values. */
  known(entity: string, key: RowKey, row: Row): { [name: string]: Json } {
    const { fields, ...rest } = metadataOf(this.row(entity, key, row)!);
    return { ...rest, ...(fields && { clocks: fields as {} }) };
  }

  row(entity: string, key: RowKey, row: Row | undefined): MergingRow | undefined {
    return this.rows.get(nameOf(entity, key)) ?? (row && readRow({}, valuesOf(row), this.rules.get(entity)!));
  }

  /** Stamps what another program changes. */
  program(entity: string, key: RowKey, before: Row | undefined, after: Row | undefined): void {
    const rules = this.rules.get(entity);
    if (!rules) return;
    const known = this.row(entity, key, before);
    const clock = clockAfter(known?.newest, this.now(), DATABASE);
    const changed = Object.entries(valuesOf(after ?? {})).filter(([column, value]) => JSON.stringify(value) !== JSON.stringify(before?.[column]));
    const edit = !after ? "delete" as const : before ? { update: Object.fromEntries(changed) } : { create: valuesOf(after) };
    if (!known && !before) return;
    const write = { clock, ...(known?.born && { born: known.born }), ...(known?.newest && { seen: known.newest }), edit };
    this.rows.set(nameOf(entity, key), applyWrite(write, known, rules).row);
  }

  /** What a mutation does, to be committed or forgotten. */
  begin(clientId: string): TracksOfMutation {
    return new TracksOfMutation(this, nodeOfClient(clientId));
  }
}

class TracksOfMutation extends Tracks {
  #previous: Clock;

  constructor(readonly parent: Tracks, readonly node: string) {
    super(parent);
    this.#previous = clockAfter(undefined, this.now(), node);
  }

  commit(): void {
    for (const [name, row] of this.rows) this.parent.rows.set(name, row);
  }

  /** @throws {Refused} */
  push(write: Write, key: RowKey, row: Row | undefined): Merged {
    const { entity } = write;
    const rules = this.rules.get(entity)!;
    const known = this.row(entity, key, row);
    const op = write.op === "upsert" ? (row ? "update" : "create") : write.op;
    if (op === "create" && row) throw new Refused("exists", `there is a row ${key}`);
    if (op !== "create" && !known) throw new Refused("not_found", `no row ${key}`);
    const clock = this.#admitted(write, known);
    const born = (write.hlc === undefined ? known?.born : (write.born as Clock | undefined));
    const seen = (write.hlc === undefined ? known?.newest : (write.seen as Clock | undefined));
    if (op === "update" && write.hlc !== undefined && (born ?? "") > (known?.born ?? "")) throw new Refused("not_found", "an unknown birth");
    const edit = op === "delete" ? "delete" as const : op === "create" ? { create: valuesOf(write.values ?? {}) } : { update: valuesOf(write.values ?? {}) };
    const merged = applyWrite({ clock, ...(born && { born }), ...(seen && { seen }), edit }, known, rules);
    this.rows.set(nameOf(entity, key), merged.row);
    const shown = merged.row.shown(rules);
    return { row: shown && { id: key, ...shown }, hlc: clock, conflicts: merged.conflicts };
  }

  #admitted({ hlc }: Write, known: MergingRow | undefined): Clock {
    if (hlc === undefined) return clockAfter(known?.newest, this.now(), this.node);
    if (nodeOf(hlc as Clock) !== this.node) throw new Refused("invalid", "`hlc` must be a clock of this client's node");
    if (millisOf(hlc as Clock) <= this.now()) return hlc as Clock;
    return (this.#previous = clockAfter(this.#previous, this.now(), this.node));
  }
}

/** The key is no field. */
function valuesOf({ id: _, ...values }: Row): Row {
  return values;
}
