/** The people, and who of them is signed in, where the server asks: that of the demo does, and makes the tokens. */

import { recall, remember } from "./memory.js";

export const PEOPLE = ["Ann", "Ben"] as const;
export type Person = (typeof PEOPLE)[number];

/** Where to ask for a token. Undefined where the server does not ask who anybody is. */
const LOGIN = document.body.dataset["login"];

export const hasLogin = LOGIN !== undefined;

export const userOf = (person: Person): string => person.toLowerCase();

/** Called before each connection: the tokens are good until the server ends. */
export async function tokenOf(person: Person): Promise<string> {
  const answer = await fetch(`${LOGIN}${userOf(person)}`, { method: "POST" });
  if (!answer.ok) throw new Error(`the login answers ${answer.status}`);
  return answer.text();
}

export function isSignedIn(person: Person): boolean {
  return !hasLogin || recall(`${userOf(person)}:signed-out`) !== "true";
}

export function sign(person: Person, way: "in" | "out"): void {
  remember(`${userOf(person)}:signed-out`, String(way === "out"));
}
