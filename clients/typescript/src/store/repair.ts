/** Makes what an earlier version of this client has stored fit to be shown and sent, or says why it is not. */

import type { Step, Write } from "../protocol/generated.js";
import type { Json, Row } from "../protocol/json.js";
import { toJson } from "../protocol/to_json.js";
import type { Mutation } from "../replica/mutation.js";
import type { Stored } from "./store.js";

/** Everything that a store holds, fit to be shown. */
export function readable(stored: Stored): Stored {
  return { ...stored, queue: stored.queue.filter(({ id }) => typeof id === "string").map(repaired) };
}

/** The mutation as JSON; with a `fault` when it holds what cannot be sent, so that it becomes a dead letter. */
function repaired(mutation: Mutation): Mutation {
  let fault: string | undefined;
  const legible = (value: unknown, place: string): Json => {
    try {
      return toJson(value, place);
    } catch (cause) {
      fault ??= (cause as Error).message;
      return Object.prototype.toString.call(value);
    }
  };
  const writes = [mutation.writes ?? []].flat().map((write): Step => {
    // A call has neither a key nor values.
    const { entity, key, values, mutator } = Object(write) as Write & { mutator?: string };
    if (typeof (entity ?? mutator) !== "string") fault ??= "a write names no entity";
    const written = Object.entries(Object(values) as Row).filter(([, value]) => value !== undefined);
    // Its members stay in their order, in which the chain has them.
    return {
      ...write,
      ...(key !== undefined && { key: legible(key, "key") }),
      ...(values && { values: Object.fromEntries(written.map(([column, value]) => [column, legible(value, column)])) }),
    };
  });
  if (writes.length === 0) fault ??= "its writes are missing";
  return { ...mutation, writes, ...(fault !== undefined && { fault }) };
}
