/** `@rhtmx/sync`: an offline-first client for rhtmx-sync. */

export { createSync, type CreateSyncOptions, type SyncClient } from "./create.js";
export { entity, type EntityDefinition, type EntityOptions, type LiveOptions, type PendingWrite, type StandardSchema, type WriteResult } from "./entity.js";
export type { Entity } from "./entity.js";
export { FrameError, InvalidWriteError, StorageError, SyncError, type Issue, type Remedy } from "./errors.js";
export type { Mutate, MutatorEntity, MutatorFunction, MutatorFunctions, MutatorTx } from "./mutators.js";
export type { ClientFrame, MutatorCall, ServerFrame, Step, Write } from "./protocol/generated.js";
export type { Json, Row, RowKey } from "./protocol/json.js";
export type { Mutation, Rejection } from "./replica/mutation.js";
export type { SelectionOptions } from "./replica/selection.js";
export type { InvalidRow, View, ViewSnapshot, ViewState } from "./replica/view.js";
export type { Status, SyncState } from "./status.js";
export { IndexedDbStore } from "./store/indexeddb.js";
export { MemoryStore } from "./store/memory.js";
export type { Store } from "./store/store.js";
export type { Sync, SyncEvents } from "./sync.js";
