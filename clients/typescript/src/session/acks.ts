/**
 * Which acked mutations are not yet in every copy.
 *
 * The optimistic layer of a mutation is dropped per subscription, at the very frame that brings its
 * effects there: a subscription that is still joining when the ack comes gets them later than one
 * that is live.
 */

interface Acked {
  id: string;
  at: number;
}

export class Acks {
  #count = 0;
  #open: Acked[] = [];

  /** How many acks there have been. */
  get count(): number {
    return this.#count;
  }

  get isEmpty(): boolean {
    return this.#open.length === 0;
  }

  /** An ack whose effects the next `cursor` shows. */
  add(id: string): void {
    this.#open.push({ id, at: ++this.#count });
  }

  /** An answer repeated: whatever was asked for on this connection contains the effects. */
  addContained(id: string, welcomedAt: number): void {
    this.#open.push({ id, at: welcomedAt });
  }

  /** Those that a copy contains when it covers `to`, without those it had at `from`. */
  between(from: number, to: number): string[] {
    return this.#open.filter(({ at }) => at > from && at <= to).map(({ id }) => id);
  }

  /** Takes out those that every copy contains. */
  takeCoveredBy(everywhere: number): string[] {
    const covered = this.#open.filter(({ at }) => at <= everywhere);
    this.#open = this.#open.filter(({ at }) => at > everywhere);
    return covered.map(({ id }) => id);
  }
}
