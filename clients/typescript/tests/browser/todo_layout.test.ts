/** Where the example application puts its items. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { CONFLICT_HEIGHT_PX, ITEM_HEIGHT_PX, Layout } from "../../../../examples/todo/src/layout.js";

test("items follow each other without gaps, those with a conflict with room for it, and each place is one item's", () => {
  const items = fc.array(fc.boolean(), { minLength: 1, maxLength: 40 });
  fc.assert(fc.property(items, fc.nat(99), (areContested, percent) => {
    const layout = new Layout(areContested.length, areContested.flatMap((isContested, index) => (isContested ? [index] : [])));
    let top = 0;
    areContested.forEach((isContested, index) => {
      const height = ITEM_HEIGHT_PX + (isContested ? CONFLICT_HEIGHT_PX : 0);
      expect(layout.top(index)).toBe(top);
      expect(layout.at(top + (percent * height) / 100)).toBe(index);
      top += height;
    });
    expect(layout.height).toBe(top);
  }));
});
