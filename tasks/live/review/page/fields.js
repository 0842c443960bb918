// The controls of the six types of field. Each gives {node, stops, value(), fill(value), lacks()}.
// A stop is what the arrow keys go to: {node, focus(), digit(n), key(k)}; `digit` says whether it took the number.

import { el, plain, words } from "./dom.js";

let count = 0;

export function control(field, ask, screen) {
  if (field.type === "rating" && field.each) return grades(field, ask, screen);
  return { choice: field.source ? picked : choice, choices, rating, text, spans, ranking }[field.type](field, ask, screen);
}

function box(field, legend, ...children) {
  const node = el("fieldset", { class: `field ${field.type}`, tabIndex: -1 }, el("legend", {}, legend), ...children);
  return node;
}

const focusOn = (node) => () => (node.querySelector("input:checked") ?? node.querySelector("input,button") ?? node).focus();

// Radio buttons: `values` shown as `labels`, chosen by the number `keys`.
function radios(name, values, labels, keys, changed) {
  const inputs = values.map((value) => el("input", { type: "radio", name, value: String(value), onchange: changed }));
  const node = el("div", { class: "options" },
    ...inputs.map((input, i) => el("label", { class: "option" }, input, el("kbd", { "aria-hidden": "true" }, String(keys[i] ?? "")), el("span", { dir: "auto" }, ...plain(labels[i])))));
  return {
    node,
    value: () => (inputs.find((i) => i.checked) ? values[inputs.findIndex((i) => i.checked)] : undefined),
    fill: (value) => inputs.forEach((input, i) => (input.checked = values[i] === value)),
    digit(n) {
      const at = keys.indexOf(n);
      if (at < 0) return false;
      inputs[at].checked = true;
      inputs[at].focus();
      changed();
      return true;
    },
  };
}

const numbers = (n) => Array.from({ length: n }, (_, i) => (i < 9 ? i + 1 : undefined));

function choice(field, ask, screen) {
  const group = radios(`f${count++}`, field.options, field.options.map(words), numbers(field.options.length), screen.changed);
  const node = box(field, words(field.name), group.node);
  const stop = { node, focus: focusOn(node), digit: group.digit, advance: true };
  return { node, stops: [stop], value: group.value, fill: group.fill };
}

function rating(field, ask, screen) {
  const values = Array.from({ length: field.high - field.low + 1 }, (_, i) => field.low + i);
  const group = radios(`f${count++}`, values, values.map(() => ""), values, screen.changed);
  group.node.classList.add("scale");
  const node = box(field, words(field.name), group.node);
  group.node.querySelectorAll("input").forEach((input, i) => input.setAttribute("aria-label", String(values[i])));
  return { node, stops: [{ node, focus: focusOn(node), digit: group.digit, advance: true }], value: group.value, fill: group.fill };
}

// Every document has its grade beside it.
function grades(field, ask, screen) {
  const each = screen.sources.map((source, i) => {
    const one = rating({ ...field, name: `${field.name.replace(/s$/, "")} of document ${i + 1}` }, ask, screen);
    one.node.classList.add("grade");
    source.slot.append(one.node);
    return one;
  });
  return {
    node: el("p", { class: "hint" }, `Grade each of the ${each.length} documents beside it: ${field.low} to ${field.high}.`),
    stops: each.flatMap((one) => one.stops),
    value() {
      const given = Object.fromEntries(each.map((one, i) => [String(i), one.value()]).filter(([, v]) => v !== undefined));
      return Object.keys(given).length ? given : undefined;
    },
    fill: (value) => each.forEach((one, i) => one.fill(value?.[String(i)])),
    partial: true,
    lacks: () => (each.every((one) => one.value() !== undefined) ? "" : "Grade every document."),
  };
}

function choices(field, ask, screen) {
  let none;
  const ticks = field.options.map((value) => el("input", { type: "checkbox", value, onchange: () => { if (none) none.checked = false; screen.changed(); } }));
  const row = (input, key, label) => el("label", { class: "option" }, input, el("kbd", { "aria-hidden": "true" }, key), el("span", { dir: "auto" }, ...plain(label)));
  const rows = ticks.map((input, i) => row(input, i < 9 ? String(i + 1) : "", words(field.options[i])));
  if (field.required) {
    none = el("input", { type: "checkbox", onchange: () => { if (none.checked) ticks.forEach((t) => (t.checked = false)); screen.changed(); } });
    rows.push(row(none, "0", "none of these"));
  }
  const node = box(field, words(field.name), el("div", { class: "options" }, ...rows));
  const toggle = (input) => { input.focus(); input.click(); return true; };
  const stop = { node, focus: focusOn(node), digit: (n) => (n === 0 ? none : ticks[n - 1]) ? toggle(n === 0 ? none : ticks[n - 1]) : false };
  return {
    node,
    stops: [stop],
    value() {
      const chosen = ticks.filter((t) => t.checked).map((t) => t.value);
      return chosen.length || none?.checked ? chosen : undefined;
    },
    fill(value) {
      ticks.forEach((t) => (t.checked = value?.includes(t.value) ?? false));
      if (none) none.checked = value?.length === 0;
    },
    lacks: () => "Choose what fits, or 0 for none of these.",
  };
}

function text(field, ask, screen) {
  const given = field.over === "response" ? screen.response : field.over === "question" ? screen.question : "";
  const area = el("textarea", { rows: 5, maxlength: 20000, dir: "auto", oninput: screen.changed, "aria-label": words(field.name) });
  area.value = given;
  const shown = area.value; // a text area turns every line end into one of its own kind
  const node = box(field, words(field.name), area, el("p", { class: "hint" }, "Esc leaves the text; Ctrl+Enter saves."));
  return {
    node,
    stops: [{ node, focus: () => area.focus(), digit: () => false }],
    value: () => (area.value === shown && given ? given : area.value.trim() ? area.value : undefined),
    fill: (value) => (area.value = value ?? given),
    lacks: () => "Write a text.",
    doubt: () => (given && area.value === shown ? "You have not changed the text. Save again if it is good as it is." : ""),
  };
}

// A choice among the approved answers: typed words find them.
function picked(field, ask, screen) {
  const id = `f${count++}`;
  let all = [], value, active = 0, found = [];
  const list = el("ul", { role: "listbox", id: `${id}-list`, "aria-label": "Approved answers", class: "found" });
  const input = el("input", {
    type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": `${id}-list`, "aria-label": words(field.name), autocomplete: "off",
    placeholder: "Words of the right answer", oninput: () => { active = 0; find(); }, onkeydown: keyed,
  });
  const chosen = el("p", { class: "chosen", hidden: true });
  const node = box(field, words(field.name), chosen, input, list);
  screen.approved().then((rows) => { all = rows; find(); say(); });

  function find() {
    const asked = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = all.filter((a) => { const whole = `${a.id} ${a.topic} ${a.title} ${a.text}`.toLowerCase(); return asked.every((w) => whole.includes(w)); }).slice(0, 50);
    list.replaceChildren(...found.map((a, i) =>
      el("li", { role: "option", id: `${id}-${i}`, "aria-selected": String(i === active), class: i === active ? "active" : "", onclick: () => take(a.id) },
        el("strong", { dir: "auto" }, ...plain(a.title || a.id)), el("small", {}, ...plain([a.topic, a.id].filter(Boolean).join(" · "))), el("span", { dir: "auto" }, ...plain(a.text)))));
    if (!found.length) list.append(el("li", { class: "hint" }, all.length ? "No approved answer has these words." : "There are no approved answers."));
    input.setAttribute("aria-activedescendant", found.length ? `${id}-${active}` : "");
    list.querySelector(".active")?.scrollIntoView({ block: "nearest" });
  }

  function keyed(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      active = Math.max(0, Math.min(found.length - 1, active + (event.key === "ArrowDown" ? 1 : -1)));
      find();
      event.preventDefault();
      event.stopPropagation();
    } else if (event.key === "Enter" && !event.ctrlKey && found[active]) {
      take(found[active].id);
      event.preventDefault();
      event.stopPropagation();
      node.focus();
    }
  }

  function take(given) {
    value = given;
    say();
    screen.changed();
  }

  function say() {
    const a = all.find((one) => one.id === value);
    chosen.hidden = !value;
    chosen.replaceChildren(el("span", { dir: "auto" }, "Chosen: ", el("strong", {}, ...plain(a?.title || value || ""))), a ? el("span", { dir: "auto" }, ...plain(` ${a.text} `)) : "",
      el("button", { type: "button", onclick: () => { take(undefined); input.focus(); } }, "Remove"));
  }

  return { node, stops: [{ node, focus: () => input.focus(), digit: () => false }], value: () => value, fill: (v) => { value = v ?? undefined; say(); } };
}

// Passages marked in the response or the question; evidence for them out of a source.
function spans(field, ask, screen) {
  const passage = screen.passages[field.over];
  passage.open();
  let marks, active = -1;
  const list = el("ol", { class: "marks" });
  const none = el("input", { type: "checkbox", onchange: () => { marks = none.checked ? [] : undefined; draw(); screen.changed(); } });
  const node = box(field, words(field.name),
    el("p", { class: "hint" }, `Select text in the ${field.over === "response" ? "answer" : "question"}, then choose: ${field.options.map((o, i) => `${i + 1} ${words(o)}`).join(", ")}.`),
    list, el("label", { class: "option" }, none, el("kbd", { "aria-hidden": "true" }, "0"), el("span", {}, "nothing to mark")));

  function draw() {
    const all = marks ?? [];
    none.checked = marks?.length === 0;
    passage.show(all.map((m, i) => ({ start: m.start, end: m.end, n: i + 1, tone: field.options.indexOf(m.label) % 6 })));
    list.replaceChildren(...all.map((m, i) => el("li", { class: i === active ? "active" : "" },
      el("q", { dir: "auto", class: `tone-${field.options.indexOf(m.label) % 6}` }, ...plain(m.text)), el("span", {}, ` ${words(m.label)} `),
      m.evidence ? el("span", { class: "evidence", dir: "auto" }, `Document ${m.evidence.context + 1}: `, el("q", {}, ...plain(m.evidence.text))) : "",
      field.evidence && screen.sources.length ? el("button", { type: "button", "aria-pressed": String(i === active), onclick: () => { active = i; draw(); screen.announce(`Select a sentence in a source for ${i + 1}, then press e`); } }, m.evidence ? "Other evidence" : "Evidence") : "",
      el("button", { type: "button", "aria-label": `Remove mark ${i + 1}`, onclick: () => { all.splice(i, 1); marks = all.length ? all : undefined; active = -1; draw(); screen.changed(); node.focus(); } }, "Remove"))));
  }

  function add(label, span) {
    if (marks?.some((m) => m.start === span.start && m.end === span.end && m.label === label)) return;
    marks = [...(marks ?? []), { ...span, label }].sort((a, b) => a.start - b.start || a.end - b.end);
    active = marks.findIndex((m) => m.start === span.start && m.end === span.end && m.label === label);
    getSelection().removeAllRanges();
    draw();
    screen.announce(`Marked as ${words(label)}: ${span.text}`);
    screen.changed();
  }

  const digit = (n) => {
    const span = passage.selected();
    if (n === 0 && !span) { none.click(); return true; }
    if (!span || !field.options[n - 1]) return false;
    add(field.options[n - 1], span);
    return true;
  };
  screen.sources.forEach((source) => field.evidence && source.passage.open());
  return {
    node,
    stops: [{ node: passage.node, focus: () => passage.node.focus(), digit, field: node }],
    value: () => marks,
    fill(value) { marks = Array.isArray(value) ? value.map((m) => ({ ...m })) : undefined; active = (marks?.length ?? 0) - 1; draw(); },
    lacks: () => "Mark a passage, or press 0 if there is nothing to mark.",
    passage,
    labels: field.options,
    add,
    proves: () => (field.evidence && marks?.[active] ? marks[active] : null),
    prove(context, span) {
      if (!marks?.[active]) return;
      marks[active].evidence = { context, ...span };
      getSelection().removeAllRanges();
      draw();
      screen.announce(`Evidence for ${marks[active].text}: ${span.text}`);
      screen.changed();
    },
  };
}

// Answers to one prompt, each with a rank; the same rank is a tie.
function ranking(field, ask, screen) {
  const n = ask.answers.length;
  const every = ask.answers.map((answer, i) => {
    const letter = String.fromCharCode(65 + i);
    const ranks = Array.from({ length: n }, (_, k) => k + 1);
    const group = radios(`f${count++}`, ranks, ranks.map(() => ""), ranks, screen.changed);
    group.node.classList.add("scale");
    group.node.querySelectorAll("input").forEach((input, k) => input.setAttribute("aria-label", `rank ${k + 1}`));
    const bad = el("input", { type: "checkbox", onchange: screen.changed });
    const move = (by) => { group.digit(Math.max(1, Math.min(n, (group.value() ?? (by < 0 ? n + 1 : 0)) + by))); };
    const node = el("fieldset", { class: "field candidate-answer", tabIndex: -1 }, el("legend", {}, `Answer ${letter}`),
      el("div", { class: "text", dir: "auto" }, ...plain(answer.text)), el("div", { class: "row" }, el("span", { "aria-hidden": "true" }, "Rank"), group.node,
        el("button", { type: "button", "aria-label": `Answer ${letter} one rank better`, onclick: () => move(-1) }, "▲"),
        el("button", { type: "button", "aria-label": `Answer ${letter} one rank worse`, onclick: () => move(1) }, "▼"),
        el("label", { class: "tick" }, bad, " unacceptable ", el("kbd", { "aria-hidden": "true" }, "x"))));
    const key = (k) => (k === "x" ? (bad.click(), true) : k === "b" ? (allBad(), true) : false);
    return { id: answer.id, group, bad, node, stop: { node, focus: focusOn(node), digit: group.digit, key, advance: true } };
  });
  function allBad() {
    const all = every.every((one) => one.bad.checked);
    every.forEach((one) => { one.bad.checked = !all; if (!all && one.group.value() === undefined) one.group.fill(1); });
    screen.changed();
  }
  const node = el("div", { class: "ranking" }, el("p", { class: "hint" }, "1 is best. The same rank for two answers is a tie."), ...every.map((one) => one.node),
    el("button", { type: "button", onclick: allBad }, "All of them are bad ", el("kbd", {}, "b")));
  return {
    node,
    stops: every.map((one) => one.stop),
    extra: "unacceptable",
    value() {
      const groups = new Map();
      for (const one of every) {
        const rank = one.group.value();
        if (rank !== undefined) groups.set(rank, [...(groups.get(rank) ?? []), one.id]);
      }
      return groups.size ? [...groups.keys()].sort((a, b) => a - b).map((rank) => groups.get(rank)) : undefined;
    },
    more: () => every.filter((one) => one.bad.checked).map((one) => one.id),
    fill(value, more) {
      every.forEach((one) => {
        const at = (value ?? []).findIndex((group) => group.includes(one.id));
        one.group.fill(at < 0 ? undefined : at + 1);
        one.bad.checked = more?.includes(one.id) ?? false;
      });
    },
    partial: true,
    lacks: () => (every.every((one) => one.group.value() !== undefined) ? "" : "Give every answer a rank; the same rank is a tie."),
  };
}
