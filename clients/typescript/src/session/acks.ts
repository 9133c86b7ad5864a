/**
 * Tracks the acked mutations that the rows of some query do not contain yet.
 *
 * A mutation's optimistic effects are dropped per subscription, at the very frame that brings the real
 * ones: a subscription that is still joining when the ack comes gets them later than a live one.
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

  /** Adds an ack whose effects the next `cursor` shows. */
  add(id: string): void {
    this.#open.push({ id, at: ++this.#count });
  }

  /** Adds a repeated answer: whatever was requested on this connection contains its effects. */
  addContained(id: string, welcomedAt: number): void {
    this.#open.push({ id, at: welcomedAt });
  }

  /** The mutations that rows covering `to` contain, without those at `from`. */
  between(from: number, to: number): string[] {
    return this.#open.filter(({ at }) => at > from && at <= to).map(({ id }) => id);
  }

  /** Removes the mutations that the rows of every query contain. */
  takeCoveredBy(everywhere: number): string[] {
    const covered = this.#open.filter(({ at }) => at <= everywhere);
    this.#open = this.#open.filter(({ at }) => at > everywhere);
    return covered.map(({ id }) => id);
  }
}
