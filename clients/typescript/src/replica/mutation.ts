/** The user's writes on their way to the server, and those that came back. */

import type { RejectCode, Write } from "../protocol/generated.js";

/** Writes that the user made together: applied together or not at all. */
export interface Mutation {
  /** Its name on this device, known at once. */
  id: string;
  writes: Write[];
  /** For people to read; nothing is decided by it. */
  madeAt: number;
  /**
   * Its number for the server. Given just before it is sent for the first time, because only then
   * is it known which one comes next; kept for good, so that it is never applied twice.
   */
  number?: number;
}

/** The number that a mutation is given. */
export interface Numbering {
  /** The id of the mutation. */
  id: string;
  number: number;
}

/** A mutation that the server refused: a dead letter, kept until somebody has dealt with it. */
export interface Rejection {
  /** The id of the mutation. */
  id: string;
  writes: Write[];
  madeAt: number;
  code: RejectCode;
  message: string;
  /** Which of the writes, from 0. */
  write?: number;
  column?: string;
}
