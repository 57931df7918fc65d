// Small helpers to build elements. Text only ever becomes text nodes and attributes: nothing here parses markup.

type Child = Node | string | null | undefined | false;

export interface Props {
  class?: string;
  text?: string;
  [name: string]: unknown;
}

/** An element with attributes (`onclick` and the like: listeners) and children. */
export function el<K extends keyof HTMLElementTagNameMap>(
    tag: K, props: Props = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'class') node.className = String(value);
    else if (name === 'text') node.textContent = String(value);
    else if (name.startsWith('on')) node.addEventListener(name.slice(2), value as EventListener);
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  append(node, children);
  return node;
}

export function append(node: Node, children: Iterable<Child>): void {
  for (const child of children) {
    if (child) node.appendChild(typeof child === 'string' ? document.createTextNode(child) : child);
  }
}

const kSvg = 'http://www.w3.org/2000/svg';

export function svg(tag: string, attributes: Record<string, string | number>, ...children: Node[]): SVGElement {
  const node = document.createElementNS(kSvg, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  for (const child of children) node.appendChild(child);
  return node;
}

// Strokes on a 24 x 24 sheet.
const kIcons = {
  menu: 'M4 6h16M4 12h16M4 18h16',
  plus: 'M12 5v14M5 12h14',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M7 7h10v10H7z',
  copy: 'M9 9h10v11H9zM5 15V4h10',
  done: 'M5 13l4 4L19 7',
  again: 'M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6',
  edit: 'M4 20h4L19 9l-4-4L4 16zM13 7l4 4',
  remove: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13',
  settings: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4',
  depth: 'M4 6h16M7 12h10M10 18h4',
  close: 'M6 6l12 12M18 6L6 18',
  down: 'M12 5v14M6 13l6 6 6-6',
} as const;

export type IconName = keyof typeof kIcons;

export function icon(name: IconName): SVGElement {
  return svg('svg', { viewBox: '0 0 24 24', class: 'icon', 'aria-hidden': 'true' }, svg('path', { d: kIcons[name] }));
}

/** A button that shows only a picture, with its name for pointers and screen readers. */
export function iconButton(name: IconName, label: string, onclick: () => void, more: Props = {}): HTMLButtonElement {
  return el('button', { type: 'button', 'aria-label': label, title: label, onclick, ...more,
                        class: `icon-button ${more.class ?? ''}`.trim() }, icon(name));
}

/** Copies, and shows on the button for a moment whether that worked. */
export function copyButton(label: string, text: () => string): HTMLButtonElement {
  let back: number | undefined;
  const button = iconButton('copy', label, async () => {
    const worked = await copyText(text());
    button.replaceChildren(icon(worked ? 'done' : 'close'));
    button.setAttribute('aria-label', worked ? 'Copied' : 'Could not copy');
    button.classList.toggle('worked', worked);
    clearTimeout(back);
    back = window.setTimeout(() => {
      button.replaceChildren(icon('copy'));
      button.setAttribute('aria-label', label);
      button.classList.remove('worked');
    }, 1600);
  }, { class: 'copy' });
  return button;
}

/** The clipboard of a page that is not on localhost and not https is closed; selecting and copying still works there. */
async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el('textarea', { class: 'offscreen', 'aria-hidden': 'true' });
    area.value = text;
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const worked = document.execCommand('copy');
    area.remove();
    if (focused instanceof HTMLElement) focused.focus();
    return worked;
  }
}
