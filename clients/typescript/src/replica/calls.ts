/**
 * What the calls in the queue write: the functions of mutators, run in the queue's order, and run again
 * (rebased) when something that they have read is different.
 *
 * Invariants:
 * - A function reads the server's rows with everything on top that was queued before its call and that these
 *   rows do not contain, and what it wrote itself.
 * - Equal rows, equal writes: a function whose rows are as they were does not run.
 * - A function never runs again on rows that may contain its call, which would count twice. When those of some
 *   query contain it, its writes stay as they are, for the queries that do not contain it yet. When it has a number,
 *   so that the server may have applied it, they stay from the moment when rows become live again, and at once
 *   where rows may come before the answer: on rows that contain it they change nothing.
 * - A function that throws writes nothing.
 */

import type { MutatorCall, Write } from "../protocol/generated.js";
import type { Row, RowKey } from "../protocol/json.js";
import { isCall, type Mutation } from "./mutation.js";
import { keyOfWrite, temporaryKey } from "./overlay.js";
import { sameRow, type QueryRows } from "./query_rows.js";
import type { Replica } from "./replica.js";

/** The part of the replica that decides what calls write. */
export type CallSource = Pick<Replica, "version" | "queue" | "queries" | "holder" | "keyColumns" | "applyWrite">;

/** What a function is run on. */
export interface CallState {
  row(entity: string, key: RowKey): Row | undefined;
  keyColumns(entity: string): readonly string[];
  write(write: Write): void;
}

/** Runs the function of a call. Throws what the function throws, or because there is none. */
export type RunCall = (call: MutatorCall, state: CallState) => void;

/** What a function read, and what it therefore wrote, or threw. */
interface Run {
  reads: readonly Read[];
  writes: readonly Write[];
  error?: unknown;
  /** It stays as it is. */
  final?: boolean;
}

/** How to read something, and what was there. */
type Read = [now: (rows: RowsAfter) => object | undefined, seen: object | undefined];

export class Calls {
  readonly #source: CallSource;
  readonly #run: RunCall;
  readonly #isOrdered: () => boolean;
  /** The version of the replica for which the rest holds. */
  #version = -1;
  /** The runs of each mutation with calls, by the places of these. */
  #runs = new Map<string, Run[]>();
  #written = new Map<string, readonly Write[]>();
  /** The queries whose rows the server was still asked for. */
  #stale: readonly QueryRows[] = [];

  /** @param isOrdered whether an answer always comes before the rows that contain its mutation. */
  constructor(source: CallSource, run: RunCall, isOrdered: () => boolean) {
    this.#source = source;
    this.#run = run;
    this.#isOrdered = isOrdered;
  }

  /** What a mutation of the queue writes, itself and through its calls. */
  written(mutation: Mutation): readonly Write[] {
    const { version, queue } = this.#source;
    if (this.#version !== version) this.#rebase(queue);
    return this.#written.get(mutation.id) ?? (mutation.writes as Write[]);
  }

  /**
   * Runs the last call of a mutation that is about to be queued.
   *
   * @throws what its function throws.
   */
  attempt(mutation: Mutation): void {
    this.#rebase([...this.#source.queue, mutation]);
    this.#version = -1;
    const run = this.#runs.get(mutation.id)!.at(-1)!;
    this.#runs.delete(mutation.id);
    if ("error" in run) throw run.error;
  }

  /** Costs a look at each step of the queue and at each row that a function has read, and no more. */
  #rebase(queue: readonly Mutation[]): void {
    const before = this.#runs;
    // First, so that a function that looks at a list does not begin it all again.
    this.#version = this.#source.version;
    this.#runs = new Map();
    this.#written = new Map();
    const queries = [...this.#source.queries.values()];
    const comeEarly = !this.#isOrdered() || this.#stale.some(({ phase }) => phase === "live");
    this.#stale = queries.filter(({ phase }) => phase === "stale");
    if (!queue.some(({ writes }) => writes.some(isCall))) return;
    const rows = new RowsAfter(this.#source);
    for (const mutation of queue) {
      const { id, number } = mutation;
      const mayBeContained = (comeEarly && number !== undefined) || queries.some(({ settled }) => settled.has(id));
      const runs: Run[] = [];
      const written: Write[] = [];
      mutation.writes.forEach((step, index) => {
        if (!isCall(step)) return void written.push(rows.write(mutation, step, index));
        const last = before.get(id)?.[index];
        if (last && mayBeContained) last.final = true;
        const run = (runs[index] = last && (last.final || rows.agree(last.reads)) ? last : this.#runOn(rows, step));
        // Also after a rebase a row has the temporary key that it had.
        run.writes.forEach((write, place) => written.push(rows.write(mutation, write, `${index}.${place}`)));
      });
      this.#runs.set(id, runs);
      this.#written.set(id, written);
    }
  }

  #runOn(rows: RowsAfter, call: MutatorCall): Run {
    const reader = new Reader(rows);
    try {
      this.#run(call, reader);
      return reader;
    } catch (error) {
      return { reads: reader.reads, writes: [], error };
    }
  }
}

function nameOf(entity: string, key: RowKey): string {
  return JSON.stringify([entity, key]);
}

/** The rows as they are after a beginning of the queue. */
class RowsAfter {
  readonly #source: CallSource;
  readonly #rows = new Map<string, { holder: QueryRows | undefined; row: Row | undefined }>();

  constructor(source: CallSource) {
    this.#source = source;
  }

  row(entity: string, key: RowKey): Row | undefined {
    return this.#at(entity, key).row;
  }

  keyColumns(entity: string): readonly string[] {
    return this.#source.keyColumns(entity);
  }

  /** Applies a write, unless the row contains it; returns it with the key of its row. */
  write(mutation: Mutation, write: Write, place: number | string): Write {
    const { entity } = write;
    const key = keyOfWrite(write, this.keyColumns(entity)) ?? temporaryKey(mutation, place);
    const at = this.#at(entity, key);
    // A row that no query has may be on its way, until all contain the mutation.
    const queries = at.holder
      ? [at.holder]
      : [...this.#source.queries.values()].filter(({ selection, isFull }) => isFull && selection.entity === entity);
    if (!queries.length || !queries.every(({ settled }) => settled.has(mutation.id))) at.row = this.after(write, at.row);
    return { ...write, key };
  }

  /** The row after a write, where one that is unknown stays unknown when it is updated. */
  after(write: Write, row: Row | undefined): Row | undefined {
    return this.#source.applyWrite(write, row) ?? undefined;
  }

  /** Whether everything that a function has read is as it was. */
  agree(reads: readonly Read[]): boolean {
    return reads.every(([read, seen]) => {
      const now = read(this);
      return now === seen || (now && seen && sameRow(now as Row, seen as Row));
    });
  }

  #at(entity: string, key: RowKey): { holder: QueryRows | undefined; row: Row | undefined } {
    const name = nameOf(entity, key);
    let at = this.#rows.get(name);
    if (!at) {
      const holder = this.#source.holder(entity, key);
      this.#rows.set(name, (at = { holder, row: holder?.rows.get(key) }));
    }
    return at;
  }
}

/** The rows that one function sees. It keeps what was read, and its writes to itself. */
class Reader implements CallState, Run {
  final = false;
  readonly reads: Read[] = [];
  readonly writes: Write[] = [];
  readonly #rows: RowsAfter;
  readonly #own = new Map<string, Row | undefined>();

  constructor(rows: RowsAfter) {
    this.#rows = rows;
  }

  row(entity: string, key: RowKey): Row | undefined {
    const name = nameOf(entity, key);
    if (!this.#own.has(name)) this.#own.set(name, this.#read((rows) => rows.row(entity, key)));
    return this.#own.get(name);
  }

  keyColumns(entity: string): readonly string[] {
    return this.#read((rows) => rows.keyColumns(entity));
  }

  write(write: Write): void {
    const { entity } = write;
    const key = keyOfWrite(write, this.keyColumns(entity));
    if (key !== undefined) this.#own.set(nameOf(entity, key), this.#rows.after(write, this.row(entity, key)));
    this.writes.push(write);
  }

  #read<T extends object | undefined>(read: (rows: RowsAfter) => T): T {
    const seen = read(this.#rows);
    this.reads.push([read, seen]);
    return seen;
  }
}
