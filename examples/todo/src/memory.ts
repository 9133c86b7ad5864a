/** What the page itself remembers over a reload, where the browser allows it. */

const PREFIX = "rhtmx-sync-todo:";

export function recall(name: string): string | null {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null;
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // Then a reload forgets it.
  }
}
