// A text that people select in. Offsets are Unicode code points, as the loop counts them; a browser counts UTF-16 units.

import { el, plain } from "./dom.js";

export class Passage {
  // unit: what the arrow keys step by, "word" or "sentence".
  constructor(text, label, unit) {
    this.text = text;
    this.unit = unit;
    this.marks = [];
    this.node = el("div", { class: "passage", dir: "auto" });
    this.label = label;
    this.render();
  }

  // From now on it can be reached and read word by word without a mouse.
  open() {
    this.node.tabIndex = 0;
    this.node.setAttribute("role", "group");
    this.node.setAttribute("aria-label", `${this.label}; select with the arrow keys`);
    this.node.classList.add("open");
    this.node.addEventListener("keydown", (event) => this.step(event));
    return this;
  }

  show(marks) {
    this.marks = marks;
    this.render();
  }

  // Every character stands in the page once and in order, so that a place in the page is a place in the text.
  render() {
    const cuts = [...new Set([0, this.text.length, ...this.marks.flatMap((m) => [this.unitAt(m.start), this.unitAt(m.end)])])];
    cuts.sort((a, b) => a - b);
    const pieces = cuts.slice(0, -1).flatMap((from, i) => {
      const nodes = plain(this.text.slice(from, cuts[i + 1]));
      const here = this.marks.filter((m) => this.unitAt(m.start) <= from && from < this.unitAt(m.end));
      if (!here.length) return nodes;
      const mark = here[here.length - 1];
      const last = this.unitAt(mark.end) === cuts[i + 1];
      return [el("mark", { class: `tone-${mark.tone}`, "data-n": last ? mark.n : null }, ...nodes)];
    });
    this.node.replaceChildren(...pieces);
  }

  // What is selected in it, without the white space around: {start, end, text}, or null.
  selected() {
    const selection = getSelection();
    if (!selection.rangeCount || selection.isCollapsed) return null;
    const range = selection.getRangeAt(0);
    if (!this.node.contains(range.startContainer) && !this.node.contains(range.endContainer)) return null;
    let from = this.before(range.startContainer, range.startOffset);
    let to = this.before(range.endContainer, range.endOffset);
    while (from < to && /\s/u.test(this.text[from])) from++;
    while (to > from && /\s/u.test(this.text[to - 1])) to--;
    if (inPair(this.text, from)) from--;
    if (inPair(this.text, to)) to++;
    if (from >= to) return null;
    return { start: points(this.text.slice(0, from)), end: points(this.text.slice(0, to)), text: this.text.slice(from, to) };
  }

  before(container, offset) {
    if (!this.node.contains(container)) {
      return this.node.compareDocumentPosition(container) & Node.DOCUMENT_POSITION_PRECEDING ? 0 : this.text.length;
    }
    const range = document.createRange();
    range.selectNodeContents(this.node);
    range.setEnd(container, offset);
    return range.toString().length;
  }

  step(event) {
    if (!["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const parts = this.parts();
    if (!parts.length) return;
    const forward = event.key === "ArrowRight" || event.key === "End";
    const far = event.key === "Home" || event.key === "End";
    let at = this.cursor === undefined ? (forward && !far ? -1 : parts.length) : this.cursor;
    at = far ? (forward ? parts.length - 1 : 0) : at + (forward ? 1 : -1);
    at = Math.max(0, Math.min(parts.length - 1, at));
    if (!event.shiftKey || this.anchor === undefined) this.anchor = at;
    this.cursor = at;
    const [first, last] = [Math.min(this.anchor, at), Math.max(this.anchor, at)];
    this.select(parts[first].from, parts[last].to);
  }

  select(from, to) {
    const [a, b] = [this.place(from), this.place(to)];
    getSelection().setBaseAndExtent(a.node, a.offset, b.node, b.offset);
    a.node.parentElement.scrollIntoView({ block: "nearest" });
  }

  place(unit) {
    const walker = document.createTreeWalker(this.node, NodeFilter.SHOW_TEXT);
    let node = walker.nextNode();
    while (node && unit > node.length) {
      unit -= node.length;
      node = walker.nextNode() ?? node;
    }
    return { node, offset: unit };
  }

  parts() {
    if (!this._parts) {
      const found = [...new Intl.Segmenter(undefined, { granularity: this.unit }).segment(this.text)];
      this._parts = found
        .filter((s) => (this.unit === "word" ? s.isWordLike : s.segment.trim()))
        .map((s) => ({ from: s.index, to: s.index + s.segment.trimEnd().length }));
    }
    return this._parts;
  }

  unitAt(point) {
    let unit = 0;
    for (const character of this.text) {
      if (point-- <= 0) break;
      unit += character.length;
    }
    return unit;
  }
}

export const points = (text) => [...text].length;

const inPair = (text, unit) => unit > 0 && unit < text.length && /[\uDC00-\uDFFF]/.test(text[unit]) && /[\uD800-\uDBFF]/.test(text[unit - 1]);
