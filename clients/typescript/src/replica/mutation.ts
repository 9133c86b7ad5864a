/** The user's writes and calls on their way to the server, and those that it rejected. */

import type { MutatorCall, RejectCode, Step } from "../protocol/generated.js";

/** Writes, and calls of mutators, that are applied together or not at all. */
export interface Mutation {
  /** A uuid, known at once. */
  id: string;
  writes: Step[];
  /** For display; nothing is decided by it. */
  madeAt: number;
  /**
   * Its number for the server, assigned just before it is first sent, because only then is the next
   * number known, and kept for good, so that it is never applied twice.
   */
  number?: number;
  /** The chain up to it, assigned with the number. */
  chain?: string;
  /** Why it can never be sent, where an earlier version of this client has stored such a thing. */
  fault?: string;
}

export function isCall(step: Step): step is MutatorCall {
  return "mutator" in step;
}

/** A number, and the chain up to it; without a chain where it was assigned before there were chains. */
export interface ChainLink {
  number: number;
  chain?: string;
}

/** The number and the chain that a mutation is assigned. */
export interface Numbering extends ChainLink {
  /** The id of the mutation. */
  id: string;
  /** The writes, where they are others for the client's id. */
  writes?: Step[];
}

/** A mutation that the server rejected: a dead letter, kept until it is dismissed or tried again. */
export interface Rejection {
  /** The id of the mutation. */
  id: string;
  writes: Step[];
  madeAt: number;
  code: RejectCode;
  message: string;
  /** Of a refusal: the code of the function that refused it. */
  reason?: string;
  /** The write at fault, from 0. */
  write?: number;
  column?: string;
}
