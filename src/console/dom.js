/** The page's elements. Whatever comes from the server is set as text; there is no way here to set HTML. */

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Makes an element. Properties that begin with `on` are listeners, the others attributes; true is an empty one, false is none.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {{[name: string]: string | number | boolean | null | undefined | ((event: any) => void)}} [props]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else attribute(element, name, value);
  }
  element.append(...kept(children));
  return element;
}

/**
 * Sets an attribute if it is another now.
 *
 * @param {Element} element
 * @param {string} name
 * @param {string | number | boolean | null | undefined} value
 */
export function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else {
    const text = value === true ? '' : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

/**
 * Sets the text if it is another now, so that a selection and a screen reader are left in peace.
 *
 * @param {Element} element
 * @param {string | number} text
 */
export function text(element, text) {
  if (element.textContent !== String(text)) element.textContent = String(text);
}

/**
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function fill(element, ...children) {
  element.replaceChildren(...kept(children));
}

/**
 * Shows one element per item, in this order. Elements stay where their items stay, with their focus.
 *
 * @template I
 * @template {HTMLElement} E
 * @param {Element} parent
 * @param {I[]} items
 * @param {(item: I) => string} key
 * @param {(item: I) => E} make
 * @param {(element: E, item: I) => void} update
 */
export function list(parent, items, key, make, update) {
  /** @type {Map<string, E>} */
  const had = new Map();
  for (const child of parent.children) {
    const element = /** @type {E} */ (child);
    if (element.dataset.key !== undefined) had.set(element.dataset.key, element);
  }
  // First, or everything behind one that goes would be moved, and what is moved loses its focus.
  const stay = new Set(items.map(key));
  for (const [name, element] of had) if (!stay.has(name)) element.remove();
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let element = had.get(name);
    if (!element) {
      element = make(item);
      element.dataset.key = name;
    }
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
    update(element, item);
  }
}

/**
 * The element of the page with this id.
 *
 * @template {Element} [T=HTMLElement]
 * @param {string} id
 * @param {{new (): T}} [type]
 * @returns {T}
 */
export function the(id, type) {
  const found = document.getElementById(id);
  if (!found || (type && !(found instanceof type))) throw new Error(`The page has no #${id}.`);
  return /** @type {T} */ (/** @type {unknown} */ (found));
}

/**
 * The element inside another that has this class.
 *
 * @param {Element} element
 * @param {string} name
 * @returns {HTMLElement}
 */
export function part(element, name) {
  const found = element.querySelector(`.${name}`);
  if (!(found instanceof HTMLElement)) throw new Error(`There is no .${name}.`);
  return found;
}

/**
 * Sets where something begins and how wide it is, as parts of the whole. A style set like this is no inline style.
 *
 * @param {HTMLElement} element
 * @param {number} begin
 * @param {number} width
 */
export function span(element, begin, width) {
  element.style.setProperty('--begin', `${(begin * 100).toFixed(3)}%`);
  element.style.setProperty('--width', `${(Math.max(0, width) * 100).toFixed(3)}%`);
}

/**
 * @param {(Child | Child[])[]} children
 * @returns {(Node | string)[]}
 */
function kept(children) {
  /** @type {(Node | string)[]} */
  const nodes = [];
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    nodes.push(typeof child === 'number' ? String(child) : child);
  }
  return nodes;
}
