/**
 * Sends the queue: numbers mutations, sends them in order, and matches answers.
 *
 * A mutation gets its number just before it is first sent, and the number is stored before that. So a
 * mutation that is sent again has the same number, and no number ever stands for two.
 */

import type { Mutation, Numbering, Rejection } from "../replica/mutation.js";
import { LAST_MUTATION_UNKNOWN, type PushFrame, type RejectFrame, type WelcomeFrame } from "../protocol/frames.js";
import type { Limits, RejectCode } from "../protocol/generated.js";

/** How many mutations may wait for answers; the server does not read further either. */
const WINDOW = 32;

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
    this.#rejectTooLarge();
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

  #take(number: number): Mutation | undefined {
    const mutation = this.#waiting.get(number);
    this.#waiting.delete(number);
    if (mutation) this.#answered.add(mutation.id);
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
      if (this.#waiting.size >= WINDOW) return;
      const { number, writes } = mutation;
      if (number === undefined || this.#waiting.has(number)) continue;
      this.#waiting.set(number, mutation);
      this.#highest = Math.max(this.#highest, number);
      this.#ports.send({ type: "push", mutation: number, writes });
    }
  }

  /** Rejects here what the server would close the connection for, so that it holds up nothing. */
  #rejectTooLarge(): void {
    for (const mutation of this.#unanswered()) {
      if (mutation.number !== undefined) continue;
      const bytes = new TextEncoder().encode(JSON.stringify(mutation.writes)).length + 64;
      const { writes_max: writesMax, frame_bytes_max: bytesMax } = this.#limits;
      if (mutation.writes.length <= writesMax && bytes <= bytesMax) continue;
      const message = `at most ${writesMax} writes and ${bytesMax} bytes in one mutation`;
      this.#answered.add(mutation.id);
      this.#ports.rejected(rejection(mutation, { code: "too_large", message }));
    }
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
