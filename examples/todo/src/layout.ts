/** Where the items of a list are. All have the same height, and those with a conflict the room for it besides. */

export const ITEM_HEIGHT_PX = 44;
/** As in the style sheet. */
export const CONFLICT_HEIGHT_PX = 72;

export class Layout {
  readonly #count: number;
  /** The indices of the items with a conflict, the least first. */
  readonly #contested: readonly number[];

  constructor(count: number, contested: readonly number[]) {
    this.#count = count;
    this.#contested = contested;
  }

  get height(): number {
    return this.top(this.#count);
  }

  /** The distance of an item from the first one's top. */
  top(index: number): number {
    const above = this.#contested.findIndex((contested) => contested >= index);
    return index * ITEM_HEIGHT_PX + (above < 0 ? this.#contested.length : above) * CONFLICT_HEIGHT_PX;
  }

  /** The index of the item at a distance from the first one's top. */
  at(y: number): number {
    let above = 0;
    for (const index of this.#contested) {
      const top = index * ITEM_HEIGHT_PX + above * CONFLICT_HEIGHT_PX;
      if (y < top + ITEM_HEIGHT_PX + CONFLICT_HEIGHT_PX) {
        return Math.min(index, Math.floor((y - above * CONFLICT_HEIGHT_PX) / ITEM_HEIGHT_PX));
      }
      above += 1;
    }
    return Math.floor((y - above * CONFLICT_HEIGHT_PX) / ITEM_HEIGHT_PX);
  }
}
