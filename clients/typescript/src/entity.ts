/** How an application declares its entities, and what it can do with one. */

import { InvalidWriteError, type Issue } from "./errors.js";
import { canonicalKey, keyOfRow, type KeyInput } from "./key.js";
import type { Write } from "./protocol/generated.js";
import type { Json, Row, RowKey } from "./protocol/json.js";
import { toJson } from "./protocol/to_json.js";
import type { Direction, SelectionOptions } from "./replica/selection.js";
import type { Validator, View } from "./replica/view.js";
import { uuid } from "./uuid.js";

/** A validator that follows Standard Schema (zod, valibot, arktype and others). */
export interface StandardSchema<R = unknown> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => StandardResult | Promise<StandardResult>;
    readonly types?: { readonly input: unknown; readonly output: R } | undefined;
  };
}

interface StandardResult {
  readonly issues?: readonly { readonly message: string; readonly path?: readonly unknown[] | undefined }[] | undefined;
}

export interface EntityOptions<R> {
  /** The columns of the primary key, used until the server sends them. Default `["id"]`. */
  key?: string | readonly string[];
  /** Checks every row that arrives and every write. Its transformations are ignored. */
  schema?: StandardSchema<R>;
}

/** A declared entity; `R` is the type of its rows. */
export interface EntityDefinition<R> extends EntityOptions<R> {
  readonly row?: R;
}

/** The entities of an application, by name. */
export type Definitions = { [name: string]: EntityDefinition<object> };
/** The type of a declared entity's rows. */
export type RowOf<D> = D extends EntityDefinition<infer R extends object> ? R : never;

/**
 * Declares an entity.
 *
 *     entities: { todos: entity<Todo>(), seats: entity<Seat>({ key: ["row", "number"] }) }
 */
export function entity<R extends object = Row>(options: EntityOptions<R> = {}): EntityDefinition<R> {
  return options;
}

/** The values of a write: JSON, and what becomes JSON without a loss: whole numbers of any size, and dates. */
export type Values<R> = { [C in keyof R]?: R[C] | (number extends R[C] ? bigint : never) | (string extends R[C] ? bigint | Date : never) };

/** Which rows a view shows, and in which order. */
export interface LiveOptions<R> extends SelectionOptions {
  /** Compares two rows; rows that are equal to it are sorted by key. */
  order?: (a: R, b: R) => number;
  orderBy?: readonly (readonly [column: keyof R & string, direction: Direction])[];
}

/** The server's answer to a write. */
export type WriteResult =
  | { ok: true }
  /** `reason`: the code of the server's function that refused it, where it has one. */
  | { ok: false; code: string; message: string; reason?: string | undefined };

/** A write of the user, which is shown already. */
export interface PendingWrite {
  /** The row's key; empty when the database chooses it. */
  readonly key: RowKey;
  /** Resolves to true when the write would survive a reload, to false when only the memory of this page has it. */
  readonly saved: Promise<boolean>;
  /** Resolves when the server answers, however long that takes. Never rejects. */
  readonly result: Promise<WriteResult>;
}

export interface EntityPorts {
  keyColumns(entity: string): readonly string[];
  columnType(entity: string, column: string): string | undefined;
  /** The row as any view shows it now. */
  current(entity: string, key: RowKey): Row | undefined;
  view(entity: string, options: LiveOptions<never>, validate: Validator | undefined): View<never>;
  write(write: Write): Omit<PendingWrite, "key">;
}

/** One entity: its live lists and the writes on it. */
export class Entity<R extends object> {
  /** What is wrong with a row, where the application has said how it must be. */
  validate: Validator | undefined;

  constructor(
    readonly name: string,
    definition: EntityDefinition<R>,
    readonly ports: EntityPorts,
  ) {
    this.validate = definition.schema && validatorOf(definition.schema);
  }

  /**
   * Opens a live list. It shows at once what the store has; `close` it when it is no longer needed.
   *
   *     const mine = sync.todos.live({ where: "assignee = $1", params: ["Ann"] });
   *     mine.subscribe(({ rows, state }) => render(rows, state));
   *
   * With `orderBy` and `limit` it has the first rows in that order, as they come and go, and `loadMore()` shows more of them.
   *
   *     const newest = sync.todos.live({ orderBy: [["created_at", "desc"]], limit: 50 });
   */
  live<const P extends LiveOptions<R>>(options?: P): View<P extends { columns: readonly string[] } ? Partial<R> : R> {
    return this.ports.view(this.name, (options ?? {}) as LiveOptions<never>, this.validate) as never;
  }

  /** Opens a live list of the one row with this key. */
  row(key: KeyInput): View<R> {
    const columns = this.ports.keyColumns(this.name);
    const values = (Array.isArray(key) ? key : [key]) as readonly Json[];
    const where = columns.map((column, index) => `"${column.replaceAll('"', '""')}" = $${index + 1}`).join(" AND ");
    return this.live({ where, params: values }) as View<R>;
  }

  /** The row as any open list shows it now. */
  get(key: KeyInput): R | undefined {
    return this.ports.current(this.name, canonicalKey(key)) as R | undefined;
  }

  /**
   * Creates a row. Without a key it gets a random uuid where the key is one column of text.
   *
   *     const { key, saved, result } = sync.todos.create({ title: "Milk", done: false });
   *     if (!(await saved)) warn("This will not survive a reload");
   *
   * A column that is `undefined` is left out. A `bigint` and a `Date` become JSON as the server writes them.
   *
   * @throws {InvalidWriteError} when a value is not JSON (NaN, a Map, something that contains itself …), or the
   *   validator rejects the row. The same holds for the other writes.
   */
  create(values: Values<R>): PendingWrite {
    const row = this.#withKey(this.#row(values));
    this.#check(row);
    return this.#write({ entity: this.name, op: "create", values: row });
  }

  /** Changes some columns of a row: `sync.todos.update(key, { done: true })`. */
  update(key: KeyInput, values: Values<R>): PendingWrite {
    const [text, row] = [this.#key(key), this.#row(values)];
    const current = this.ports.current(this.name, text);
    if (current) this.#check({ ...current, ...row });
    return this.#write({ entity: this.name, op: "update", key: text, values: row });
  }

  /** Creates the row, or updates the one with its key. */
  upsert(values: Values<R>): PendingWrite {
    const row = this.#row(values);
    const key = keyOfRow(row, this.ports.keyColumns(this.name));
    if (key === undefined) throw new InvalidWriteError("incomplete key", this.name);
    this.#check({ ...this.ports.current(this.name, key), ...row });
    return this.#write({ entity: this.name, op: "upsert", key, values: row });
  }

  delete(key: KeyInput): PendingWrite {
    return this.#write({ entity: this.name, op: "delete", key: this.#key(key) });
  }

  /** The key of a write, which must name one row. */
  #key(key: KeyInput): RowKey {
    const json = this.#json("the key", key);
    if (json === null || (Array.isArray(json) && (json.length === 0 || json.includes(null)))) {
      throw new InvalidWriteError("incomplete key", this.name);
    }
    return canonicalKey(json as KeyInput);
  }

  #row(values: Values<R>): Row {
    if (typeof values !== "object" || !values || Symbol.iterator in values) {
      throw new InvalidWriteError("no object", this.name);
    }
    const written = Object.entries(values).filter(([, value]) => value !== undefined);
    return Object.fromEntries(written.map(([column, value]) => [column, this.#json(column, value)]));
  }

  #json(place: string, value: unknown): Json {
    try {
      return toJson(value, place);
    } catch (cause) {
      throw new InvalidWriteError((cause as Error | undefined)?.message ?? `${cause}`, this.name);
    }
  }

  #write(write: Write): PendingWrite {
    const ports = this.ports;
    const known = write.key ?? keyOfRow(write.values ?? {}, ports.keyColumns(this.name));
    return { key: known === undefined ? "" : String(known), ...ports.write(write) };
  }

  #withKey(row: Row): Row {
    const columns = this.ports.keyColumns(this.name);
    const [column] = columns;
    if (columns.length !== 1 || column === undefined || row[column] !== undefined) return row;
    const type = this.ports.columnType(this.name, column);
    const takesUuid = type === undefined || /text|uuid|char/.test(type);
    // The database chooses keys of other types.
    return takesUuid ? { [column]: uuid(), ...row } : row;
  }

  #check(row: Row): void {
    const issues = this.validate?.(row) ?? [];
    if (issues.length === 0) return;
    throw new InvalidWriteError(issues.map(({ message }) => message).join("; "), this.name, issues);
  }
}

function validatorOf(schema: StandardSchema): Validator {
  return (row) => {
    const result = schema["~standard"].validate(row);
    if (result instanceof Promise) throw new TypeError("asynchronous validator");
    return (result.issues ?? []).map(({ message, path }): Issue => ({ message, path: (path ?? []).map(step) }));
  };
}

/** A segment of a path is a key, or an object that holds one. */
function step(segment: unknown): string {
  return String((segment as { key?: unknown } | null)?.key ?? segment);
}
