/** The order of texts by their UTF-8 bytes, which is the server's; JavaScript's own is that of UTF-16 units. */

/** Negative, zero or positive. A text that is not there is below all. */
export function compareTexts(one: string | undefined, two: string | undefined): number {
  if (one === two) return 0;
  if (one === undefined || two === undefined) return one === undefined ? -1 : 1;
  const length = Math.min(one.length, two.length);
  for (let at = 0; at < length; at++) {
    const [a, b] = [one.charCodeAt(at), two.charCodeAt(at)];
    if (a !== b) return place(a) - place(b);
  }
  return one.length - two.length;
}

/** Surrogates stand for characters that are above those of one unit. */
function place(unit: number): number {
  return unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}

/** The greater of two texts. */
export function later<T extends string>(one: T | undefined, two: T | undefined): T | undefined {
  return compareTexts(one, two) < 0 ? two : one;
}

/** The greatest of texts. */
export function latest<T extends string>(texts: readonly (T | undefined)[]): T | undefined {
  return texts.reduce(later<T>, undefined);
}

/** The members of an object, in the order of their names. */
export function sortedEntries<T>(members: { readonly [name: string]: T }): [string, T][] {
  return Object.entries(members).sort(([one], [two]) => compareTexts(one, two));
}

export function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}
