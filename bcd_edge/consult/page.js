
"use strict";
// SHA-256 (FIPS 180-4) and HMAC (RFC 2104): crypto.subtle is not there in a page that was opened from a file in every browser.
const primes = [];
for (let n = 2; primes.length < 64; n++) if (primes.every(prime => n % prime)) primes.push(n);
const fraction = x => Math.floor((x - Math.floor(x)) * 2 ** 32) | 0;
const K = primes.map(prime => fraction(Math.cbrt(prime)));
const START = primes.slice(0, 8).map(prime => fraction(Math.sqrt(prime)));

function sha256(bytes) {
  const padded = new Uint8Array(((bytes.length + 72) >> 6) << 6);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, bytes.length << 3);
  const turn = (x, n) => (x >>> n) | (x << (32 - n));
  const hash = START.slice(), w = new Int32Array(64);
  for (let block = 0; block < padded.length; block += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getInt32(block + 4 * i);
    for (let i = 16; i < 64; i++) {
      const s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >>> 3);
      const s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = hash;
    for (let i = 0; i < 64; i++) {
      const t1 = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const t2 = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => { hash[i] = (hash[i] + value) | 0; });
  }
  const result = new Uint8Array(32);
  hash.forEach((value, i) => new DataView(result.buffer).setInt32(4 * i, value));
  return result;
}

const hex = bytes => Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");

function hmac(keyHex, text) {
  const key = new Uint8Array(64);
  key.set(keyHex.match(/../g).map(pair => parseInt(pair, 16)));
  const message = new TextEncoder().encode(text);
  const joined = (mask, bytes) => { const all = new Uint8Array(64 + bytes.length); all.set(key.map(byte => byte ^ mask)); all.set(bytes, 64); return all; };
  return hex(sha256(joined(0x5c, sha256(joined(0x36, message)))));
}

const box = JSON.parse(document.getElementById("case").textContent);
const pictures = JSON.parse(box.package).pictures;
const articles = Array.from(document.querySelectorAll("article"));
const message = document.getElementById("message");
const _ = text => box.texts[text];
const opened = articles.map(() => false);
const blinded = articles.map(() => true);
let isChanged = false;

articles.forEach((article, index) => {
  const view = article.querySelector(".view"), overlay = article.querySelector(".overlay"), opacity = article.querySelector(".opacity");
  article.querySelector("details")?.addEventListener("toggle", () => { opened[index] = true; if (opacity) opacity.parentElement.hidden = false; });
  opacity?.addEventListener("input", () => { overlay.style.opacity = opacity.value / 100; });
  const picture = article.querySelector(".picture");
  // the whole picture, its own size if that is more, three times its size, and the whole again
  const enlarge = event => {
    const times = [1, 3].find(times => picture.naturalWidth * times > picture.width + 1), before = picture.width;
    view.classList.toggle("full", Boolean(times));
    const box = picture.getBoundingClientRect();
    picture.style.width = times ? picture.naturalWidth * times + "px" : "";
    if (!times || event.clientX === undefined) return;
    view.scrollLeft = (event.clientX - box.left) * (picture.width / before) - view.clientWidth / 2;
    view.scrollTop = (event.clientY - box.top) * (picture.width / before) - view.clientHeight / 2;
  };
  view.addEventListener("click", enlarge);
  view.addEventListener("keydown", event => { if (event.key === "Enter") { event.preventDefault(); enlarge(); } });
  article.querySelectorAll("input[type=radio]").forEach(radio => radio.addEventListener("change", () => { isChanged = true; blinded[index] = !opened[index]; }));
});

function opinion() {
  const decisions = articles.map((article, index) => {
    const chosen = article.querySelector("input[type=radio]:checked");
    const comment = document.getElementById("comment-" + index).value;
    return chosen && { sha256: pictures[index].sha256, decision: chosen.value, comment: comment, blinded: blinded[index] };
  }).filter(Boolean);
  const field = id => document.getElementById(id).value.trim();
  const given = { reader: field("reader"), place: field("place"), decisions: decisions };
  // the same for the same opinion, so that it counts once however often it is saved, and another for a changed one
  return { uid: hmac(box.key, JSON.stringify(given)).slice(0, 32), decided_at: new Date().toISOString(), ...given };
}

function show(text, isProblem) {
  message.textContent = text;
  message.className = isProblem ? "problem" : "";
}

function save(content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  link.download = "opinion.json";
  document.body.append(link);
  link.click();
  link.remove();
}

async function send(content) {
  const response = await fetch(location.pathname, { method: "POST", headers: { "Content-Type": "application/json" }, body: content });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.detail || _("The clinic's server answered {status}.").replace("{status}", response.status));
}

document.getElementById("form").addEventListener("submit", async event => {
  event.preventDefault();
  const given = opinion();
  if (!given.decisions.length) return show(_("Decide on at least one picture first."), true);
  if (!given.reader) return show(_("Give your name first."), true);
  const text = JSON.stringify(given);
  const content = JSON.stringify({ package: box.package, seal: box.seal, opinion: text, signature: hmac(box.key, text) });
  try {
    if (box.link) await send(content); else save(content);
  } catch (error) {
    return show(_("The opinion was not sent. It is still on this page; try again.") + " " + error.message, true);
  }
  isChanged = false;
  const left = articles.length - given.decisions.length;
  const undecided = left === 1 ? _("{n} picture has no decision.") : _("{n} pictures have no decision.");
  const rest = left ? " " + undecided.replace("{n}", left) : "";
  show((box.link ? _("Sent. Thank you.") : _("Saved as opinion.json, where your browser keeps downloads.")) + rest, false);
});

addEventListener("beforeunload", event => { if (isChanged) event.preventDefault(); });
