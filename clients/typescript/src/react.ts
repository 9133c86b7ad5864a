/** Hooks for live lists, rows and the status. Nothing is opened before a component is mounted. */

import { useCallback, useMemo, useSyncExternalStore } from "react";
import type { Entity, LiveOptions } from "./entity.js";
import type { Conflicts, FieldConflict } from "./fields.js";
import { canonicalKey, type KeyInput } from "./key.js";
import { selectionOf } from "./replica/selection.js";
import type { View, ViewSnapshot } from "./replica/view.js";
import type { Status } from "./status.js";
import type { Sync } from "./sync.js";

const LOADING: ViewSnapshot<never> = { rows: [], state: "loading", error: undefined, pending: new Set(), invalid: [], hasMore: false };

/** What a page shows that was rendered on a server, until it has mounted: both must render the same. */
const UNKNOWN: Status = {
  state: "connecting", error: undefined, pending: 0, unsaved: 0, rejected: 0, lastSynced: undefined, storage: "indexeddb",
  leader: false, transport: undefined, features: [],
};

interface Shared {
  view: View<object>;
  users: number;
}

/** Components that show the same list share one view. */
const views = new WeakMap<object, Map<string, Shared>>();

function sharedOf(entity: object): Map<string, Shared> {
  let shared = views.get(entity);
  if (!shared) views.set(entity, (shared = new Map()));
  return shared;
}

function useView<R extends object>(entity: Entity<R>, name: string, open: () => View<R>): ViewSnapshot<R> {
  const subscribe = useCallback(
    (changed: () => void) => {
      const shared = sharedOf(entity);
      let mine = shared.get(name);
      if (!mine) shared.set(name, (mine = { view: open() as unknown as View<object>, users: 0 }));
      mine.users += 1;
      const end = mine.view.subscribe(changed);
      return () => {
        end();
        if (--mine.users > 0) return;
        shared.delete(name);
        mine.view.close();
      };
    },
    // Each render makes another `open`, which does the same while the name is the same.
    [entity, name],
  );
  const snapshot = () => (sharedOf(entity).get(name)?.view.snapshot ?? LOADING) as ViewSnapshot<R>;
  return useSyncExternalStore(subscribe, snapshot, () => LOADING);
}

/**
 * A live list. `options` may be another object in each render; `order` should be a stable function.
 *
 *     const { rows, state } = useLive(sync.todos, { where: "done = false" });
 */
export function useLive<R extends object>(entity: Entity<R>, options: LiveOptions<R> = {}): ViewSnapshot<R> {
  const { order, ...selection } = options;
  const snapshot = useView(entity, selectionOf(entity.name, selection).name, () => entity.live(selection) as View<R>);
  return useMemo(() => (order ? { ...snapshot, rows: snapshot.rows.toSorted(order) } : snapshot), [snapshot, order]);
}

/** One row, live; undefined while it loads or when it does not exist: `useRow(sync.todos, id)`. */
export function useRow<R extends object>(entity: Entity<R>, key: KeyInput): R | undefined {
  return useView(entity, `row:${canonicalKey(key)}`, () => entity.row(key)).rows[0];
}

/** Values that lost, of an entity whose rows merge by their fields: `useConflicts(sync.todos)`. */
export function useConflicts({ conflicts }: { readonly conflicts: Conflicts }): readonly FieldConflict[] {
  const subscribe = useCallback((changed: () => void) => conflicts.subscribe(changed), [conflicts]);
  return useSyncExternalStore(subscribe, () => conflicts.rows, () => LOADING.rows);
}

/** The client's status: `const { state, pending } = useStatus(sync)`. */
export function useStatus(sync: Sync): Status {
  const subscribe = useCallback((changed: () => void) => sync.on("status", changed), [sync]);
  return useSyncExternalStore(subscribe, () => sync.status, () => UNKNOWN);
}
