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

const reduced = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
const viewer = OpenSeadragon({
  id: "viewer",
  drawer: "canvas", // textures may not come from files
  showNavigationControl: false,
  showNavigator: true,
  animationTime: reduced ? 0 : 0.6,
  maxZoomPixelRatio: 8,
  gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  tileSources: {
    width: slide.page.width,
    height: slide.page.height,
    tileSize: slide.page.tile,
    tileOverlap: 0,
    minLevel: 0,
    maxLevel: slide.page.levels - 1,
    getTileUrl: (level, x, y) => `pyramid/${level}/${x}_${y}.jpg`,
  },
});

// In the viewport the slide is 1 wide; all lengths of the file are pixels of its full resolution.
const rectangle = (x, y, width, height) => new OpenSeadragon.Rect(x / slide.width, y / slide.width, width / slide.width, height / slide.width);
const grid = slide.grid;
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

viewer.addHandler("open", () => {
  viewer.addOverlay({ element: heat, location: rectangle(0, 0, grid.columns * grid.step, grid.rows * grid.step) });
});

const answers = new Map(slide.tiles.map((tile) => [tile[1] * grid.columns + tile[0], tile]));
const described = ([column, row, p, decision]) => (p === null ? `left out: ${slide.left_out[decision]}` : `p ${p.toFixed(3)}, ${decision}`);

const show = ([column, row, p, decision]) => {
  const place = tileRectangle(column, row);
  viewer.removeOverlay(mark);
  viewer.addOverlay({ element: mark, location: place });
  viewer.viewport.fitBounds(rectangle((column - 1) * grid.step, (row - 1) * grid.step, grid.side + 2 * grid.step, grid.side + 2 * grid.step), reduced);
  text("here", `Tile ${column}, ${row}: ${described([column, row, p, decision])}`);
};
for (const tile of slide.suspicious) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = described(tile);
  button.addEventListener("click", () => show(tile));
  element("suspicious").appendChild(document.createElement("li")).append(button);
}

new OpenSeadragon.MouseTracker({
  element: viewer.container,
  moveHandler: (event) => {
    const point = viewer.viewport.pointFromPixel(event.position).times(slide.width);
    const tile = answers.get(Math.floor(point.y / grid.step) * grid.columns + Math.floor(point.x / grid.step));
    text("here", tile ? `Tile ${tile[0]}, ${tile[1]}: ${described(tile)}` : "No tile: glass.");
  },
});

const bar = () => {
  const pixels = viewer.viewport.getContainerSize().x * viewer.viewport.getZoom(true) / slide.width; // of the screen per pixel of the slide
  const um = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].findLast((length) => length / slide.um_per_pixel * pixels <= 160) ?? 1;
  element("bar").style.width = `${um / slide.um_per_pixel * pixels}px`;
  text("length", um >= 1000 ? `${um / 1000} mm` : `${um} µm`);
};
viewer.addHandler("update-viewport", bar);

element("in").addEventListener("click", () => viewer.viewport.zoomBy(1.6));
element("out").addEventListener("click", () => viewer.viewport.zoomBy(1 / 1.6));
element("home").addEventListener("click", () => viewer.viewport.goHome());
