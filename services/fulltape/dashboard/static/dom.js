// The page's few ways to touch the document: each writes only what differs, since a write costs a layout.

export const $ = (id) => document.getElementById(id);

/** Make an element: tag, properties, children. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Write an element's text where it differs. It holds one text node and nothing else. */
export function write(element, text) {
  const node = element.firstChild;
  if (!node) element.append(text);
  else if (node.data !== text) node.data = text;
}

/** Set a class name where it differs. */
export function paintClass(element, name) {
  if (element.className !== name) element.className = name;
}

export function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

/** A canvas's 2D context, cleared, in CSS pixels, and its size. */
export function canvas(element) {
  const width = element.clientWidth;
  const height = element.clientHeight;
  const ratio = window.devicePixelRatio || 1;
  if (element.width !== Math.round(width * ratio) || element.height !== Math.round(height * ratio)) {
    element.width = Math.round(width * ratio);
    element.height = Math.round(height * ratio);
  }
  const context = element.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** The page's font, for drawings. */
export const font = (size) => `${size}px ${getComputedStyle(document.body).fontFamily}`;

let palette = null;
const listeners = [];

/** The palette's colours, as the style sheet has them now. */
export function colours() {
  if (!palette) {
    const style = getComputedStyle(document.documentElement);
    palette = {};
    for (const name of ['ground', 'panel', 'line', 'soft', 'text', 'dim', 'up', 'down', 'accent', 'warn', 'fill']) {
      palette[name] = style.getPropertyValue(`--${name}`).trim();
    }
  }
  return palette;
}

/** Call back when light turns dark, or dark light. */
export const onPalette = (listener) => listeners.push(listener);

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  palette = null;
  for (const listener of listeners) listener();
});
