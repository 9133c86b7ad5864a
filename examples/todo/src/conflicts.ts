/** Values that lost against others: at their items where those are there, and below the list where they are gone. */

import type { FieldConflict } from "@rhtmx/sync/fields";
import { find, make, say } from "./dom.js";
import type { Device } from "./model.js";

export interface ConflictActions {
  /** The conflicts of the items are others. */
  changed(): void;
  /** Adds an item with the title of one that is gone. */
  again(title: string): void;
}

export class ConflictsView {
  readonly #device: Device;
  readonly #actions: ConflictActions;
  readonly #line: HTMLElement;
  readonly #gone: HTMLElement;
  #open: ReadonlyMap<string, FieldConflict> = new Map();
  /** The ids of the conflicts that are listed below. */
  #drawn = "";

  /**
   * @param line says how many items of the list there are to choose for.
   * @param gone lists the titles of items that are gone.
   */
  constructor(device: Device, line: HTMLElement, gone: HTMLElement, actions: ConflictActions) {
    this.#device = device;
    this.#actions = actions;
    this.#line = line;
    this.#gone = gone;
    device.todos.conflicts.subscribe(({ rows }) => {
      this.#take(rows);
      actions.changed();
    });
    this.#take(device.todos.conflicts.rows);
  }

  /** Whether there is anything to choose. */
  get isEmpty(): boolean {
    return this.#open.size === 0;
  }

  /** The oldest conflict of an item. */
  of(id: string): FieldConflict | undefined {
    return this.#open.get(id);
  }

  #take(all: readonly FieldConflict[]): void {
    // Of a tick, a place or a person the later one stands, which the list shows, and nobody asks for the other.
    const matters = ({ isKept, field }: FieldConflict) => isKept || field === "title";
    const settled = all.filter((conflict) => !matters(conflict));
    if (settled.length) this.#device.todos.conflicts.dismiss(...settled);
    const shown = all.filter(matters);
    // Backwards, so that the oldest of each item remains.
    this.#open = new Map(shown.filter(isOfItem).reverse().map((conflict) => [conflict.key, conflict]));
    this.#drawGone(shown.filter((conflict) => !isOfItem(conflict)));
  }

  /** Says of how many items of the list two values were written. */
  count(items: number): void {
    this.#line.hidden = items === 0;
    say(this.#line, items === 0 ? "" : `${items === 1 ? "An item was" : `${items} items were`} renamed on two devices: choose below.`);
  }

  #drawGone(gone: readonly FieldConflict[]): void {
    const ids = gone.map(({ id }) => id).join();
    if (ids === this.#drawn) return; // screen readers would read it out again
    this.#drawn = ids;
    this.#gone.hidden = gone.length === 0;
    find(this.#gone, "ul").replaceChildren(...gone.map((conflict) => this.#letter(conflict)));
  }

  #letter(conflict: FieldConflict): HTMLElement {
    const title = String(conflict.lost.value);
    const dismiss = () => this.#device.todos.conflicts.dismiss(conflict);
    const again = () => {
      this.#actions.again(title);
      dismiss();
    };
    return make(
      "li",
      {},
      make("span", { textContent: `“${title}”` }),
      make("small", { textContent: "Renamed here, and deleted elsewhere meanwhile." }),
      make("span", { className: "actions" },
        make("button", { type: "button", className: "quiet", textContent: "Add it again", onclick: again }),
        make("button", { type: "button", className: "quiet", textContent: "Dismiss", onclick: dismiss }),
      ),
    );
  }
}

/** Whether the item is there: the server says what the field holds then. */
function isOfItem({ kept }: FieldConflict): boolean {
  return kept !== undefined;
}
