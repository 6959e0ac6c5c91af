// Small helpers for the document.

export const $ = (id) => document.getElementById(id);

/** A new element. Attributes whose name is a property (`onclick`, `textContent`, `value`) are set as such. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Tell the user, also one who listens to a screen reader. */
export function say(text) {
  $("status").textContent = text;
}

/** Tell of an error. It stays until it is dismissed or the next task succeeds. */
export function complain(error) {
  $("problem").hidden = false; // first, or a screen reader does not notice the text
  $("alert").textContent = error.message;
}

export function dismiss() {
  $("problem").hidden = true;
  $("alert").textContent = "";
}

/** Do something that may fail, and tell of the error. Returns undefined then. */
export async function attempt(task) {
  try {
    return await task();
  } catch (error) {
    if (error.code !== "aborted") complain(error);
    return undefined;
  }
}

/**
 * Let the children of `list` be those of `items`, in their order. Elements are kept, so that the focus stays.
 * `create(item)` makes an element, `update(element, item)` brings it up to date.
 */
export function reconcile(list, items, create, update) {
  const known = new Map([...list.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, position) => {
    let element = known.get(item.key);
    known.delete(item.key);
    if (!element) {
      element = create(item);
      element.dataset.key = item.key;
    }
    update(element, item);
    if (list.children[position] !== element) list.insertBefore(element, list.children[position] ?? null);
  });
  for (const gone of known.values()) gone.remove();
}
