/** A database with a log, as far as a client can tell: positions, filters, mutations applied once, rows that merge. */

import { createHash } from "node:crypto";
import type { PushFrame, RejectFrame } from "../../src/protocol/frames.js";
import type { MutatorCall, Step, Write } from "../../src/protocol/generated.js";
import { isCall } from "../../src/replica/mutation.js";
import type { Conflict, Stamp } from "../../src/protocol/generated.js";
import type { Json, Row, RowKey } from "../../src/protocol/json.js";
import { Refused, Tracks } from "./tracks.js";

interface Entry {
  position: number;
  entity: string;
  key: RowKey;
  before: Row | undefined;
}

export interface Shape {
  entity: string;
  /** Only `column = value`, which is enough for rows that come and go. */
  where?: { column: string; value: Json };
  /** With what is known of the rows beside their values. */
  mode?: string;
  /** Only the first rows in an order. */
  window?: { order: readonly (readonly [string, "asc" | "desc"])[]; limit: number };
}

/** A mutator's no. */
export class Refusal extends Error {
  constructor(readonly reason: string) {
    super(`refused: ${reason}`);
  }
}

/** What a mutator of the server writes, beside what it reads. */
export interface ServerTx {
  get(entity: string, key: RowKey): Row | undefined;
  put(entity: string, row: Row): void;
  delete(entity: string, key: RowKey): void;
}

export type Answer = { type: "ack"; mutation: number; position: number; stamps: Stamp[]; conflicts: Conflict[] } | RejectFrame;

export class Database {
  position = 0;
  /** Cursors before this are too old. */
  floor = 0;
  epoch = 1;
  readonly tables = new Map<string, Map<RowKey, Row>>();
  readonly log: Entry[] = [];
  readonly clients = new Map<string, { last: number; answers: Map<number, Answer>; chains: string[] }>();
  /** How often each mutation took effect, by client and number. */
  readonly applied = new Map<string, number>();
  /** The writes that took effect, in order. */
  readonly effects: Write[] = [];
  /** The calls that took effect, in order. */
  readonly called: MutatorCall[] = [];
  mutators: { [name: string]: (tx: ServerTx, args: Json | undefined) => void } = {};
  /** Of entities whose rows merge by their fields, what is known of these. */
  readonly tracks = new Tracks();
  /** The tables at each position. */
  readonly history = new Map<number, Map<string, Map<RowKey, Row>>>([[0, new Map()]]);
  /** The reason to reject a write. */
  rejects: (write: Write) => string | undefined = () => undefined;

  table(entity: string): Map<RowKey, Row> {
    let table = this.tables.get(entity);
    if (!table) this.tables.set(entity, (table = new Map()));
    return table;
  }

  /** A write of another program. */
  put(entity: string, row: Row): void {
    const key = String(row["id"]);
    this.tracks.program(entity, key, this.table(entity).get(key), row);
    this.#change([[entity, key, row]]);
  }

  delete(entity: string, key: RowKey): void {
    const row = this.table(entity).get(key);
    if (!row) return;
    this.tracks.program(entity, key, row, undefined);
    this.#change([[entity, key, undefined]]);
  }

  rows(shape: Shape): Map<RowKey, Row> {
    return new Map([...this.#first(this.table(shape.entity), shape)].map(([key, row]) => [key, structuredClone(row)]));
  }

  /** The rows of a shape as they were. */
  rowsAt(shape: Shape, position: number): Map<RowKey, Row> {
    return this.#first(this.history.get(position)?.get(shape.entity) ?? new Map<RowKey, Row>(), shape);
  }

  #first(table: ReadonlyMap<RowKey, Row>, { where, window }: Shape): Map<RowKey, Row> {
    const rows = [...table].filter(([, row]) => belongs(row, where));
    if (!window) return new Map(rows);
    const sorted = rows.sort(([, a], [, b]) => {
      for (const [column, direction] of [...window.order, ["id", window.order.at(-1)?.[1] ?? "asc"] as const]) {
        const difference = inCollation(a[column] ?? null, b[column] ?? null);
        if (difference) return direction === "asc" ? difference : -difference;
      }
      return 0;
    });
    return new Map(sorted.slice(0, window.limit));
  }

  /** The changes of a shape after `from`: each row once, as it is now. */
  changes(shape: Shape, from: number, transient = false): Json[] {
    if (shape.window) return this.#changesOfWindow(shape, from);
    const first = new Map<RowKey, Row | undefined>();
    for (const { position, entity, key, before } of this.log) {
      if (position > from && entity === shape.entity && !first.has(key)) first.set(key, before);
    }
    const changes: Json[] = [];
    for (const [key, before] of first) {
      const row = this.table(shape.entity).get(key);
      if (row && belongs(row, shape.where)) changes.push(this.#written(shape, key, before, structuredClone(row)));
      else if ((before && belongs(before, shape.where)) || transient) changes.push({ op: row ? "leave" : "delete", key });
    }
    return changes;
  }

  /** A row that was there is patched, where rows merge. */
  #written({ entity, where, mode }: Shape, key: RowKey, before: Row | undefined, row: Row): { [name: string]: Json } {
    if (mode === undefined) return { op: "put", key, row };
    const known = this.tracks.known(entity, key, row);
    if (!before || !belongs(before, where)) return { op: "put", key, row, ...known };
    const changed = Object.entries(row).filter(([column, value]) => JSON.stringify(value) !== JSON.stringify(before[column]));
    return { op: "patch", key, values: Object.fromEntries(changed), ...known };
  }

  /** The keys of a window's rows in their order. */
  order(shape: Shape): RowKey[] | undefined {
    return shape.window && [...this.rows(shape).keys()];
  }

  #changesOfWindow(shape: Shape, from: number): Json[] {
    const [before, now] = [this.rowsAt(shape, from), this.rows(shape)];
    const gone = [...before.keys()].filter((key) => !now.has(key)).map((key) => ({ op: "leave", key }));
    const put = [...now].filter(([key, row]) => JSON.stringify(before.get(key)) !== JSON.stringify(row));
    return [...gone, ...put.map(([key, row]) => ({ op: "put", key, row }))];
  }

  push(clientId: string, { mutation, writes, chain }: PushFrame): Answer {
    let client = this.clients.get(clientId);
    if (!client) this.clients.set(clientId, (client = { last: 0, answers: new Map(), chains: ["00".repeat(16)] }));
    const known = client.answers.get(mutation);
    const own = chainAfter(client.chains[mutation - 1] ?? "", writes);
    const forked = known ? own !== client.chains[mutation] : mutation === client.last + 1 && chain !== undefined && chain !== own;
    if (forked || (known && chain !== undefined && chain !== own)) {
      return { type: "reject", mutation, code: "forked", message: "this number is used" };
    }
    if (known) return known;
    if (mutation !== client.last + 1) {
      const expected = client.last + 1;
      return { type: "reject", mutation, code: "out_of_order", message: `mutation ${expected} comes next`, expected };
    }
    client.last = mutation;
    client.chains[mutation] = own;
    const answer = this.#apply(clientId, mutation, writes);
    client.answers.set(mutation, answer);
    return answer;
  }

  /** Forgets the log, as retention does. */
  prune(): void {
    this.floor = this.position;
  }

  #apply(clientId: string, mutation: number, writes: Step[]): Answer {
    const changed: [string, RowKey, Row | undefined][] = [];
    const now = (entity: string, key: RowKey) => {
      const written = changed.findLast(([e, k]) => e === entity && k === key);
      return written ? written[2] : this.table(entity).get(key);
    };
    const tx: ServerTx = {
      get: (entity, key) => structuredClone(now(entity, key)),
      put: (entity, row) => changed.push([entity, String(row["id"]), row]),
      delete: (entity, key) => changed.push([entity, key, undefined]),
    };
    const stamps: Stamp[] = [];
    const conflicts: Conflict[] = [];
    const tracks = this.tracks.begin(clientId);
    for (const [index, write] of writes.entries()) {
      const reject = (code: RejectFrame["code"], message: string, reason?: string): RejectFrame =>
        ({ type: "reject", mutation, code, message, write: index, ...(reason !== undefined && { reason }) });
      if (isCall(write)) {
        const mutator = this.mutators[write.mutator];
        if (!mutator) return reject("unknown_mutator", write.mutator);
        try {
          mutator(tx, write.args);
        } catch (error) {
          if (error instanceof Refusal) return reject("refused", error.message, error.reason);
          throw error;
        }
        continue;
      }
      const key = String(write.key ?? write.values?.["id"]);
      const row = now(write.entity, key);
      const reason = this.rejects(write);
      if (reason !== undefined) return reject("constraint", reason);
      if (tracks.merges(write.entity)) {
        try {
          const merged = tracks.push(write, key, row);
          changed.push([write.entity, key, merged.row]);
          if (merged.hlc !== write.hlc) stamps.push({ write: index, hlc: merged.hlc });
          conflicts.push(...merged.conflicts.map((conflict) => ({ entity: write.entity, key, ...conflict, mutation, write: index })));
        } catch (error) {
          if (error instanceof Refused) return reject(error.code, error.message);
          throw error;
        }
        continue;
      }
      if (write.op === "create" && row) return reject("exists", `there is a row ${key}`);
      if ((write.op === "update" || write.op === "delete") && !row) return reject("not_found", `no row ${key}`);
      changed.push([write.entity, key, write.op === "delete" ? undefined : { ...row, ...write.values }]);
    }
    tracks.commit();
    this.#change(changed);
    for (const step of structuredClone(writes)) {
      if (isCall(step)) this.called.push(step);
      else this.effects.push(step);
    }
    const name = `${clientId}/${mutation}`;
    this.applied.set(name, (this.applied.get(name) ?? 0) + 1);
    return { type: "ack", mutation, position: this.position, stamps, conflicts };
  }

  #change(changed: [string, RowKey, Row | undefined][]): void {
    this.position += 1;
    for (const [entity, key, row] of changed) {
      const table = this.table(entity);
      this.log.push({ position: this.position, entity, key, before: structuredClone(table.get(key)) });
      if (row) table.set(key, structuredClone(row));
      else table.delete(key);
    }
    this.history.set(this.position, structuredClone(this.tables));
  }
}

/** Made by Node, so that the client's own is compared with another. */
function chainAfter(chain: string, writes: Step[]): string {
  const sha256 = (...parts: (Buffer | string)[]) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
  return sha256(Buffer.from(chain, "hex"), sha256(JSON.stringify(writes))).toString("hex", 0, 16);
}

export /** Nulls are above all; texts have an order that no client knows. */
function inCollation(a: Json, b: Json): number {
  if (a === b) return 0;
  if (a === null || b === null) return a === null ? 1 : -1;
  return typeof a === "string" && typeof b === "string" ? a.localeCompare(b, "en") : Number(a) - Number(b);
}

function belongs(row: Row, where: Shape["where"]): boolean {
  return !where || row[where.column] === where.value;
}
