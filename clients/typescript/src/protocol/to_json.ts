/**
 * Makes JSON of the values that an application writes, so that whatever is queued can be stored, shared
 * among tabs and sent. What JSON cannot hold is refused, never changed into something else:
 *
 * - a `Date` and any object with a `toJSON` become what that returns, as in `JSON.stringify`;
 * - a `bigint` becomes a number, or its digits as text where a number would lose some, as the server
 *   sends them;
 * - proxies of plain objects and arrays (Vue, Svelte, Immer) are copied like what they stand for.
 */

import type { Json } from "./json.js";

/** Deeper values are refused, and with them those that contain themselves. */
const DEPTH_MAX = 100;
const EXACT_MAX = 2 ** 53;

/** @throws {TypeError} that names the place of what JSON cannot hold. */
export function toJson(value: unknown, place = "the value", depth = 0): Json {
  const refuse = (what: string): never => {
    throw new TypeError(`${place} is ${what}, which JSON cannot hold`);
  };
  switch (typeof value) {
    case "boolean":
      return value;
    case "string":
      // With the flag `u` only a half without its other half is a surrogate.
      return /\p{Surrogate}/u.test(value) ? refuse("half a letter") : value;
    case "number":
      return Number.isFinite(value) ? value : refuse(`${value}`);
    case "bigint":
      // Up to 2^53 every whole number is a double too.
      return value >= -EXACT_MAX && value <= EXACT_MAX ? Number(value) : `${value}`;
    case "object":
      break;
    default:
      return refuse(typeof value);
  }
  if (value === null) return null;
  if (depth >= DEPTH_MAX) return refuse("nested too deep");
  if (Array.isArray(value)) return Array.from(value, (item, index) => toJson(item, `${place}[${index}]`, depth + 1));
  const prototype = Object.getPrototypeOf(value) as object | null;
  const kind = prototype?.constructor?.name || "object";
  const { toJSON } = value as { toJSON?: unknown };
  if (typeof toJSON === "function") {
    const said: unknown = toJSON.call(value, "");
    // What libraries for dates and `Date` itself say of a date that is none.
    return said === null ? refuse(`an invalid ${kind}`) : toJson(said, place, depth + 1);
  }
  // Plain objects only, also those of another frame: the fields of others are not all that they are.
  if (prototype && Object.getPrototypeOf(prototype)) return refuse(`of class ${kind}`);
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, toJson(item, `${place}.${name}`, depth + 1)]));
}
