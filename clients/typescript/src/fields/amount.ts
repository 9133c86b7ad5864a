/** What counters add up: decimal numbers with nine digits behind the point, in billionths, added without rounding. */

import type { Json } from "../protocol/json.js";
import { plainDigits, readDecimal } from "./decimal.js";

/** Below it is every amount that is read, or stands in a sum. */
const LIMIT = 10n ** 36n;
const BILLION = 1_000_000_000n;
const EXACT_MAX = 2n ** 53n;

/**
 * Reads a number, or the text of one that a double cannot hold. Undefined for what no counter adds. The number of a counter
 * to which databases have added has more digits.
 */
export function readAmount(value: unknown, digitsMax = 27): bigint | undefined {
  const { sign, point, digits } = readDecimal(value) ?? { sign: NaN, point: 0, digits: "" };
  const zeros = 9 + point - digits.length;
  // Before it is made a number: an exponent would make it long.
  if (!(Math.abs(sign) <= 1) || point > digitsMax || zeros < 0) return undefined;
  return BigInt(digits + "0".repeat(zeros)) * BigInt(sign);
}

/** Whether a sum is not too large. */
export function isAmount(sum: bigint): boolean {
  return -LIMIT < sum && sum < LIMIT;
}

/** As JSON: a number, or a text where a double would lose digits. */
export function amountToJson(amount: bigint): Json {
  const size = amount < 0n ? -amount : amount;
  const fraction = `${size % BILLION}`.padStart(9, "0").replace(/0+$/, "");
  const text = `${amount < 0n ? "-" : ""}${size / BILLION}${fraction && `.${fraction}`}`;
  const number = Number(text);
  if (fraction === "" && BigInt.asIntN(64, BigInt(text)) === BigInt(text)) return size / BILLION <= EXACT_MAX ? number : text;
  return plainDigits(readDecimal(number)!) === text ? number : text;
}
