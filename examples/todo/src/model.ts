/** The tables of the application, as rows, and the client for them. */

import { createSync, entity } from "@rhtmx/sync";
import { fields } from "@rhtmx/sync/fields";
import { hasLogin, tokenOf, userOf, type Person } from "./login.js";
import { recall } from "./memory.js";

export interface List {
  id: string;
  name: string;
  position: number;
  /** Whose it is; null for nobody's, which everybody has. Absent where there is no login. */
  owner?: string | null;
}

/** With whom a list is shared. Only where there is a login. */
export interface Member {
  list_id: string;
  person: string;
}

export interface Todo {
  id: string;
  list_id: string;
  title: string;
  done: boolean;
  /** Sorts the list. There is always room between two neighbours. */
  position: number;
  assignee: string | null;
  created_at?: string;
}

/** Who looks at which list, in rows like all others. */
export interface Viewer {
  id: string;
  name: string;
  list_id: string | null;
  /** The row that is being edited. */
  todo_id: string | null;
  seen_at: string;
}

/** A device with its own store, identity and connection. Todos merge by their fields: two edit one, and both edits stay. */
export function openDevice(person: Person) {
  const name = userOf(person);
  return createSync({
    name: `rhtmx-sync-todo:${name}`,
    ...(hasLogin && { token: () => tokenOf(person) }),
    connect: recall(`${name}:offline`) !== "true",
    entities: { lists: entity<List>(), list_members: entity<Member>({ key: ["list_id", "person"] }), todos: entity<Todo>(), viewers: entity<Viewer>() },
    fields: fields(["todos"]),
  });
}

export type Device = ReturnType<typeof openDevice>;

export function byPosition(a: { position: number }, b: { position: number }): number {
  return a.position - b.position;
}

/** A position before, after or between others. */
export function positionBetween(before: number | undefined, after: number | undefined): number {
  if (before === undefined) return after === undefined ? 0 : after - 1;
  return after === undefined ? before + 1 : (before + after) / 2;
}
