/** What an application says of its entities, and what it can do with one of them. */

import { InvalidWriteError, type Issue } from "./errors.js";
import { canonicalKey, keyOfRow, type KeyInput } from "./key.js";
import type { Write } from "./protocol/generated.js";
import type { Json, Row, RowKey } from "./protocol/json.js";
import type { SelectionOptions } from "./replica/selection.js";
import type { Validator, View } from "./replica/view.js";
import { uuid } from "./uuid.js";

/** A validator by the Standard Schema convention (zod, valibot, arktype and others). */
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
  /** The columns of the primary key, until the server has said them. Default `["id"]`. */
  key?: string | readonly string[];
  /** Held against every row that comes and every write. Rows are checked, not transformed. */
  schema?: StandardSchema<R>;
}

/** An entity of an application: `entity<Todo>()`. */
export interface EntityDefinition<R> extends EntityOptions<R> {
  readonly row?: R;
}

export function entity<R extends object = Row>(options: EntityOptions<R> = {}): EntityDefinition<R> {
  return options;
}

/** What a view shows. */
export interface LiveOptions<R> extends SelectionOptions {
  /** How to sort; by key where it says nothing. */
  order?: (a: R, b: R) => number;
}

/** How a write ended. */
export type WriteResult =
  | { ok: true }
  | { ok: false; code: string; message: string };

/** A write that the user has made. It is shown already. */
export interface PendingWrite {
  /** The row's key, or a temporary one where the database chooses it. */
  readonly key: RowKey;
  /** Resolves when it would survive a reload; false when only this page has it. */
  readonly saved: Promise<boolean>;
  /** Resolves when the server has answered, however long that takes. Never rejects. */
  readonly result: Promise<WriteResult>;
}

export interface EntityPorts {
  keyColumns(entity: string): readonly string[];
  columnType(entity: string, column: string): string | undefined;
  /** The row as it is shown now, in any view. */
  current(entity: string, key: RowKey): Row | undefined;
  view(entity: string, options: LiveOptions<never>, validate: Validator | undefined): View<never>;
  write(write: Write): Omit<PendingWrite, "key">;
}

/** One entity: its live lists, and the writes on it. */
export class Entity<R extends object> {
  readonly #validate: Validator | undefined;

  constructor(
    readonly name: string,
    definition: EntityDefinition<R>,
    readonly ports: EntityPorts,
  ) {
    this.#validate = definition.schema && validatorOf(definition.schema);
  }

  /** A live list. It shows what the store has at once; `close` it when it is no longer needed. */
  live<const P extends LiveOptions<R>>(options?: P): View<P extends { columns: readonly string[] } ? Partial<R> : R> {
    return this.ports.view(this.name, (options ?? {}) as LiveOptions<never>, this.#validate) as never;
  }

  /** A live list of the one row with this key, or of none. */
  row(key: KeyInput): View<R> {
    const columns = this.ports.keyColumns(this.name);
    const values = Array.isArray(key) ? (key as readonly Json[]) : [key as Json];
    const where = columns.map((column, index) => `"${column.replaceAll('"', '""')}" = $${index + 1}`).join(" AND ");
    return this.live({ where, params: values }) as View<R>;
  }

  /** A row as it is shown now in any open list. */
  get(key: KeyInput): R | undefined {
    return this.ports.current(this.name, canonicalKey(key)) as R | undefined;
  }

  /** A new row. Without a key of its own it gets a random uuid, where the key is one column of text. */
  create(values: Partial<R>): PendingWrite {
    const row = this.#withKey({ ...values } as Row);
    this.#check(row);
    return this.#write({ entity: this.name, op: "create", values: row });
  }

  /** Changes some columns of a row. */
  update(key: KeyInput, values: Partial<R>): PendingWrite {
    const text = canonicalKey(key);
    const current = this.ports.current(this.name, text);
    if (current) this.#check({ ...current, ...(values as Row) });
    return this.#write({ entity: this.name, op: "update", key: text, values: { ...values } as Row });
  }

  /** A new row, or, where the key is known, the same as `update`. */
  upsert(values: Partial<R>): PendingWrite {
    const row = { ...values } as Row;
    const key = keyOfRow(row, this.ports.keyColumns(this.name));
    if (key === undefined) throw new InvalidWriteError("an upsert names its whole key", this.name);
    this.#check({ ...this.ports.current(this.name, key), ...row });
    return this.#write({ entity: this.name, op: "upsert", key, values: row });
  }

  delete(key: KeyInput): PendingWrite {
    return this.#write({ entity: this.name, op: "delete", key: canonicalKey(key) });
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
    // Other keys are for the database to choose.
    return takesUuid ? { [column]: uuid(), ...row } : row;
  }

  #check(row: Row): void {
    const issues = this.#validate?.(row) ?? [];
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

/** A step of a path is a key, or an object that holds one. */
function step(segment: unknown): string {
  return String((segment as { key?: unknown } | null)?.key ?? segment);
}
