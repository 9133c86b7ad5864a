/** Days and times as PostgreSQL writes them in JSON, and as clients write them: ISO 8601. */

const DAY = String.raw`(\d{4}|[1-9]\d{4,6})-(\d\d)-(\d\d)`;
const DAY_FORM = new RegExp(`^${DAY}( BC)?$`);
const TIME_FORM = new RegExp(String.raw`^${DAY}[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(?:Z|([+-])(\d\d)(?::(\d\d))?)?( BC)?$`);
/** From 1970-01-01, where JavaScript begins to count, to 2000-01-01, where PostgreSQL does. */
const DAYS_TO_2000 = 10_957;
const DAY_MICROS = 86_400_000_000n;

/** Days from 2000-01-01; undefined for a text that names none. */
export function readDay(text: unknown): number | undefined {
  const infinite = infinity(text, 32);
  if (infinite !== undefined) return Number(infinite);
  const [, year, month, day, era] = match(DAY_FORM, text);
  const days = daysOf(year, month, day, era);
  return days === undefined || (days | 0) !== days ? undefined : days;
}

/** Microseconds from the beginning of 2000-01-01, in UTC where there is a zone; undefined for a text that names no time. */
export function readMoment(text: unknown): bigint | undefined {
  const infinite = infinity(text, 64);
  if (infinite !== undefined) return infinite;
  const [, year, month, day, hours, minutes, seconds = "0", fraction = "", sign, offset = "0", rest = "0", era] = match(TIME_FORM, text);
  const days = daysOf(year, month, day, era);
  const fits = Number(hours) < 24 && Number(minutes) < 60 && Number(seconds) < 60 && Number(offset) < 16 && Number(rest) < 60;
  // None is finer than a microsecond.
  if (days === undefined || !fits || /[1-9]/.test(fraction.slice(6))) return undefined;
  const zone = (Number(offset) * 60 + Number(rest)) * (sign === "-" ? 1 : -1);
  const clock = (Number(hours) * 60 + Number(minutes) + zone) * 60 + Number(seconds);
  const micros = BigInt(days) * DAY_MICROS + BigInt(clock) * 1_000_000n + BigInt(fraction.slice(0, 6).padEnd(6, "0"));
  return BigInt.asIntN(64, micros) === micros ? micros : undefined;
}

function match(form: RegExp, text: unknown): readonly (string | undefined)[] {
  return (typeof text === "string" && form.exec(text)) || [];
}

/** The ends of the range, which has so many bits. */
function infinity(text: unknown, bits: number): bigint | undefined {
  const end = 2n ** BigInt(bits - 1);
  return text === "infinity" ? end - 1n : text === "-infinity" ? -end : undefined;
}

function daysOf(year?: string, month?: string, day?: string, era?: string): number | undefined {
  if (!Number(year)) return undefined;
  // The year before 1 is 1 BC.
  const astronomical = era ? 1 - Number(year) : Number(year);
  // The calendar repeats itself every 400 years; JavaScript's ends sooner than PostgreSQL's.
  const cycles = Math.floor(astronomical / 400) - 5;
  const date = new Date(Date.UTC(astronomical - cycles * 400, Number(month) - 1, Number(day)));
  if (date.getUTCMonth() !== Number(month) - 1 || date.getUTCDate() !== Number(day)) return undefined;
  return date.getTime() / 86_400_000 + cycles * 146_097 - DAYS_TO_2000;
}
