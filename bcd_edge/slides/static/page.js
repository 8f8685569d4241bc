"use strict";
const slide = window.BCD_EDGE_SLIDE;
const element = (id) => document.getElementById(id);
const text = (id, value) => { element(id).textContent = value; };

text("name", slide.name);
text("answer", `${slide.decision}; p(malignant) ${slide.p_malignant.toFixed(3)}, the ${slide.aggregation}.`);
document.title = `bcd-edge: ${slide.name}`;
for (const [name, count] of slide.counts) {
  const row = element("counts").insertRow();
  row.insertCell().textContent = name;
  row.insertCell().textContent = count;
}
for (const reason of slide.reasons) {
  element("reasons").appendChild(document.createElement("li")).textContent = reason;
}

const perPixel = slide.page.width / slide.width; // the file's lengths are pixels of its full resolution
const grid = slide.grid;
const viewer = new Viewer(element("viewer"), slide.page, (level, column, row) => `pyramid/${level}/${column}_${row}.jpg`, () => bar());
const rectangle = (x, y, width, height) => [x, y, width, height].map((length) => length * perPixel);
const tileRectangle = (column, row) => rectangle( // the last ones end where the slide ends
  Math.min(column * grid.step, Math.max(0, slide.width - grid.side)), Math.min(row * grid.step, Math.max(0, slide.height - grid.side)), grid.side, grid.side);

const heat = document.createElement("img");
heat.className = "heat";
heat.alt = "";
heat.src = "tiles.png";
const beyond = (length, count) => Math.max(0, 100 * (1 - length / (count * grid.step)));
heat.style.clipPath = `inset(0 ${beyond(slide.width, grid.columns)}% ${beyond(slide.height, grid.rows)}% 0)`;
const mark = document.createElement("div");
mark.className = "mark";
const setOpacity = () => { heat.style.opacity = element("opacity").value / 100; };
element("opacity").addEventListener("input", setOpacity);
setOpacity();

viewer.overlay(heat, ...rectangle(0, 0, grid.columns * grid.step, grid.rows * grid.step));

const answers = new Map(slide.tiles.map((tile) => [tile[1] * grid.columns + tile[0], tile]));
const described = ([column, row, p, decision]) => (p === null ? `left out: ${slide.left_out[decision]}` : `p ${p.toFixed(3)}, ${decision}`);

const show = ([column, row, p, decision]) => {
  viewer.overlay(mark, ...tileRectangle(column, row));
  viewer.fit(...rectangle((column - 1) * grid.step, (row - 1) * grid.step, grid.side + 2 * grid.step, grid.side + 2 * grid.step));
  text("here", `Tile ${column}, ${row}: ${described([column, row, p, decision])}`);
};
for (const tile of slide.suspicious) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = described(tile);
  button.addEventListener("click", () => show(tile));
  element("suspicious").appendChild(document.createElement("li")).append(button);
}

element("viewer").addEventListener("pointermove", (event) => {
  const { x, y } = viewer.place(event);
  const tile = answers.get(Math.floor(y / perPixel / grid.step) * grid.columns + Math.floor(x / perPixel / grid.step));
  text("here", tile ? `Tile ${tile[0]}, ${tile[1]}: ${described(tile)}` : "No tile: glass.");
});

function bar() {
  const pixels = viewer.scale * perPixel; // of the screen per pixel of the slide
  const um = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].findLast((length) => length / slide.um_per_pixel * pixels <= 160) ?? 1;
  element("bar").style.width = `${um / slide.um_per_pixel * pixels}px`;
  text("length", um >= 1000 ? `${um / 1000} mm` : `${um} µm`);
  mark.style.borderWidth = `${3 / viewer.scale}px`;
  mark.style.boxShadow = `0 0 0 ${2 / viewer.scale}px #fff`;
}

element("in").addEventListener("click", () => viewer.zoom(1.6));
element("out").addEventListener("click", () => viewer.zoom(1 / 1.6));
element("home").addEventListener("click", () => viewer.home());
