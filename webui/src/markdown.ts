// Markdown of a model's answer as elements. The text is hostile until proven otherwise: it is lexed by `marked`, and
// this file builds elements from the tokens one by one, so that no string is ever parsed as HTML. HTML in an answer is
// shown as the text that it is; links lead only to http, https and mailto; pictures are never loaded (they would tell
// their server who reads what), only linked.

import { lexer, type Token, type Tokens } from 'marked';
import { append, copyButton, el } from './dom';

const kMostDepth = 48;  // of quotes and lists in each other; layout recurses, too
const kMostCharacters = 400_000;  // beyond it, an answer is shown as plain text

export function safeLink(href: string): string | undefined {
  try {
    const url = new URL(href);  // no base: what is relative leads nowhere
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : undefined;
  } catch {
    return undefined;
  }
}

function link(href: string, title: string | null | undefined, children: Node[]): HTMLElement {
  const target = safeLink(href);
  if (!target) return el('span', { class: 'dead-link', title: href }, ...children);
  return el('a', { href: target, title: title ? `${title} — ${target}` : target, target: '_blank',
                   rel: 'noopener noreferrer nofollow' }, ...children);
}

const kEntities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\u00a0', copy: '©',
  hellip: '…', mdash: '—', ndash: '–', times: '×', rarr: '→', larr: '←', le: '≤', ge: '≥', ne: '≠', deg: '°' };

/** Character references, which the lexer leaves as written outside code. */
function text(raw: string): string {
  return raw.replace(/&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|(\w{2,8}));/g, (all, decimal, hex, name) => {
    if (name) return Object.hasOwn(kEntities, name) ? kEntities[name]! : all;
    const code = decimal ? parseInt(decimal, 10) : parseInt(hex, 16);
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : '\ufffd';
  });
}

function inline(tokens: Token[] | undefined, nested = 0): Node[] {
  return (tokens ?? []).map((token): Node => {
    if (nested >= kMostDepth) return document.createTextNode(token.raw);
    const inner = () => inline((token as { tokens?: Token[] }).tokens, nested + 1);
    switch (token.type) {
      case 'strong': return el('strong', {}, ...inner());
      case 'em': return el('em', {}, ...inner());
      case 'del': return el('del', {}, ...inner());
      case 'codespan': return el('code', { text: (token as Tokens.Codespan).text });
      case 'br': return el('br');
      case 'escape': return document.createTextNode((token as Tokens.Escape).text);
      case 'link': return link((token as Tokens.Link).href, (token as Tokens.Link).title, inner());
      case 'image': {
        const image = token as Tokens.Image;
        return link(image.href, image.title, [document.createTextNode(`[picture: ${image.text || image.href}]`)]);
      }
      case 'text':
        if (token.tokens) return fragment(inner());
        return document.createTextNode(text((token as Tokens.Text).text));
      default: return document.createTextNode(token.raw);  // html, and whatever else: as written
    }
  });
}

function fragment(nodes: Node[]): DocumentFragment {
  const all = document.createDocumentFragment();
  append(all, nodes);
  return all;
}

function codeBlock(token: Tokens.Code): HTMLElement {
  const language = (token.lang ?? '').split(/\s/)[0]!.slice(0, 40);
  return el('div', { class: 'code-block' },
            el('div', { class: 'code-head' }, el('span', { text: language || 'text' }),
               copyButton('Copy code', () => token.text)),
            el('pre', { tabindex: '0', 'aria-label': `Code${language ? `, ${language}` : ''}` },
               el('code', { text: token.text })));
}

function table(token: Tokens.Table): HTMLElement {
  const cell = (tag: 'th' | 'td', content: Tokens.TableCell) =>
    el(tag, { class: content.align ? `align-${content.align}` : undefined }, ...inline(content.tokens));
  return el('div', { class: 'table-wrap', tabindex: '0', role: 'group', 'aria-label': 'Table' },
            el('table', {},
               el('thead', {}, el('tr', {}, ...token.header.map((content) => cell('th', content)))),
               el('tbody', {}, ...token.rows.map((row) => el('tr', {}, ...row.map((content) => cell('td', content)))))));
}

function list(token: Tokens.List): HTMLElement {
  const items = token.items.map((item) => {
    const node = el('li', { class: item.task ? 'task' : undefined });
    if (item.task) {
      node.append(el('input', { type: 'checkbox', disabled: true, checked: item.checked,
                                'aria-label': item.checked ? 'done' : 'to do' }));
    }
    for (const part of item.tokens) {
      if (part.type === 'checkbox') continue;
      append(node, part.type === 'text' ? inline([part]) : [block(part)]);
    }
    return node;
  });
  if (!token.ordered) return el('ul', {}, ...items);
  const start = typeof token.start === 'number' && token.start !== 1 ? String(token.start) : undefined;
  return el('ol', { start }, ...items);
}

let depth = 0;

function block(token: Token): Node | null {
  if (depth >= kMostDepth) return el('p', { text: token.raw });
  ++depth;
  try {
    return blockOf(token);
  } finally {
    --depth;
  }
}

function blockOf(token: Token): Node | null {
  switch (token.type) {
    case 'space':
    case 'def': return null;
    case 'paragraph': return el('p', {}, ...inline(token.tokens));
    case 'text': return el('p', {}, ...inline(token.tokens ?? [token]));
    case 'heading': {
      // The page's own headings are h1 and h2; an answer stands below them.
      const level = Math.min(6, (token as Tokens.Heading).depth + 2) as 3 | 4 | 5 | 6;
      return el(`h${level}`, {}, ...inline(token.tokens));
    }
    case 'code': return codeBlock(token as Tokens.Code);
    case 'blockquote': return el('blockquote', {}, ...blocks(token.tokens ?? []));
    case 'list': return list(token as Tokens.List);
    case 'table': return table(token as Tokens.Table);
    case 'hr': return el('hr');
    default: return el('p', { text: token.raw.trimEnd() });
  }
}

function blocks(tokens: Token[]): (Node | null)[] {
  return tokens.map(block);
}

/**
 * One answer on the page. `update` is called with ever longer text; blocks that have not changed keep their elements, so
 * that a selection or a scrolled code block in the finished part survives.
 */
export class MarkdownView {
  readonly node = el('div', { class: 'markdown' });
  private shown: { raw: string; node: Node | null }[] = [];

  update(source: string): void {
    let tokens: Token[];
    try {
      if (source.length > kMostCharacters) throw new RangeError('too long to lex again and again');
      tokens = lexer(source, { gfm: true, breaks: true });
      this.replaceFrom(tokens);
    } catch {
      // Nested beyond the stack, or too long: plain text always works.
      this.shown = [];
      this.node.replaceChildren(el('pre', { class: 'plain', text: source }));
    }
  }

  private replaceFrom(tokens: Token[]): void {
    if (!this.shown.length) this.node.replaceChildren();
    let same = 0;
    while (same < this.shown.length && same < tokens.length && this.shown[same]!.raw === tokens[same]!.raw) ++same;
    for (const { node } of this.shown.splice(same)) (node as ChildNode | null)?.remove();
    for (const token of tokens.slice(same)) {
      const node = block(token);
      if (node) this.node.appendChild(node);
      this.shown.push({ raw: token.raw, node });
    }
  }
}
