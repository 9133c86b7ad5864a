/** A random uuid, also on pages without TLS, where `crypto.randomUUID` is absent. */
export function uuid(): string {
  return crypto.randomUUID?.() ?? "10000000-1000-4000-8000-100000000000".replace(/[018]/g, randomDigit);
}

/** Any digit for 0 and 1; for 8 one with the variant's two bits. */
function randomDigit(digit: string): string {
  const chance = crypto.getRandomValues(new Uint8Array(1))[0]! & 15;
  return (digit === "8" ? (chance & 3) | 8 : chance).toString(16);
}
