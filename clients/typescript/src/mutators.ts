/**
 * Mutators: functions of the server that clients call by name. What one is expected to do, a function of the
 * same name does here, at once and on the local copy.
 */

import { Entity, type Definitions, type EntityDefinition, type EntityPorts, type PendingWrite, type RowOf, type Values } from "./entity.js";
import { SyncError } from "./errors.js";
import type { KeyInput } from "./key.js";
import type { MutatorCall } from "./protocol/generated.js";
import type { Row } from "./protocol/json.js";
import { toJson } from "./protocol/to_json.js";
import { Calls, type CallState } from "./replica/calls.js";
import type { Extension } from "./sync.js";

/** One entity, as a mutator reads and writes it. */
export interface MutatorEntity<R extends object> {
  /** The row with what was queued before, and with this mutator's own writes, as far as open lists of all columns have it. */
  get(key: KeyInput): Readonly<R> | undefined;
  /** Creates a row. Without a key it has a temporary one, until the server sends the row. */
  create(values: Values<R>): void;
  update(key: KeyInput, values: Values<R>): void;
  upsert(values: Values<R>): void;
  delete(key: KeyInput): void;
}

/** The local copy, as a mutator sees it: each entity under its name. */
export type MutatorTx<D> = { readonly [name in keyof D]: MutatorEntity<RowOf<D[name]>> };

/**
 * What a mutator does on the local copy: synchronous, and the same for equal rows and arguments, because it runs
 * again whenever these rows change. So it asks neither the time nor chance; put those into `args`.
 */
export type MutatorFunction<D, A> = (tx: MutatorTx<D>, args: A) => void | undefined;
/** `M` has the type of each one's arguments. */
export type MutatorFunctions<D, M> = { [name in keyof M]: MutatorFunction<D, M[name]> };

/** The calls of mutators: each takes the arguments of its function, as JSON. */
export type Mutate<M> = {
  readonly [name in keyof M]: (
    ...args: undefined extends M[name] ? [args?: M[name]] : [args: M[name]]
  ) => Omit<PendingWrite, "key">;
};

type Act = MutatorFunction<never, never>;

/** Gives a client `mutate`, and shows what its calls do. */
export function mutating(definitions: Definitions, functions: { [name: string]: Act }): Extension {
  return (sync, replica, write, begun) => {
    const byName = new Map<string, Act>();
    let isRunning = false;
    /** Whatever a function does besides its writes would happen again at each rebase. */
    const guarded = <A extends unknown[], T>(act: (...args: A) => T) => (...args: A): T => {
      if (isRunning) throw new SyncError("invalid", "a mutator writes to its tx");
      return act(...args);
    };
    const calls = new Calls(replica, ({ mutator, args }, state) => {
      const act = byName.get(mutator);
      if (!act) throw new SyncError("unknown_mutator", mutator);
      const { tx, end } = openTx(definitions, state);
      isRunning = true;
      try {
        const result = act(tx as never, structuredClone(args) as never) as Promise<void> | undefined;
        if (result instanceof Promise) {
          result.catch(() => {});
          throw new SyncError("invalid", "asynchronous mutator");
        }
      } finally {
        isRunning = false;
        end();
      }
    }, () => sync.status.transport !== "events");
    replica.written = (mutation) => calls.written(mutation);
    for (const name of Object.keys(definitions)) {
      const { ports } = sync.entity(name);
      ports.write = guarded(ports.write);
    }
    const mutate = Object.entries(functions).map(([name, act]) => {
      const mutator = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      byName.set(mutator, act);
      const call = guarded((args?: unknown) => {
        const step = callOf(mutator, args);
        calls.attempt({ id: "", writes: [...begun(), step], madeAt: 0 });
        return write(step);
      });
      return [name, call];
    });
    Object.defineProperty(sync, "mutate", { value: Object.fromEntries(mutate), enumerable: true });
  };
}

/** A call whose arguments are JSON, so that the function gets what the server gets. As in a row, undefined is left out. */
function callOf(mutator: string, args: unknown): MutatorCall {
  if (args === undefined) return { mutator };
  const isPlain = Object.getPrototypeOf(Object(args)) === Object.prototype;
  const given = isPlain ? Object.fromEntries(Object.entries(args as object).filter(([, value]) => value !== undefined)) : args;
  try {
    return { mutator, args: toJson(given, "args") };
  } catch (cause) {
    throw new SyncError("invalid", (cause as Error).message, "correct", { cause });
  }
}

/** What a function is given, until its end. */
function openTx(definitions: Definitions, state: CallState): { tx: { [name: string]: MutatorEntity<Row> }; end: () => void } {
  let isOpen = true;
  const open = () => {
    if (!isOpen) throw new SyncError("closed", "this mutator has ended");
    return state;
  };
  const ports: EntityPorts = {
    keyColumns: (entity) => open().keyColumns(entity),
    // No key is made up: at the next run it would be another.
    columnType: () => "",
    // A copy, because the row itself is what lists show.
    current: (entity, key) => structuredClone(open().row(entity, key)),
    view: () => {
      throw new SyncError("invalid", "a mutator reads with get");
    },
    write: (write) => open().write(write) as never,
  };
  const entities = Object.entries(definitions).map(([name, definition]) => [name, new Entity(name, definition as EntityDefinition<Row>, ports)]);
  return { tx: Object.fromEntries(entities), end: () => (isOpen = false) };
}
