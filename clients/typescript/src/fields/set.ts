/**
 * Sets: of an element that one adds and another removes at once, the adding wins. An element has the clock of its newest
 * adding, and the newest adding that a remover saw. It is in the set while the first is above the second.
 */

import type { Json } from "../protocol/json.js";
import { type Clock, clockAfter, GROUND, MILLIS_MAX, millisOf, nodeOf } from "./clock.js";
import { plainDigits, readDecimal } from "./decimal.js";
import { byteLength, compareTexts, later, latest } from "./texts.js";

/** How many elements of a set may bear the marks of an edit. */
const EDITED_ELEMENTS_MAX = 256;
/** The most bytes of an element's JSON text. */
const ELEMENT_BYTES_MAX = 1024;

export interface Element {
  /** Undefined is with the row. */
  readonly added: Clock | undefined;
  /** The adding that the newest remover saw, and when it removed. */
  readonly removed?: { readonly seen: Clock | undefined; readonly at: Clock } | undefined;
}

export interface ElementSet {
  readonly kind: "set";
  /** Whether it ever was an array, and not null. */
  readonly isArray: boolean;
  /** By their JSON texts. */
  readonly elements: ReadonlyMap<string, Element>;
}

export const NO_SET: ElementSet = { kind: "set", isArray: false, elements: new Map() };

/** The set that shows an array or null, with what is known of the elements that were edited; undefined for other values. */
export function setShown(value: Json, edited: readonly (readonly [string, Element])[]): ElementSet | undefined {
  const texts = readTexts(value);
  if (!texts) return undefined;
  const elements = new Map<string, Element>(texts.map((text) => [text, { added: undefined }]));
  for (const [text, element] of edited) elements.set(text, shown(element, elements.has(text)));
  return { kind: "set", isArray: value !== null || edited.length > 0, elements };
}

/**
 * The element as the table shows it: a program that knows no marks has added it, or removed it, after all that they say.
 */
function shown(element: Element, isShown: boolean): Element {
  const newest = latest([element.added, element.removed?.at]) ?? GROUND;
  if (isPresent(element) === isShown || millisOf(newest) === MILLIS_MAX) return element;
  const at = clockAfter(newest, 0, nodeOf(newest));
  return isShown ? { ...element, added: at } : { added: element.added, removed: { seen: element.added, at } };
}

/** Adds elements and removes others, as far as they are there. Undefined when one is no element, or too many are edited. */
export function editSet(set: ElementSet, add: Json, remove: Json, clock: Clock): ElementSet | undefined {
  const [adding, removing] = [readTexts(add), readTexts(remove)];
  return adding && removing && change(set, adding, removing, clock);
}

/** Adds and removes what makes it these elements. */
export function assignSet(set: ElementSet, value: Json, clock: Clock): ElementSet | undefined {
  const texts = readTexts(value);
  const present = presentTexts(set);
  return texts && change(set, texts.filter((text) => !present.includes(text)), present.filter((text) => !texts.includes(text)), clock);
}

function change(set: ElementSet, add: string[], remove: string[], clock: Clock): ElementSet | undefined {
  const elements = new Map(set.elements);
  for (const text of remove) {
    const element = elements.get(text);
    if (!element || !isPresent(element)) continue;
    elements.set(text, joinElements(element, { added: undefined, removed: { seen: element.added, at: clock } }));
  }
  for (const text of add) elements.set(text, joinElements(elements.get(text), { added: clock }));
  const edited: ElementSet = { kind: "set", isArray: true, elements };
  return marks(edited).length > EDITED_ELEMENTS_MAX ? undefined : edited;
}

export function joinSets(one: ElementSet, two: ElementSet): ElementSet {
  const elements = new Map(one.elements);
  for (const [text, theirs] of two.elements) elements.set(text, joinElements(elements.get(text), theirs));
  return { kind: "set", isArray: one.isArray || two.isArray, elements };
}

/** Every part is a maximum of its own. */
function joinElements(one: Element | undefined, two: Element): Element {
  if (!one) return two;
  const [ours, theirs] = [one.removed, two.removed];
  const removed = ours && theirs ? { seen: later(ours.seen, theirs.seen), at: later(ours.at, theirs.at)! } : (ours ?? theirs);
  return { added: later(one.added, two.added), removed };
}

function isPresent({ added, removed }: Element): boolean {
  return !removed || compareTexts(added, removed.seen) > 0;
}

function presentTexts({ elements }: ElementSet): string[] {
  return [...elements].filter(([, element]) => isPresent(element)).map(([text]) => text);
}

/** The elements that are in it, in the order of their JSON texts; null if it never was an array. */
export function setValue(set: ElementSet): Json {
  return set.isArray ? presentTexts(set).sort(compareTexts).map((text) => JSON.parse(text) as Json) : null;
}

/** What is not to be seen from the value: the elements that were edited. */
export function marks({ elements }: ElementSet): [string, Element][] {
  return [...elements].filter(([, { added, removed }]) => added || removed);
}

/** The newest clock of an edit. */
export function newestInSet({ elements }: ElementSet): Clock | undefined {
  return latest([...elements.values()].flatMap(({ added, removed }) => [added, removed?.at]));
}

/** The JSON texts of an array's elements: texts, numbers and booleans. */
function readTexts(value: Json): string[] | undefined {
  const texts = Array.isArray(value) ? value.map(textOf) : value === null ? [] : [undefined];
  return texts.every((text) => text !== undefined && byteLength(text) <= ELEMENT_BYTES_MAX) ? (texts as string[]) : undefined;
}

/** One text for all spellings of a number. */
function textOf(element: Json): string | undefined {
  if (typeof element === "object") return undefined;
  return typeof element === "number" ? plainDigits(readDecimal(element)!) : JSON.stringify(element);
}
