/** A row's metadata as JSON, as the server keeps it beside the row and sends it. */

import type { Json, Row as Values } from "../protocol/json.js";
import { amountToJson, readAmount } from "./amount.js";
import type { Cell } from "./cell.js";
import { checkNode, GROUND, readClock, type Clock } from "./clock.js";
import { counterShown, type Sums } from "./counter.js";
import { refuse } from "./error.js";
import { newestOwn, Row } from "./row.js";
import { mergeOf, type Rules } from "./rules.js";
import { marks, setShown, type Element } from "./set.js";
import { sortedEntries } from "./texts.js";

/** How many fields a row may have: as many as a PostgreSQL table has columns. */
const FIELDS_MAX = 1600;

/** What is known of a row beside its values. Empty for a row that was never edited by its fields. */
export interface Metadata {
  readonly born?: string;
  readonly died?: string;
  /** The clock of every field that is not named; none is the birth. */
  readonly base?: string;
  /** Of a row whose creation has not arrived. */
  readonly partial?: boolean;
  /** The newest edit, where no field tells. */
  readonly edited?: string;
  /** What fields have of their own. */
  readonly fields?: { readonly [column: string]: Mark };
}

/** What one field has of its own: a register's clock, or what a counter or a set needs to merge. */
export type Mark = string | Pick<Marks, "counter"> | Pick<Marks, "set">;

interface Marks {
  readonly counter: CounterMark;
  readonly set: { readonly [element: string]: ElementMark };
}

interface CounterMark {
  readonly set?: string;
  readonly sums?: { readonly [database: string]: { readonly added: Json; readonly taken: Json } };
  /** Whether the number to which was added is null, or unknown. */
  readonly null?: boolean;
}

interface ElementMark {
  readonly added: string | null;
  readonly removed?: { readonly seen: string | null; readonly at: string };
}

/**
 * The row of these values and of what is known beside them. Without metadata it was there before anything was stamped.
 *
 * @throws {FieldsError} when a value does not fit its column, the metadata does not fit the values, or a clock is none.
 */
export function readRow(metadata: Metadata, values: Values, rules: Rules): Row {
  const fields = metadata.fields ?? {};
  const columns = Object.keys(fields);
  checkCount(values);
  const died = readOptional(metadata.died);
  const onlyDied = died && Object.keys(values).length === 0 && columns.length === 0;
  const born = readOptional(metadata.born) ?? (onlyDied ? undefined : GROUND);
  const base = readOptional(metadata.base) ?? born;
  const parts = { born, died, edited: readOptional(metadata.edited), base: born && !metadata.partial ? base : undefined };
  for (const column of columns) if (!Object.hasOwn(values, column)) refuseMark(column);
  const cells = new Map<string, Cell>();
  for (const [column, value] of sortedEntries(values)) {
    const mark = Object.hasOwn(fields, column) ? fields[column] : undefined;
    if (!parts.base && mark === undefined) refuseMark(column);
    cells.set(column, readCell(column, value, mark, rules));
  }
  return Row.of({ ...parts, cells }, rules);
}

/** @throws {FieldsError} `too_many_fields` */
export function checkCount(values: Values): void {
  if (Object.keys(values).length > FIELDS_MAX) refuse("too_many_fields", `more than ${FIELDS_MAX} fields`);
}

function readOptional(clock: unknown): Clock | undefined {
  return clock === undefined || clock === null ? undefined : readClock(clock);
}

function refuseMark(column: string): never {
  refuse("mark", `the metadata of "${column}" does not fit`);
}

/** The cell, unless the column's value made none. */
export function fitting<T>(cell: T | undefined, kind: "counter" | "set", column: string): T {
  return cell ?? refuse(kind, `"${column}" is no ${kind}, or too large`);
}

function readCell(column: string, value: Json, mark: Mark | undefined, rules: Rules): Cell {
  const merge = mergeOf(rules, column);
  if (merge === "counter") {
    const found = markOf(mark, merge, column);
    const isNull = found ? found.null : value === null;
    return fitting(counterShown(value, readOptional(found?.set), readSums(found?.sums ?? {}, column), !isNull), merge, column);
  }
  if (merge === "set") {
    const edited = Object.entries(markOf(mark, merge, column) ?? {});
    return fitting(setShown(value, edited.map(([text, element]) => [text, readElement(element)])), merge, column);
  }
  if (mark !== undefined && typeof mark !== "string") refuseMark(column);
  const clock = readOptional(mark);
  // In a part of a row, the mark of an extreme says that there is a value: any will do.
  return typeof merge === "object" ? { kind: "extreme", value } : { kind: "register", clock, value };
}

/** What the mark of a counter or a set says; undefined if there is none. */
function markOf<K extends keyof Marks>(mark: Mark | undefined, kind: K, column: string): Marks[K] | undefined {
  return mark === undefined ? undefined : ((mark as Partial<Marks> | null)?.[kind] ?? refuseMark(column));
}

function readSums(sums: NonNullable<CounterMark["sums"]>, column: string): Map<string, Sums> {
  return new Map(
    Object.entries(sums).map(([database, { added, taken }]) => {
      checkNode(database);
      return [database, { added: fitting(readAmount(added), "counter", column), taken: fitting(readAmount(taken), "counter", column) }];
    }),
  );
}

function readElement({ added, removed }: ElementMark): Element {
  return { added: readOptional(added), removed: removed && { seen: readOptional(removed.seen), at: readClock(removed.at) } };
}

/** What is to be kept beside the row's values. */
export function metadataOf({ born, died, base, edited, cells, isWhole }: Row): Metadata {
  const fields = [...cells].flatMap(([column, cell]): [string, Mark][] => {
    const mark = writeMark(cell, isWhole);
    return mark === undefined ? [] : [[column, mark]];
  });
  return known<Metadata>({
    born,
    died,
    base: base === born ? undefined : base,
    partial: born && !isWhole ? true : undefined,
    edited: edited === newestOwn(cells) ? undefined : edited,
    fields: fields.length > 0 ? Object.fromEntries(fields) : undefined,
  });
}

function writeMark(cell: Cell, isWhole: boolean): Mark | undefined {
  if (cell.kind === "register") return cell.clock;
  if (cell.kind === "extreme") return isWhole ? undefined : GROUND;
  if (cell.kind === "set") {
    const edited = marks(cell).map(([text, { added = null, removed }]) => {
      const mark = { added, removed: removed && { seen: removed.seen ?? null, at: removed.at } };
      return [text, known<ElementMark>(mark)] as const;
    });
    return edited.length > 0 || !isWhole ? { set: Object.fromEntries(edited) } : undefined;
  }
  const { set, start, sums } = cell;
  if (!set && sums.size === 0 && isWhole) return undefined;
  const written = [...sums].map(([database, { added, taken }]) => [database, { added: amountToJson(added), taken: amountToJson(taken) }] as const);
  const mark = { set, sums: sums.size > 0 ? Object.fromEntries(written) : undefined, null: start === undefined ? true : undefined };
  return { counter: known<CounterMark>(mark) };
}

/** The members that are there. */
function known<T>(members: { [K in keyof T]-?: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as T;
}
