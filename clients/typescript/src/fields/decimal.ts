/** Decimal numbers of any length, compared digit by digit, so that nothing is rounded. */

/** `0.digits × 10^point` with a sign: of a finite number -1, 0 or 1, of `-Infinity` -2, of `Infinity` 2, of `NaN` 3. */
export interface Decimal {
  readonly sign: number;
  readonly point: number;
  /** The first and the last of them not zero, so that equal numbers have one form; none for zero. */
  readonly digits: string;
}

const FORM = /^([+-]?)(\d*)\.?(\d*)(?:e([+-]?\d+))?$/i;
const NAMES: { readonly [name: string]: number } = { "-Infinity": -2, Infinity: 2, NaN: 3 };
/** The largest exponent that is read; PostgreSQL's own numbers end far below it. */
const EXPONENT_MAX = 1_000_000;

/** Reads a number, or the text of one as PostgreSQL, JSON and JavaScript write it; undefined for any other value. */
export function readDecimal(value: unknown): Decimal | undefined {
  if (typeof value !== "number" && typeof value !== "string") return undefined;
  const text = `${value}`;
  if (Object.hasOwn(NAMES, text)) return { sign: NAMES[text]!, point: 0, digits: "" };
  const [, sign, whole = "", fraction = "", exponent = "0"] = FORM.exec(text) ?? [];
  const all = whole + fraction;
  if (all === "" || Math.abs(Number(exponent)) > EXPONENT_MAX) return undefined;
  const digits = all.replace(/^0+/, "");
  if (digits === "") return { sign: 0, point: 0, digits };
  const point = whole.length - (all.length - digits.length) + Number(exponent);
  return { sign: sign === "-" ? -1 : 1, point, digits: digits.replace(/0+$/, "") };
}

/** Negative, zero or positive. What is no number is below all. */
export function compareDecimals(one: Decimal | undefined, two: Decimal | undefined): number {
  if (!one || !two) return Number(!!one) - Number(!!two);
  const sizes = one.point - two.point || (one.digits < two.digits ? -1 : Number(one.digits > two.digits));
  return one.sign - two.sign || one.sign * sizes;
}

/** A finite number in plain digits, without an exponent, so with as many of them as that says. */
export function plainDigits({ sign, point, digits }: Decimal): string {
  const whole = digits.slice(0, Math.max(point, 0)).padEnd(point, "0");
  const fraction = "0".repeat(Math.max(-point, 0)) + digits.slice(Math.max(point, 0));
  return `${sign < 0 ? "-" : ""}${whole || "0"}${fraction && `.${fraction}`}`;
}
