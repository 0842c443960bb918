// One candidate a screen: who are you, what is next, save. All that is kept in the browser is what was begun.

import { $, el, plain, prose, typing, words } from "./dom.js";
import { control } from "./fields.js";
import { Passage } from "./marks.js";

const REASONS = ["I am not sure", "The conversation or the sources do not suffice", "The text is broken", "I should not see this"];
const KEEP_MS = 5 * 60 * 1000;
const FORGET_DRAFTS_MS = 30 * 24 * 3600 * 1000;

let me = null;       // {annotator, role}
let shown = null;    // the screen: {batch_id, candidate_id, asks: [{…, controls, skipped, ms}], …}
let current = 0;     // the ask in which the person is
let past = -1;       // how far back in the own answers; -1: not at all
let busy = false;
let kept = 0;
const catalogues = new Map();

// ---- the server

async function call(path, body) {
  let response;
  try {
    response = await fetch(path, body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  } catch {
    throw new Error("The server can't be reached. What you wrote is kept here; try again in a moment.");
  }
  const document = await response.json().catch(() => ({}));
  if (response.status === 401 && path !== "/api/sign-in") askWho(document.token_needed);
  if (!response.ok && response.status !== 422) throw new Error(document.message || `The server answered ${response.status}.`);
  return document;
}

const query = (path, values) => `${path}?${new URLSearchParams(values)}`;

// Runs one thing at a time; what goes wrong is told, and nothing is lost by it.
async function once(action) {
  if (busy) return;
  busy = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    await action();
  } catch (error) {
    say(error.message, true);
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
}

function say(text, bad = false) {
  $("message").textContent = text;
  $("message").className = bad ? "bad" : "";
}

// ---- who

function askWho(tokenNeeded) {
  me = null;
  for (const id of ["work", "done", "menu", "actions", "tally", "palette"]) $(id).hidden = true;
  $("sign-in").hidden = false;
  $("token-part").hidden = !tokenNeeded;
  $("expert-part").hidden = tokenNeeded;
  $("name").focus();
}

async function enter(annotator, token, expert) {
  me = await call("/api/sign-in", { annotator, token, expert });
  $("token").value = "";
  await started();
}

async function started() {
  $("sign-in").hidden = true;
  $("menu").hidden = false;
  $("who").textContent = me.role === "expert" ? `${me.annotator} (expert)` : me.annotator;
  forgetOldDrafts();
  await next();
}

// ---- what is next

async function next() {
  past = -1;
  const found = await call("/api/next", {});
  if (found.tally) {
    const t = found.tally;
    $("bar").max = Math.max(1, t.asked);
    $("bar").value = t.answered;
    $("tally-text").textContent = `${t.answered} of ${t.asked} complete · ${t.mine} by you`;
  }
  $("tally").hidden = !found.tally;
  if (found.screen) return open(found.screen);
  shown = null;
  for (const id of ["work", "actions", "palette"]) $(id).hidden = true;
  $("done").hidden = false;
  $("look-again").focus();
}

async function previous(by = 1) {
  const { history } = await call("/api/history");
  if (!history.length) return say("You have not answered anything yet.");
  const at = past + by;
  if (at < 0) return next();
  if (at >= history.length) return say("This is your first answer.");
  const [batch_id, candidate_id] = history[at];
  const found = await call(query("/api/own", { batch_id, candidate_id }));
  past = at;
  open(found.screen);
  say("Your earlier answer: change it, take it back, or go back to the next one.");
}

function open(screen) {
  say("");
  shown = screen;
  current = 0;
  $("done").hidden = true;
  $("work").hidden = $("actions").hidden = false;
  screen.announce = say;
  screen.changed = changed;
  screen.approved = () => approved(screen.batch_id);
  screen.passages = { question: new Passage(screen.question, "Question", "word"), response: new Passage(screen.response, "Answer", "word") };
  screen.sources = screen.contexts.map((c, i) => ({ ...c, passage: new Passage(c.text, `Document ${i + 1}`, "sentence"), slot: el("div") }));
  $("form").replaceChildren(...screen.asks.map(section));
  $("material").replaceChildren(...material(screen));
  $("take-back").hidden = $("forward").hidden = past < 0;
  $("save").replaceChildren(past < 0 ? "Save and next " : "Save the change ", el("kbd", {}, "Enter"));
  screen.asks.forEach(restore);
  whens();
  $("guideline").hidden || showGuideline(true);
  scrollTo(0, 0);
  stops()[0]?.focus();
  scrollTo(0, 0);
}

function material(screen) {
  const turn = (role, node, name = role) => el("div", { class: `turn ${role}` }, el("h3", {}, name), node);
  const roles = { user: "User", assistant: "Assistant", system: "System", tool: "Tool" };
  const history = screen.history.map((m) => turn(roles[m.role] ? m.role : "other", el("div", { class: "passage", dir: "auto" }, ...plain(m.text)), roles[m.role] ?? m.role));
  const far = history.length > 6 ? history.splice(0, history.length - 4) : []; // a long story must not hide the question
  return [
    el("h2", {}, "Conversation"), far.length ? el("details", { class: "earlier" }, el("summary", {}, `${far.length} earlier messages`), ...far) : "", ...history,
    turn("user asked", screen.passages.question.node, "User · this question"),
    screen.response ? turn("assistant asked", screen.passages.response.node, "Assistant · this answer") : "",
    screen.sources.length ? el("h2", { id: "sources", tabIndex: -1 }, `Sources (${screen.sources.length})`) : "",
    ...screen.sources.map((s, i) => el("article", { class: "source", "aria-label": `Document ${i + 1}` }, el("h3", {}, `Document ${i + 1}`, el("small", { dir: "auto" }, ...plain(s.title ? ` ${s.title}` : ""))), s.passage.node, s.slot)),
  ];
}

function section(ask, at) {
  ask.ms = 0;
  ask.skipped = "";
  ask.controls = ask.fields.map((field) => ({ field, ...control(field, ask, shown) }));
  ask.note = el("textarea", { rows: 2, maxlength: 2000, dir: "auto", oninput: changed, "aria-label": "Note" });
  ask.more = el("details", { class: "note" }, el("summary", {}, "Note ", el("kbd", {}, "n")), ask.note);
  ask.error = el("p", { class: "error", role: "alert" });
  ask.skip = el("p", { class: "skipped", hidden: true });
  const title = `ask-${at}`;
  ask.node = el("section", { class: "ask", "aria-labelledby": title, onfocusin: () => (current = at) },
    el("h2", { id: title }, ask.question),
    ask.role === "expert" ? votes(ask) : "",
    ask.skip, ...ask.controls.map((c) => c.node), ask.more, ask.error);
  return ask.node;
}

// What others said, for who decides what they disagreed about.
function votes(ask) {
  const rows = ask.votes.map((v) => el("li", {}, el("span", { dir: "auto" }, ...plain(inWords(v.value))), v.note ? el("small", { dir: "auto" }, ...plain(` ${v.note}`)) : ""));
  return el("div", { class: "votes" }, el("h3", {}, "What others answered"), rows.length ? el("ul", {}, ...rows) : el("p", { class: "hint" }, "No answers are here to see."),
    el("p", { class: "hint" }, "You decide. Say in a note why."));
}

function inWords(value) {
  return Object.entries(value).map(([name, v]) => `${words(name)}: ${typeof v === "string" ? words(v) : Array.isArray(v) && v.every((s) => s?.label) ? v.map((s) => `${words(s.label)} “${s.text}”`).join(", ") || "nothing" : JSON.stringify(v)}`).join(" · ");
}

function approved(batch) {
  if (!catalogues.has(batch)) {
    catalogues.set(batch, call(query("/api/approved", { batch_id: batch })).then((d) => d.approved, (e) => { catalogues.delete(batch); say(e.message, true); return []; }));
  }
  return catalogues.get(batch);
}

// ---- fields

const asked = (ask, field) => !field.when || ask.controls.find((c) => c.field.name === field.when[0])?.value() === field.when[1];

function whens() {
  for (const ask of shown.asks) {
    for (const c of ask.controls) {
      if (c.field.when) c.node.hidden = !asked(ask, c.field);
    }
  }
}

const stops = () => shown.asks.flatMap((ask, at) => ask.skipped ? [] : ask.controls.filter((c) => !c.node.hidden).flatMap((c) => c.stops.map((s) => ({ ...s, at, control: c }))));

function here(all = stops()) {
  const active = document.activeElement;
  const found = all.findIndex((s) => s.node.contains(active) || s.field?.contains(active));
  return found >= 0 ? found : Math.max(0, all.findIndex((s) => s.at === current));
}

function go(by) {
  const all = stops();
  if (!all.length) return;
  const to = all[Math.max(0, Math.min(all.length - 1, here(all) + by))];
  current = to.at;
  to.focus();
  to.node.scrollIntoView({ block: "nearest" });
}

function valueOf(ask) {
  const value = {};
  for (const c of ask.controls) {
    const v = asked(ask, c.field) ? c.value() : undefined;
    if (v !== undefined) value[c.field.name] = v;
    if (c.extra && c.more().length) value[c.extra] = c.more();
  }
  return value;
}

function fill(ask, value) {
  for (const c of ask.controls) c.fill(value[c.field.name], value[c.extra]);
}

function changed() {
  if (!shown || busy) return;
  whens();
  for (const ask of shown.asks) {
    ask.error.textContent = "";
    ask.doubted = false;
    keepDraft(ask);
  }
  if (past < 0 && Date.now() - kept > KEEP_MS) {
    kept = Date.now();
    call("/api/keep", { batch_id: shown.batch_id, candidate_id: shown.candidate_id }).catch(() => {});
  }
}

// ---- drafts

const draftKey = (ask) => `review/${me.annotator}/${ask.ask_id}/${ask.content_hash}`;

function keepDraft(ask) {
  try {
    localStorage.setItem(draftKey(ask), JSON.stringify({ value: valueOf(ask), note: ask.note.value, skipped: ask.skipped, ms: ask.ms, at: Date.now() }));
  } catch {
    say("This browser keeps no drafts; save before you leave.", true);
  }
}

function restore(ask) {
  let draft = null;
  try {
    draft = JSON.parse(localStorage.getItem(draftKey(ask)));
  } catch { /* a draft that can't be read is none */ }
  const from = draft ?? (ask.mine ? { value: ask.mine.value, note: ask.mine.note, skipped: ask.mine.status === "skipped" ? ask.mine.note : "", ms: 0 } : null);
  if (!from) return;
  try {
    fill(ask, from.value ?? {});
  } catch { /* the kind has other fields now */ }
  ask.note.value = from.skipped ? "" : from.note ?? "";
  ask.more.open = Boolean(ask.note.value);
  ask.ms = from.ms ?? 0;
  if (from.skipped) setSkipped(ask, from.skipped);
  if (draft) say("Your draft is back.");
}

function forgetOldDrafts() {
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith("review/")) continue;
    let at = 0;
    try { at = JSON.parse(localStorage.getItem(key)).at; } catch { /* goes */ }
    if (!(Date.now() - at < FORGET_DRAFTS_MS)) localStorage.removeItem(key);
  }
}

// ---- time that the page was looked at

let since = performance.now();
setInterval(tick, 1000);
document.addEventListener("visibilitychange", tick);
function tick() {
  const now = performance.now();
  if (shown && past < 0 && document.visibilityState === "visible") shown.asks[current].ms += Math.min(now - since, 2000);
  since = now;
}

// ---- save, skip, take back

function problem(ask) {
  for (const c of ask.controls) {
    if (!asked(ask, c.field)) continue;
    const value = c.value();
    const lacks = value === undefined ? c.field.required && (c.lacks?.() || `Choose: ${words(c.field.name)}.`) : c.partial && c.lacks();
    if (lacks) return { stop: c.stops[0], text: lacks };
    const doubt = !ask.doubted && past < 0 && c.doubt?.();
    if (doubt) {
      ask.doubted = true;
      return { stop: c.stops[0], text: doubt };
    }
  }
  return null;
}

async function save() {
  tick();
  const rows = [];
  for (const ask of shown.asks) {
    const wrong = ask.skipped ? null : problem(ask);
    if (wrong) return complain(ask, wrong.text, wrong.stop);
    const seconds = Math.round(ask.ms / 100) / 10;
    rows.push(ask.skipped
      ? { ask_id: ask.ask_id, status: "skipped", value: {}, note: ask.skipped, seconds }
      : { ask_id: ask.ask_id, status: "submitted", value: valueOf(ask), note: ask.note.value.trim(), seconds });
  }
  await send(rows, "Saved.");
}

const takeBack = () => send(shown.asks.map((a) => ({ ask_id: a.ask_id, status: "withdrawn", value: {}, note: "", seconds: 0 })), "Taken back.");

async function send(rows, done) {
  const { wrong } = await call("/api/answers", { answers: rows });
  if (wrong.length) {
    const gone = wrong.filter((w) => w.code === "unknown_ask" || w.code === "not_yours");
    for (const w of wrong) complain(shown.asks.find((a) => a.ask_id === w.ask_id), w.message);
    if (gone.length === rows.length) { await next(); say("That one is asked no longer; here is the next."); }
    return;
  }
  shown.asks.forEach((ask) => localStorage.removeItem(draftKey(ask)));
  await next();
  say(done);
}

function complain(ask, text, stop) {
  ask.error.textContent = text;
  ask.node.scrollIntoView({ block: "nearest" });
  (stop ?? ask.controls[0].stops[0]).focus();
}

function askWhy() {
  const labels = REASONS.map((reason, i) => el("label", { class: "option" }, el("input", { type: "radio", name: "why", value: reason }), el("kbd", { "aria-hidden": "true" }, String(i + 1)), el("span", {}, reason)));
  $("reasons").replaceChildren(...labels);
  $("reason").value = "";
  $("why").showModal();
  labels[0].querySelector("input").focus();
}

function skipNow() {
  const reason = $("reason").value.trim() || document.querySelector("#reasons input:checked")?.value;
  if (!reason) return $("reason").focus();
  $("why").close();
  const ask = shown.asks[current];
  setSkipped(ask, reason);
  keepDraft(ask);
  if (shown.asks.every((a) => a.skipped)) once(save);
  else go(0);
}

function setSkipped(ask, reason) {
  ask.skipped = reason;
  ask.skip.hidden = !reason;
  ask.skip.replaceChildren(el("span", { dir: "auto" }, "Skipped: ", ...plain(reason)), el("button", { type: "button", onclick: () => { setSkipped(ask, ""); keepDraft(ask); ask.controls[0].stops[0].focus(); } }, "Answer it after all"));
  ask.controls.forEach((c) => (c.node.hidden = Boolean(reason)));
  ask.error.textContent = "";
  if (!reason) whens();
}

// ---- panels

async function showGuideline(open = $("guideline").hidden) {
  const panel = $("guideline");
  panel.hidden = !open;
  $("show-guideline").setAttribute("aria-expanded", String(open));
  document.body.classList.toggle("guided", open);
  if (!open || !shown) return;
  const versions = [...new Set(shown.asks.map((a) => a.guideline).filter(Boolean))];
  const texts = await Promise.all(versions.map((version) => call(query("/api/guideline", { batch_id: shown.batch_id, version })).then((d) => d.text, () => "This guideline is not in the batch.")));
  panel.replaceChildren(el("button", { type: "button", class: "close", onclick: () => showGuideline(false) }, "Close ", el("kbd", {}, "g")),
    ...versions.flatMap((version, i) => [el("h2", {}, "Guideline ", el("small", {}, version)), ...prose(texts[i])]), versions.length ? "" : el("p", {}, "These questions name no guideline."));
}

async function showProgress() {
  const { batches, cap, unreadable } = await call("/api/progress");
  const percent = (share) => `${Math.round(share * 100)} %`;
  $("progress-body").replaceChildren(
    ...batches.map((b) => el("section", { "aria-label": b.batch_id }, el("h3", {}, b.batch_id), el("progress", { max: Math.max(1, b.asked), value: b.answered, "aria-label": `${b.batch_id}: complete` }),
      el("p", {}, `${b.asked} questions: ${b.answered} complete, ${b.open} open · ${b.mine} answered by you${cap ? ` of at most ${cap}` : ""}${b.due ? ` · due ${b.due.slice(0, 10)}` : ""}`),
      b.agreement.length ? el("table", {}, el("caption", {}, "Pairs of answers that agree"), el("thead", {}, el("tr", {}, ...["Question", "Agree", "Candidates"].map((h) => el("th", { scope: "col" }, h)))),
        el("tbody", {}, ...b.agreement.map((a) => el("tr", {}, el("th", { scope: "row" }, words(a.kind)), el("td", {}, percent(a.share)), el("td", {}, String(a.candidates)))))) : el("p", { class: "hint" }, "Agreement is shown from five candidates with two answers on."))),
    ...Object.entries(unreadable).map(([name, why]) => el("p", { class: "error" }, `${name} can't be read: ${why}`)),
    batches.length ? "" : el("p", {}, "No batch has been sent yet: flywheel send writes one."));
  $("progress").showModal();
}

// ---- the palette: what may be done with the selected text

function marker() {
  if (!shown) return null;
  const marking = shown.asks.flatMap((ask, at) => ask.skipped ? [] : ask.controls.filter((c) => c.passage).map((c) => ({ ask, at, c })));
  marking.sort((a, b) => Math.abs(a.at - current) - Math.abs(b.at - current));
  for (const { c } of marking) {
    const span = c.passage.selected();
    if (span) return { span, labels: c.labels, take: (label) => c.add(label, span), control: c };
  }
  for (const [i, source] of shown.sources.entries()) {
    const span = source.passage.selected();
    const proving = span && marking.find(({ c }) => c.proves());
    if (proving) return { span, evidence: () => proving.c.prove(i, span), of: proving.c.proves().text };
  }
  return null;
}

let painting = 0;
document.addEventListener("selectionchange", () => {
  cancelAnimationFrame(painting);
  painting = requestAnimationFrame(() => {
    const found = marker();
    $("palette").hidden = !found;
    if (!found) return;
    // A press must not take the selection away before it is used.
    const button = (key, label, tone, take) => el("button", { type: "button", class: tone, onpointerdown: (e) => e.preventDefault(), onclick: take }, el("kbd", {}, key), " ", label);
    $("palette").replaceChildren(...(found.evidence
      ? [button("e", `Evidence for “${found.of.length > 40 ? `${found.of.slice(0, 40)}…` : found.of}”`, "", found.evidence)]
      : found.labels.map((label, i) => button(String(i + 1), words(label), `tone-${i % 6}`, () => found.take(label)))));
  });
});

// ---- keys

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.isComposing) return;
  const dialog = document.querySelector("dialog[open]");
  if (dialog) return inDialog(event, dialog);
  if (!me) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    if (shown) { event.preventDefault(); once(save); }
    return;
  }
  if (event.ctrlKey || event.metaKey) return;
  if (typing(event.target)) {
    if (event.key === "Escape") (event.target.closest("fieldset") ?? $("form")).focus();
    return;
  }
  if (busy) return; // the screen is about to be another one
  const take = keyed(event);
  if (take) {
    event.preventDefault();
    if (take !== true) take();
  }
});

function keyed(event) {
  const { key } = event;
  if (key === "?") return () => $("help").showModal();
  if (key === "p") return () => once(showProgress);
  if (key === "u") return () => once(previous);
  if (!shown) return null;
  if (key === "g") return () => once(showGuideline);
  if (key === "s") return askWhy;
  if (key === "n") return () => { const ask = shown.asks[current]; ask.more.open = true; ask.note.focus(); };
  if (key === "c" && shown.sources.length) return () => (shown.sources[0].passage.node.tabIndex === 0 ? shown.sources[0].passage.node : $("sources")).focus();
  if (key === "ArrowDown" || key === "ArrowUp") return () => go(key === "ArrowDown" ? 1 : -1);
  if (key === "Enter") return ["button", "a", "summary"].includes(event.target.localName) ? null : () => once(save);
  const found = marker();
  if (key === "e") return found?.evidence ?? null;
  if (/^[0-9]$/.test(key)) {
    if (found?.control && found.labels[Number(key) - 1]) return () => found.take(found.labels[Number(key) - 1]);
    const all = stops();
    const stop = all[here(all)];
    if (!stop?.digit(Number(key))) return null;
    const following = all[here(all) + 1];
    if (stop.advance && following && following.at === stop.at && following.control.field.type === stop.control.field.type) go(1);
    return true;
  }
  const all = stops();
  return all[here(all)]?.key?.(key) ? true : null;
}

function inDialog(event, dialog) {
  if (dialog.id !== "why" || (typing(event.target) && event.key !== "Enter")) return;
  const reasons = [...document.querySelectorAll("#reasons input")];
  if (/^[1-9]$/.test(event.key) && reasons[Number(event.key) - 1]) {
    reasons[Number(event.key) - 1].click();
    reasons[Number(event.key) - 1].focus();
    event.preventDefault();
  } else if (event.key === "Enter" && event.target.localName !== "button") {
    event.preventDefault();
    skipNow();
  }
}

// ---- buttons

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  once(() => enter($("name").value.trim(), $("token").value.trim(), $("expert").checked));
});
const buttons = {
  "show-guideline": () => once(showGuideline), "show-progress": () => once(showProgress), "show-help": () => $("help").showModal(),
  "sign-out": () => once(async () => { await call("/api/sign-out", {}); location.reload(); }),
  "look-again": () => once(next), "done-previous": () => once(previous), previous: () => once(previous), forward: () => once(next),
  skip: askWhy, save: () => once(save), "take-back": () => once(takeBack), "skip-now": skipNow, "skip-not": () => $("why").close(),
};
for (const [id, action] of Object.entries(buttons)) $(id).addEventListener("click", () => action());

// ---- start: a personal link is /?ana#token; the token leaves the address at once

once(async () => {
  const name = decodeURIComponent(location.search.slice(1));
  const token = location.hash.slice(1);
  if (location.search || location.hash) history.replaceState(null, "", "/");
  if (name && token) {
    try {
      return await enter(name, token, false);
    } catch (error) {
      askWho(true);
      $("name").value = name;
      throw error;
    }
  }
  const found = await call("/api/me");
  if (!found.annotator) return askWho(found.token_needed);
  me = found;
  await started();
});
