/**
 * Sends the queue: numbers mutations, sends them in order, and matches answers.
 *
 * A mutation gets its number just before it is first sent, and the number is stored before that. So a
 * mutation that is sent again has the same number, and no number ever stands for two.
 */

import type { Mutation, Numbering, Rejection } from "../replica/mutation.js";
import { LAST_MUTATION_UNKNOWN, type PushFrame, type RejectFrame, type WelcomeFrame } from "../protocol/frames.js";
import { REJECT_CODES, type Limits, type RejectCode } from "../protocol/generated.js";

/** How many mutations may wait for answers; the server does not read further either. */
const WINDOW = 32;
/** A push without its writes, at most: also in a POST, where the client's id is part of it. */
const ENVELOPE_BYTES = 256;

export interface OutboxPorts {
  /** Every mutation without an answer, oldest first. */
  queue(): readonly Mutation[];
  send(push: PushFrame): void;
  /** Stores numbers. */
  number(assigned: readonly Numbering[]): Promise<void>;
  /** The highest number that was ever assigned. */
  lastNumber(): number;
  rejected(rejection: Rejection): void;
  /** Whether rows are on their way that an ack would have to come after. */
  mustWait(): boolean;
}

export class Outbox {
  readonly #ports: OutboxPorts;
  #connection = 0;
  #open = false;
  #numbering = false;
  #lastMutation = 0;
  /** The highest number that the server is known to have seen. */
  #highest = 0;
  #limits: Limits = { frame_bytes_max: Infinity, subscriptions_max: Infinity, writes_max: Infinity };
  /** The mutations that were sent on this connection and not answered. */
  #waiting = new Map<number, Mutation>();
  /** Answered mutations that stay in the queue until the rows of every query contain them. */
  #answered = new Set<string>();
  /** Mutations that were checked against the limits of this connection. */
  #checked = new Set<string>();
  /** How many mutations may be the one that the server did not understand; they are sent one by one. */
  #suspects = 0;

  constructor(ports: OutboxPorts) {
    this.#ports = ports;
  }

  welcome(welcome: WelcomeFrame): void {
    this.#connection += 1;
    this.#open = true;
    this.#numbering = false;
    this.#lastMutation = welcome.last_mutation;
    this.#highest = welcome.last_mutation === LAST_MUTATION_UNKNOWN ? this.#ports.lastNumber() : welcome.last_mutation;
    this.#limits = welcome.limits;
    this.#checked.clear();
    this.pump();
  }

  lost(): void {
    this.#connection += 1;
    this.#open = false;
    this.#waiting.clear();
  }

  /** Sends what can be sent. To be called whenever that may have changed. */
  pump(): void {
    if (!this.#open || this.#numbering || this.#ports.mustWait()) return;
    this.#rejectUnsendable();
    const unanswered = this.#unanswered();
    const assigned = this.#misnumbered(unanswered);
    if (assigned.length === 0) return this.#send(unanswered);
    const connection = this.#connection;
    this.#numbering = true;
    this.#ports.number(assigned).then(
      () => {
        if (connection !== this.#connection) return;
        this.#numbering = false;
        this.pump();
      },
      // Numbers that cannot be stored cannot be used: the next connection tries again.
      () => {
        if (connection === this.#connection) this.#numbering = false;
      },
    );
  }

  /** Takes an ack; returns its mutation. */
  acked(number: number): Mutation | undefined {
    const mutation = this.#take(number);
    this.pump();
    return mutation;
  }

  /** Takes a reject; undefined when it belongs to no mutation here, or is not final. */
  rejected(frame: RejectFrame): Rejection | undefined {
    if (frame.code === "out_of_order") return undefined;
    const mutation = this.#take(frame.mutation);
    this.pump();
    return mutation && rejection(mutation, frame);
  }

  /**
   * Takes an error that answers a push without being its reject: the server did not understand the frame, or
   * it was too large, so the number is still free. Sent again it would fail again, so it becomes a dead
   * letter.
   *
   * @returns `none`: no push can be meant; `found`: it was this one, or the one with `number`; `unsure`: it is
   *   one of several, which are sent one by one on the next connection.
   */
  blame(code: string, message: string, number?: number): "none" | "found" | "unsure" {
    const mutation = number === undefined && this.#waiting.size === 1 ? [...this.#waiting.values()][0] : this.#waiting.get(number ?? -1);
    if (!mutation) {
      this.#suspects = Math.max(this.#suspects, this.#waiting.size);
      return this.#waiting.size ? "unsure" : "none";
    }
    this.#take(mutation.number ?? 0);
    this.#suspects = 0;
    // Later numbers that are under way will be `out_of_order`, and the next `welcome` sorts them out.
    if (this.#waiting.size === 0) this.#highest = (mutation.number ?? 1) - 1;
    const known = (REJECT_CODES as readonly string[]).includes(code);
    this.#ports.rejected(rejection(mutation, { code: known ? (code as RejectCode) : "invalid", message }));
    this.pump();
    return "found";
  }

  #take(number: number): Mutation | undefined {
    const mutation = this.#waiting.get(number);
    this.#waiting.delete(number);
    if (!mutation) return undefined;
    this.#answered.add(mutation.id);
    this.#suspects = Math.max(0, this.#suspects - 1);
    return mutation;
  }

  #unanswered(): Mutation[] {
    const queue = this.#ports.queue();
    for (const id of this.#answered) {
      if (!queue.some((mutation) => mutation.id === id)) this.#answered.delete(id);
    }
    const unanswered = queue.filter(({ id }) => !this.#answered.has(id));
    // Numbered mutations come first, in whatever order other tabs' writes arrived.
    return unanswered.sort((a, b) => (a.number ?? Infinity) - (b.number ?? Infinity) || 0);
  }

  /**
   * The mutations that need a number, or another one: a server that does not know the numbers below
   * one of these is another database or an older copy of it, and continues from its own count.
   */
  #misnumbered(unanswered: readonly Mutation[]): Numbering[] {
    const known = this.#lastMutation !== LAST_MUTATION_UNKNOWN;
    let last = this.#highest;
    const assigned: Numbering[] = [];
    for (const { id, number } of unanswered) {
      const settled = number !== undefined && (number <= this.#lastMutation || !known || this.#waiting.has(number));
      if (settled) continue;
      last += 1;
      if (number !== last) assigned.push({ id, number: last });
    }
    return assigned;
  }

  #send(unanswered: readonly Mutation[]): void {
    for (const mutation of unanswered) {
      if (this.#waiting.size >= (this.#suspects ? 1 : WINDOW)) return;
      const { number, writes } = mutation;
      if (number === undefined || this.#waiting.has(number)) continue;
      this.#waiting.set(number, mutation);
      this.#highest = Math.max(this.#highest, number);
      this.#ports.send({ type: "push", mutation: number, writes });
    }
  }

  /** Rejects here what cannot be sent, or would end the connection, so that it holds up nothing. */
  #rejectUnsendable(): void {
    for (const mutation of this.#unanswered()) {
      const { id, number } = mutation;
      if (this.#checked.has(id) || (number !== undefined && this.#waiting.has(number))) continue;
      this.#checked.add(id);
      const fault = this.#fault(mutation);
      if (!fault) continue;
      this.#answered.add(id);
      this.#ports.rejected(rejection(mutation, fault));
    }
  }

  /** Why a mutation cannot be sent. */
  #fault({ writes, number, fault }: Mutation): { code: RejectCode; message: string } | undefined {
    if (fault !== undefined) return { code: "invalid", message: fault };
    const { writes_max: writesMax, frame_bytes_max: bytesMax } = this.#limits;
    let bytes: number;
    try {
      bytes = new TextEncoder().encode(JSON.stringify(writes)).length + ENVELOPE_BYTES;
    } catch (cause) {
      return { code: "invalid", message: `this cannot be sent: ${String(cause)}` };
    }
    if (writes.length <= writesMax && bytes <= bytesMax) return undefined;
    const before = number !== undefined && number <= this.#lastMutation ? "; the server has decided on it, with an answer that did not arrive" : "";
    return { code: "too_large", message: `at most ${writesMax} writes and ${bytesMax} bytes in one mutation${before}` };
  }
}

function rejection(
  { id, writes, madeAt }: Mutation,
  { code, message, write, column }: { code: RejectCode; message: string; write?: number; column?: string },
): Rejection {
  const rejected: Rejection = { id, writes, madeAt, code, message };
  if (write !== undefined) rejected.write = write;
  if (column !== undefined) rejected.column = column;
  return rejected;
}
