// Elements out of plain values. Text only ever becomes text: nothing here, or anywhere on this page, parses HTML.

export const $ = (id) => document.getElementById(id);

export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (["checked", "value", "hidden", "disabled", "tabIndex"].includes(name)) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

// Characters that turn the order of what follows are shown, and turn nothing outside themselves.
const TURNING = /[\u202A-\u202E\u2066-\u2069]/u;

export function plain(text) {
  return text.split(/([\u202A-\u202E\u2066-\u2069])/u).filter(Boolean).map((piece) =>
    TURNING.test(piece)
      ? el("span", { class: "turning", "data-code": `U+${piece.codePointAt(0).toString(16).toUpperCase()}` }, piece)
      : document.createTextNode(piece));
}

export const words = (name) => name.replaceAll("_", " ");

// A guideline is Markdown, of which headings, lists and paragraphs are shown as such and everything else as it stands.
export function prose(text) {
  const nodes = [];
  let list = null;
  for (const line of text.split(/\r?\n/)) {
    const heading = /^(#{1,4})\s+(.*)/.exec(line);
    const item = /^\s*(?:[-*]|\d+\.)\s+(.*)/.exec(line);
    if (item) {
      const kind = /^\s*\d/.test(line) ? "ol" : "ul";
      if (list?.localName !== kind) nodes.push((list = el(kind)));
      list.append(el("li", {}, ...bold(item[1])));
      continue;
    }
    if (list && /^\s{2,}\S/.test(line)) {
      list.lastChild.append(" ", ...bold(line.trim()));
      continue;
    }
    list = null;
    if (heading) nodes.push(el(`h${Math.min(heading[1].length + 2, 6)}`, {}, ...bold(heading[2])));
    else if (line.trim()) nodes.push(el("p", {}, ...bold(line)));
  }
  return nodes;
}

const bold = (text) => text.split(/\*\*(.+?)\*\*/).map((piece, i) => (i % 2 ? el("strong", {}, ...plain(piece)) : el("span", {}, ...plain(piece))));

export function typing(target) {
  return target.localName === "textarea" || target.localName === "select" || target.isContentEditable ||
    (target.localName === "input" && !["radio", "checkbox", "button"].includes(target.type));
}
