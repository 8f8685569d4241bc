"use strict";
// A case: zoom and pan, the overlay, and the keys that its buttons show.
const $ = (id) => document.getElementById(id);
const view = $("view"), stage = $("stage"), picture = $("picture"), layer = $("layer"), opacity = $("opacity"), state = $("state");
const LARGEST = 16;
let scale = 1, x = 0, y = 0;

function fitted() {
  return Math.min(view.clientWidth / picture.naturalWidth, view.clientHeight / picture.naturalHeight);
}

function place() {
  const width = picture.naturalWidth * scale, height = picture.naturalHeight * scale;
  // what is smaller than the view is centred, what is larger covers it
  x = width <= view.clientWidth ? (view.clientWidth - width) / 2 : Math.min(0, Math.max(view.clientWidth - width, x));
  y = height <= view.clientHeight ? (view.clientHeight - height) / 2 : Math.min(0, Math.max(view.clientHeight - height, y));
  stage.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  picture.classList.toggle("near", scale > 3);
}

function zoom(factor, atX = view.clientWidth / 2, atY = view.clientHeight / 2) {
  const next = Math.min(LARGEST, Math.max(fitted(), scale * factor));
  x = atX - (atX - x) * (next / scale);
  y = atY - (atY - y) * (next / scale);
  scale = next;
  place();
}

function move(right, down) {
  x += right;
  y += down;
  place();
}

function fit() {
  scale = fitted();
  place();
}

function showOverlay() {
  const on = $("overlay").getAttribute("aria-pressed") !== "true";
  $("overlay").setAttribute("aria-pressed", on);
  layer.hidden = !on;
  if (on && !layer.src) {
    state.textContent = state.dataset.working;
    layer.addEventListener("load", () => { state.textContent = ""; });
    layer.addEventListener("error", () => { state.textContent = state.dataset.failed; });
    layer.src = layer.dataset.src;
  }
}

function fade(change) {
  opacity.value = Number(opacity.value) + change;
  layer.style.opacity = opacity.value / 100;
}

picture.complete && picture.naturalWidth ? fit() : picture.addEventListener("load", fit);
window.addEventListener("resize", fit);
$("in").addEventListener("click", () => zoom(1.5));
$("out").addEventListener("click", () => zoom(1 / 1.5));
$("fit").addEventListener("click", fit);
if (layer) {
  $("overlay").addEventListener("click", showOverlay);
  opacity.addEventListener("input", () => fade(0));
  fade(0);
}
view.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = view.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });

// one pointer moves the picture, two zoom it
const pointers = new Map();
view.addEventListener("pointerdown", (event) => {
  view.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event);
});
for (const end of ["pointerup", "pointercancel"]) view.addEventListener(end, (event) => pointers.delete(event.pointerId));
view.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  if (pointers.size === 1) move(event.clientX - before.clientX, event.clientY - before.clientY);
  else {
    const [other] = [...pointers.values()].filter((pointer) => pointer.pointerId !== event.pointerId);
    const distance = (pointer) => Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY);
    const box = view.getBoundingClientRect();
    zoom(distance(event) / Math.max(1, distance(before)), (event.clientX + other.clientX) / 2 - box.left, (event.clientY + other.clientY) / 2 - box.top);
  }
  pointers.set(event.pointerId, event);
});

const click = (id) => () => $(id)?.click();
const keys = {
  "+": click("in"), "=": click("in"), "-": click("out"), "0": click("fit"), o: click("overlay"), z: undo, n: click("next"), l: click("list"),
  "[": () => layer && fade(-10), "]": () => layer && fade(10), "/": () => $("comment").focus(),
  ArrowLeft: () => move(60, 0), ArrowRight: () => move(-60, 0), ArrowUp: () => move(0, 60), ArrowDown: () => move(0, -60),
};
for (const button of document.querySelectorAll("button[data-key]")) keys[button.dataset.key] = () => button.click();

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.activeElement.blur();
  if (event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.repeat && !/^(Arrow|[-+=[\]])/.test(event.key)) return;  // a key held down decides once
  if (event.key.startsWith("Arrow") && event.target !== view && event.target !== document.body) return;
  const action = keys[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

const decide = $("decide"), comment = $("comment"), draft = decide.dataset.draft;
if (sessionStorage.getItem(draft)) {
  comment.value = sessionStorage.getItem(draft);
  $("kept").textContent = $("kept").dataset.kept;
}
comment.addEventListener("input", () => sessionStorage.setItem(draft, comment.value));

// a second click or key while the first is on its way files nothing else; a page that the browser shows again can be sent again
decide.addEventListener("submit", (event) => {
  if (decide.dataset.sent) return event.preventDefault();
  decide.dataset.sent = "yes";
  sessionStorage.setItem("sent", draft);
});
addEventListener("pageshow", () => { delete decide.dataset.sent; });

$("export").addEventListener("submit", async (event) => {
  if (event.submitter?.hasAttribute("formaction")) return;
  event.preventDefault();
  const form = event.target, saving = $("saving"), body = new URLSearchParams(new FormData(form));
  event.submitter.disabled = true;
  saving.textContent = saving.dataset.working;
  try {
    const response = await fetch(form.action, { method: "POST", body });
    if (response.status === 401) return location.reload();
    if (!response.ok) throw new Error((await response.json()).detail);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = /filename="(.*?)"/.exec(response.headers.get("content-disposition"))[1];
    link.click();
    saving.textContent = saving.dataset.done;
  } catch (error) {
    saving.textContent = `${saving.dataset.failed} ${error.message}`;
  } finally {
    event.submitter.disabled = false;
  }
});
