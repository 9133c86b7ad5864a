/** A live list: a query's rows with the user's open writes on top, in order. */

import type { Issue, SyncError } from "../errors.js";
import { canonicalKey, compareKeys, type KeyInput } from "../key.js";
import type { Row, RowKey } from "../protocol/json.js";
import type { QueryPhase } from "./commit.js";
import type { QueryRows } from "./query_rows.js";
import { sameRow } from "./query_rows.js";
import { arrange, comparing } from "./order.js";
import type { Replica } from "./replica.js";
import type { OrderBy } from "./selection.js";

/**
 * `loading`: nothing is known yet. `stale`: the last known rows, while the server is asked for the
 * current ones. `live`: the current rows. `error`: the server does not send them; `error` says why.
 */
export type ViewState = QueryPhase;

/** A row that the validator rejected. It is not in `rows`. */
export interface InvalidRow {
  readonly key: RowKey;
  readonly row: Row;
  readonly issues: readonly Issue[];
}

/** What a view shows at one moment. It is another object when something changes, and only then. */
export interface ViewSnapshot<R> {
  readonly rows: readonly R[];
  readonly state: ViewState;
  readonly error: SyncError | undefined;
  /** The keys of rows with writes that the server has not answered. */
  readonly pending: ReadonlySet<RowKey>;
  readonly invalid: readonly InvalidRow[];
  /** Whether a list with a limit is full, so that the server may have more rows. */
  readonly hasMore: boolean;
}

/** Lists what is wrong with a row. */
export type Validator = (row: Row) => readonly Issue[];

const NO_KEYS: ReadonlySet<RowKey> = new Set();
const NONE: readonly never[] = [];

interface ViewOptions<R> {
  order?: ((a: R, b: R) => number) | undefined;
  orderBy?: OrderBy | undefined;
  validate?: Validator | undefined;
  /** Opens the rows with another limit. */
  open: (limit?: number) => QueryRows;
  release: (query: QueryRows) => void;
  close: () => void;
}

export class View<R> {
  #query: QueryRows;
  readonly #replica: Replica;
  readonly #options: ViewOptions<R>;
  readonly #pageRows: number | undefined;
  /** The longer list that is on its way. */
  #more: { query: QueryRows; shown: (shown: boolean) => void } | undefined;
  readonly #listeners = new Set<(view: View<R>) => void>();
  #closed = false;
  readonly #checked = new WeakMap<Row, readonly Issue[]>();
  #seen = -1;
  #shown: ReadonlyMap<RowKey, Row> = new Map();
  #snapshot: ViewSnapshot<R> = { rows: NONE, state: "loading", error: undefined, pending: NO_KEYS, invalid: NONE, hasMore: false };
  #ready: (() => void) | undefined;
  /** Resolves when there is something to show: stored rows, rows of the server, or an error. */
  readonly ready: Promise<void>;

  constructor(
    replica: Replica,
    query: QueryRows,
    options: ViewOptions<R>,
  ) {
    this.#replica = replica;
    this.#query = query;
    this.#options = options;
    this.#pageRows = query.selection.limit;
    this.ready = new Promise((resolve) => (this.#ready = resolve));
    this.refresh();
  }

  /** The name of its rows' entity. */
  get entity(): string {
    return this.#query.selection.entity;
  }

  get snapshot(): ViewSnapshot<R> {
    return this.#snapshot;
  }

  get rows(): readonly R[] {
    return this.#snapshot.rows;
  }

  get state(): ViewState {
    return this.#snapshot.state;
  }

  get error(): SyncError | undefined {
    return this.#snapshot.error;
  }

  /** Whether a list with a limit is full, so that the server may have more rows. */
  get hasMore(): boolean {
    return this.#snapshot.hasMore;
  }

  /**
   * Shows more rows of a list with a limit, by default as many as it began with. Resolves when they are there: to true,
   * or to false where there is no limit, the list was closed, or the server does not send as many.
   */
  loadMore(count: number | undefined = this.#pageRows): Promise<boolean> {
    const limit = (this.#more?.query ?? this.#query).selection.limit;
    if (limit === undefined || count === undefined || this.#closed) return Promise.resolve(false);
    this.#endMore(false);
    return new Promise((shown) => {
      this.#more = { query: this.#options.open(limit + count), shown };
      // Another list may have them already.
      this.#seen = -1;
      if (this.refresh()) this.notify();
    });
  }

  /** One row of the list. */
  get(key: KeyInput): R | undefined {
    return this.#shown.get(canonicalKey(key)) as R | undefined;
  }

  /** Whether a row has writes that the server has not answered. */
  isPending(key: KeyInput): boolean {
    return this.#snapshot.pending.has(canonicalKey(key));
  }

  /** Calls `listener` once after every change of the rows or the state; the result unsubscribes. */
  subscribe(listener: (view: View<R>) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Ends the list. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#listeners.clear();
    this.#endMore(false);
    this.#options.release(this.#query);
    this.#options.close();
  }

  /** Takes in what has changed; true when that is visible, and the caller has to `notify`. */
  refresh(): boolean {
    if (this.#seen === this.#replica.version) return false;
    this.#seen = this.#replica.version;
    if (this.#more && this.#more.query.phase !== "loading") this.#endMore(this.#more.query.phase !== "error");
    const before = this.#snapshot;
    const after = this.#look();
    const same =
      before.state === after.state && before.error === after.error && before.rows === after.rows &&
      before.pending === after.pending && before.invalid.length === after.invalid.length &&
      before.hasMore === after.hasMore;
    if (after.state !== "loading") this.#ready?.();
    if (same) return false;
    this.#snapshot = after;
    return true;
  }

  notify(): void {
    for (const listener of [...this.#listeners]) listener(this);
  }

  /** Shows the longer list, or not. */
  #endMore(shown: boolean): void {
    const more = this.#more;
    if (!more) return;
    this.#more = undefined;
    this.#options.release(shown ? this.#query : more.query);
    if (shown) this.#query = more.query;
    more.shown(shown);
  }

  #look(): ViewSnapshot<R> {
    const { phase: state, error, selection: { limit } } = this.#query;
    const invalid: InvalidRow[] = [];
    const shown = this.#arrange(this.#collect(), invalid);
    this.#shown = shown;
    const rows = [...shown.values()] as R[];
    return {
      rows: sameList(this.#snapshot.rows, rows) ? this.#snapshot.rows : rows,
      state,
      error,
      pending: this.#pending(),
      invalid,
      hasMore: limit !== undefined && this.#query.rows.size >= limit,
    };
  }

  /** The server's rows with the open writes on top; an unchanged row is the same object. */
  #collect(): Map<RowKey, Row> {
    const overlay = this.#replica.overlay(this.#query);
    const rows = new Map<RowKey, Row>();
    // In the previous order, so that sorting has little to do.
    for (const key of this.#shown.keys()) {
      const row = this.#query.rows.get(key);
      if (row) rows.set(key, row);
    }
    for (const [key, row] of this.#query.rows) rows.set(key, row);
    for (const [key, row] of overlay) {
      const known = this.#shown.get(key);
      if (row) rows.set(key, known && sameRow(known, row) ? known : row);
      else rows.delete(key);
    }
    return rows;
  }

  #arrange(rows: Map<RowKey, Row>, invalid: InvalidRow[]): Map<RowKey, Row> {
    const entries: [RowKey, Row][] = [];
    for (const [key, row] of rows) {
      const issues = this.#issues(row);
      if (issues.length) invalid.push({ key, row, issues });
      else entries.push([key, row]);
    }
    const { order, orderBy } = this.#options;
    if (orderBy && !order) return new Map(this.#inOrder(entries, orderBy));
    entries.sort((a, b) => (order ? order(a[1] as R, b[1] as R) : 0) || compareKeys(a[0], b[0]));
    return new Map(entries);
  }

  #inOrder(rows: [RowKey, Row][], orderBy: OrderBy): [RowKey, Row][] {
    const { entity, limit } = this.#query.selection;
    const compare = comparing(orderBy, this.#replica.keyColumns(entity), (column) => this.#replica.columnType(entity, column));
    const isMoved = (key: RowKey, row: Row) => compare(this.#query.rows.get(key) ?? {}, row) !== 0;
    return arrange(rows, compare, this.#query.order, isMoved).slice(0, limit);
  }

  #issues(row: Row): readonly Issue[] {
    const { validate } = this.#options;
    if (!validate) return NONE;
    let issues = this.#checked.get(row);
    if (!issues) this.#checked.set(row, (issues = validate(row)));
    return issues;
  }

  #pending(): ReadonlySet<RowKey> {
    const { entity } = this.#query.selection;
    const keys = new Set<RowKey>();
    for (const mutation of this.#replica.queue) {
      if (!this.#replica.isPending(mutation)) continue;
      for (const [key] of this.#replica.writesOn(entity, mutation)) keys.add(key);
    }
    const before = this.#snapshot.pending;
    return keys.size === before.size && [...keys].every((key) => before.has(key)) ? before : keys;
  }
}

function sameList(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((item, index) => item === b[index]);
}
