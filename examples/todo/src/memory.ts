/** What the page itself remembers over a reload, where the browser lets it. */

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
    // Then it begins anew after a reload.
  }
}
