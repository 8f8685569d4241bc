"use strict";
// The live page: the answer beside the picture, its trend over a minute, and a key that stores the frame.
const $ = (id) => document.getElementById(id);
const PERIOD_MS = 200, TREND_MS = 60000;
const words = $("decision").dataset;
let trend = [], answered = null;

function word(name) {
  return words[name.replaceAll(" ", "-").replace(/-(.)/g, (_, letter) => letter.toUpperCase())] ?? name;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;  // so that a screen reader hears changes only
}

function show(update, problem) {
  const smoothed = update?.smoothed, now = Date.now();
  const state = update === null ? "waiting" : update.state === "answered" && smoothed ? smoothed.decision : update.state;
  const name = `verdict ${state.replaceAll(" ", "-")}`;
  if ($("decision").className !== name) $("decision").className = $("frame").className = name;
  say($("decision"), word(state));
  say($("reason"), problem || update?.reason || "");
  say($("p"), smoothed ? smoothed.p_malignant.toFixed(2) : "");
  say($("interval"), smoothed ? `(${smoothed.low.toFixed(2)} - ${smoothed.high.toFixed(2)})` : "");
  if (!update) return;
  say($("rate"), update.rate.toFixed(1));
  if (update.latency_ms !== null) say($("latency"), `${update.latency_ms.toFixed(0)} ms`);
  say($("dropped"), String(update.dropped));
  if (update.state === "answered" && update.frame !== answered) trend.push([now, smoothed.p_malignant]);
  answered = update.frame;
  trend = trend.filter(([at]) => now - at < TREND_MS);
  const points = trend.map(([at, p]) => `${(300 * (1 - (now - at) / TREND_MS)).toFixed(1)},${(100 * (1 - p)).toFixed(1)}`);
  $("trend").setAttribute("points", points.join(" "));
}

async function poll() {
  try {
    const answer = await fetch("/live/state");
    if (answer.status === 401) return void location.reload();
    const { update, problem } = await answer.json();
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
