/** One device: its lists, its state, its queue. Every part draws a live view or the status. */

import type { View } from "@rhtmx/sync";
import { ConflictsView } from "./conflicts.js";
import { find, fromTemplate, make, say } from "./dom.js";
import { ItemList } from "./items.js";
import { hasLogin, PEOPLE, userOf, type Person } from "./login.js";
import { remember } from "./memory.js";
import { byPosition, positionBetween, type Device, type List, type Member, type Todo } from "./model.js";
import { QueueView } from "./queue.js";
import { ViewersLine } from "./viewers.js";

/** A list of its own: the person's open items of all lists. */
const MINE = "mine";

const STATES = { connecting: "connecting", live: "live", behind: "catching up", offline: "offline", error: "stopped" };

export class Pane {
  readonly root = fromTemplate("pane-template");
  readonly #device: Device;
  readonly #name: Person;
  readonly #lists: View<List>;
  /** Undefined where there are no users to share with. */
  readonly #members: View<Member> | undefined;
  readonly #items: ItemList;
  readonly #viewers: ViewersLine;
  #todos!: View<Todo>;
  #chosen = "";
  /** The lists of the last drawing, with their names. */
  #drawn = new Map<string, string>();

  constructor(device: Device, name: Person, signOut: () => void) {
    this.#device = device;
    this.#name = name;
    this.root.setAttribute("aria-label", `Device of ${name}`);
    this.root.dataset["device"] = name;
    this.#element("h2").textContent = name;
    const avatar = this.#element(".bar .avatar");
    avatar.textContent = name[0]!;
    avatar.dataset["person"] = name;
    this.#lists = device.lists.live({ order: byPosition });
    this.#lists.subscribe(() => this.#drawLists());
    this.#members = hasLogin ? device.list_members.live() : undefined;
    this.#members?.subscribe(() => this.#drawLists());
    const conflicts = new ConflictsView(device, this.#element(".choose"), this.#element(".gone"), {
      changed: () => this.#items.draw(),
      again: (title) => this.#add(title),
    });
    this.#items = new ItemList(this.#element(".scroll"), device, conflicts, {
      move: (todo, by) => this.#move(todo, by),
      editing: (id) => this.#viewers.editing(id),
    });
    this.#viewers = new ViewersLine(device, name, this.#element(".viewers"));
    const out = this.#element(".sign-out");
    out.hidden = !hasLogin;
    out.ariaLabel = `Sign out ${name}`;
    out.onclick = signOut;
    new QueueView(device, this.#element(".queue"), this.#element(".rejected"));
    this.#listen();
    device.on("status", () => this.#drawState());
    this.#choose("inbox");
    this.#drawState();
  }

  close(): void {
    this.#viewers.close();
    void this.#device.close();
  }

  #listen(): void {
    const offline = this.#element<HTMLInputElement>(".switch input");
    offline.setAttribute("aria-label", `${this.#name} offline`);
    offline.onchange = () => {
      remember(`${this.#name.toLowerCase()}:offline`, String(offline.checked));
      if (offline.checked) this.#device.disconnect();
      else this.#device.connect();
    };
    const input = this.#element<HTMLInputElement>(".composer input");
    input.setAttribute("aria-label", `New item of ${this.#name}`);
    this.#element<HTMLFormElement>(".composer").onsubmit = (event) => {
      event.preventDefault();
      const title = input.value.trim();
      if (title) this.#add(title);
      input.value = "";
    };
    this.#element(".refuse").onclick = () => this.#add("A title that is longer than the table allows: it shows at once, the server says no, and it goes where you can see why. ".repeat(2).trim());
    this.#element(".share").onclick = () => this.#share(this.#chosen);
    this.#element(".clear-done").onclick = () => {
      // One mutation: all of them are deleted, or none.
      this.#device.transaction(() => {
        for (const { id, done } of this.#todos.rows) if (done) this.#device.todos.delete(id);
      });
    };
  }

  #add(title: string): void {
    const last = this.#todos.rows.at(-1)?.position;
    const mine = this.#chosen === MINE;
    this.#device.todos.create({
      list_id: mine ? "inbox" : this.#chosen,
      title,
      done: false,
      position: positionBetween(last, undefined),
      assignee: mine ? this.#name : null,
      created_at: new Date().toISOString(),
    });
    this.#items.reveal();
  }

  #move(todo: Todo, by: 1 | -1): void {
    const rows = this.#todos.rows;
    const at = rows.findIndex(({ id }) => id === todo.id) + by;
    if (at < 0 || at >= rows.length) return;
    const [before, after] = by > 0 ? [rows[at], rows[at + 1]] : [rows[at - 1], rows[at]];
    this.#device.todos.update(todo.id, { position: positionBetween(before?.position, after?.position) });
  }

  #choose(list: string): void {
    if (list === this.#chosen) return;
    this.#chosen = list;
    this.#element(".notice").hidden = true;
    this.#todos?.close();
    this.#todos = this.#device.todos.live({
      ...(list === MINE ? { where: "assignee = $1 AND done = false", params: [this.#name] } : { where: "list_id = $1", params: [list] }),
      order: byPosition,
    });
    this.#todos.subscribe(() => this.#drawItems());
    this.#viewers.at(list === MINE ? null : list);
    this.#element<HTMLInputElement>(".composer input").placeholder = list === MINE ? `Something for ${this.#name}` : "Something to do";
    this.#items.show(this.#todos);
    this.#drawLists();
    this.#drawItems();
  }

  #drawLists(): void {
    const before = this.#drawn.get(this.#chosen);
    if (this.#lists.state !== "loading") this.#drawn = new Map(this.#lists.rows.map(({ id, name }) => [id, name]));
    if (before !== undefined && !this.#drawn.has(this.#chosen)) return this.#leave(before);
    this.#drawShare();
    const nav = this.#element(".lists");
    const entries = [...this.#lists.rows.map(({ id, name }) => [id, name] as const), [MINE, "Mine"] as const];
    nav.replaceChildren(
      ...entries.map(([id, name]) =>
        make("button", { type: "button", textContent: name, ariaPressed: String(id === this.#chosen), className: this.#isPrivate(id) ? "private" : "", onclick: () => this.#choose(id) }),
      ),
      make("button", { type: "button", textContent: "+", ariaLabel: "New list", className: "new", onclick: () => this.#newList() }),
    );
  }

  /** Goes to another list, because the one that was shown is gone: deleted, or not shared any more. */
  #leave(name: string): void {
    this.#choose("inbox");
    const notice = this.#element(".notice");
    notice.hidden = false;
    say(notice, hasLogin ? `“${name}” is no longer shared with you.` : `“${name}” has been deleted.`);
  }

  #isOwn(list: string): boolean {
    return hasLogin && this.#lists.get(list)?.owner === userOf(this.#name);
  }

  #membersOf(list: string): readonly Member[] {
    return this.#members?.rows.filter(({ list_id }) => list_id === list) ?? [];
  }

  #isPrivate(list: string): boolean {
    return this.#isOwn(list) && this.#membersOf(list).length === 0;
  }

  /** Makes everybody else a member of a list, or nobody. The list and its items come to them, and leave them, by that alone. */
  #share(list: string): void {
    const members = this.#membersOf(list);
    const others = PEOPLE.filter((person) => person !== this.#name).map(userOf);
    this.#device.transaction(() => {
      for (const { list_id, person } of members) this.#device.list_members.delete([list_id, person]);
      if (members.length === 0) for (const person of others) this.#device.list_members.create({ list_id: list, person });
    });
  }

  /** Only the owner of a list shares it; the server would refuse anybody else. */
  #drawShare(): void {
    const share = this.#element(".share");
    share.hidden = !this.#isOwn(this.#chosen);
    say(share, this.#isPrivate(this.#chosen) ? "Share this list" : "Unshare this list");
  }

  #newList(): void {
    const nav = this.#element(".lists");
    const input = make("input", { type: "text", maxLength: 40, placeholder: "Name", ariaLabel: "Name of the new list" });
    const finish = (save: boolean) => {
      input.onblur = null;
      const name = input.value.trim();
      if (!save || !name) return this.#drawLists();
      const last = this.#lists.rows.at(-1)?.position;
      this.#choose(this.#device.lists.create({ name, position: positionBetween(last, undefined), ...(hasLogin && { owner: userOf(this.#name) }) }).key);
    };
    input.onblur = () => finish(true);
    input.onkeydown = ({ key, isComposing }) => {
      if (!isComposing && (key === "Enter" || key === "Escape")) finish(key === "Enter");
    };
    nav.lastElementChild?.replaceWith(input);
    input.focus();
  }

  #drawItems(): void {
    const { rows, state, error } = this.#todos;
    this.#items.draw();
    const done = rows.filter((todo) => todo.done).length;
    say(this.#element(".count"), rows.length ? `${done} of ${rows.length} done` : "");
    this.#element(".clear-done").hidden = done === 0;
    const empty = this.#element(".empty");
    empty.hidden = rows.length > 0;
    say(empty, error ? error.message : state === "loading" ? "Loading…" : "Nothing here yet.");
  }

  #drawState(): void {
    const { state, pending, error, leader, storage } = this.#device.status;
    const chip = this.#element(".state");
    chip.dataset["state"] = state;
    say(chip, STATES[state] + (pending ? ` · ${pending} waiting` : ""));
    chip.title = [error?.message, leader ? "" : "another tab holds the connection", storage === "indexeddb" ? "" : `storage: ${storage}`]
      .filter(Boolean)
      .join("; ");
    this.#element<HTMLInputElement>(".switch input").checked = state === "offline";
    this.root.dataset["state"] = state;
  }

  #element<E extends HTMLElement = HTMLElement>(selector: string): E {
    return find<E>(this.root, selector);
  }
}
