/** What every part does with the document. Foreign text is only ever set as textContent. */

export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (!element) throw new Error(`no element #${id}`);
  return element;
}

/** Copies the content of a template. */
export function fromTemplate(id: string): HTMLElement {
  const copy = (byId(id) as HTMLTemplateElement).content.cloneNode(true) as DocumentFragment;
  return copy.firstElementChild as HTMLElement;
}

export function find<E extends HTMLElement>(root: HTMLElement, selector: string): E {
  const element = root.querySelector<E>(selector);
  if (!element) throw new Error(`no element ${selector}`);
  return element;
}

/** Sets a text only when it differs, since screen readers read out what is set. */
export function say(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function make<T extends keyof HTMLElementTagNameMap>(
  tag: T,
  properties: Partial<HTMLElementTagNameMap[T]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[T] {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
