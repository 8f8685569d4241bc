"use strict";
// The live page: the answer beside the picture, its trend over a minute, and a key that stores the frame.
const $ = (id) => document.getElementById(id);
const PERIOD_MS = 200, TREND_MS = 60000;
const words = $("decision").dataset;
let trend = [], answered = null, frames = 0;  // a trend's point without p is a gap

function word(name) {
  return words[name.replaceAll(" ", "-").replace(/-(.)/g, (_, letter) => letter.toUpperCase())] ?? name;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;  // so that a screen reader hears changes only
}

function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function tell(used) {
  const texts = $("used").dataset;
  say($("used"), !used ? texts.all : used.um ? filled(texts.um, used) : texts.part);
}

function remember(update) {
  const now = Date.now(), { smoothed } = update, isAnswered = update.state === "answered";
  const isAnew = smoothed && smoothed.frames < frames;  // between two looks the field has moved
  if ((!isAnswered || isAnew) && trend.length && trend.at(-1)[1] !== null) trend.push([now, null]);
  if (isAnswered && update.frame !== answered) trend.push([now, smoothed.p_malignant]);
  [answered, frames] = [update.frame, smoothed?.frames ?? 0];
  trend = trend.filter(([at]) => now - at < TREND_MS);
}

function path() {
  const now = Date.now();
  return trend.map(([at, p], index) => {
    if (p === null) return "";
    const point = `${(294 - 270 * (now - at) / TREND_MS).toFixed(1)},${(108 - 100 * p).toFixed(1)}`;
    return index && trend[index - 1][1] !== null ? `L${point}` : `M${point} L${point}`;
  }).join(" ");
}

function show(update, problem) {
  const smoothed = update?.smoothed;
  const state = update === null ? "waiting" : update.state === "answered" && smoothed ? smoothed.decision : update.state;
  const name = `verdict ${state.replaceAll(" ", "-")}`;
  if ($("decision").className !== name) $("decision").className = $("frame").className = name;
  say($("decision"), word(state));
  say($("reason"), problem || update?.reason || "");
  const figures = smoothed && { p: smoothed.p_malignant.toFixed(2), low: smoothed.low.toFixed(2), high: smoothed.high.toFixed(2) };
  say($("p"), figures ? filled($("p").dataset.text, figures) : "\u00a0");
  if (!update) return;
  say($("rate"), update.rate.toFixed(1));
  if (update.latency_ms !== null) say($("latency"), `${update.latency_ms.toFixed(0)} ms`);
  say($("dropped"), String(update.dropped));
  remember(update);
  $("trend").setAttribute("d", path());
}

async function poll() {
  try {
    const answer = await fetch("/live/state");
    if (answer.status === 401) return void location.reload();
    const { update, problem, used } = await answer.json();
    if (update) tell(used);
    show(update, problem);
  } catch {
    show(null, "");  // the server is away
  }
  setTimeout(poll, PERIOD_MS);
}

async function store(event) {
  event.preventDefault();
  const form = $("store"), stored = $("stored");
  stored.textContent = "";
  try {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail);
    const link = document.createElement("a");
    link.href = body.location;
    link.textContent = word(body.decision);
    stored.append(`${stored.dataset.stored} `, link);
  } catch (error) {
    stored.textContent = `${stored.dataset.failed} ${error.message}`;
  }
}

$("store")?.addEventListener("submit", store);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key !== "s") return;
  event.preventDefault();
  $("store")?.requestSubmit();
});
poll();
