/**
 * The chain of a client's mutations: what stands for all of them up to one, in their order and with their
 * writes. Two stores that use one client id, or a store that was rolled back, give themselves away by it.
 */

import type { Step } from "../protocol/generated.js";
import { sha256 } from "./sha256.js";

const CHAIN_BYTES = 16;
/** The chain before the first mutation. */
export const CHAIN_START = "00".repeat(CHAIN_BYTES);

/** Digests of writes, which do not change. */
const digests = new WeakMap<readonly Step[], Uint8Array>();

/** The chain after a mutation. Its writes are sent as the text that `JSON.stringify` makes of them. */
export function chainAfter(chain: string, writes: readonly Step[]): string {
  let digest = digests.get(writes);
  if (!digest) digests.set(writes, (digest = sha256(new TextEncoder().encode(JSON.stringify(writes)))));
  const before = Uint8Array.from(chain.match(/../g) ?? [], (digits) => parseInt(digits, 16));
  const after = sha256(Uint8Array.of(...before, ...digest)).slice(0, CHAIN_BYTES);
  return Array.from(after, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
