"use strict";
// A tiled picture to zoom into, as OpenSeadragon and maps show it: wheel, pinch, drag, double click, keys, an overview to click on.
// Lengths are pixels of the finest level; `scale` is CSS pixels of the screen for each.

const BASE_LEVEL = 9; // 512 pixels, one tile: what lies below finer tiles while they load, and the overview
const MOST_MAGNIFIED = 8;

class Viewer {
  // frame: the element it fills; size: {width, height, tile, levels}; url: (level, column, row) => address; onChange: after each movement
  constructor(frame, size, url, onChange) {
    Object.assign(this, { frame, size, url, onChange, tiles: new Map(), pointers: new Map(), scale: 0, left: 0, top: 0 });
    this.base = Math.min(BASE_LEVEL, size.levels - 1);
    this.scene = this.#add(frame, "div", "scene");
    this.scene.style.width = `${size.width}px`;
    this.scene.style.height = `${size.height}px`;
    this.overview = this.#add(frame, "div", "overview");
    const whole = this.#add(this.overview, "img", "");
    whole.alt = "";
    whole.src = url(this.base, 0, 0);
    this.window = this.#add(this.overview, "div", "window");
    this.#listen();
    new ResizeObserver(() => this.#resized()).observe(frame);
  }

  // Shows a rectangle, whole and in the middle.
  fit(x, y, width, height) {
    const { clientWidth, clientHeight } = this.frame;
    this.scale = this.#allowed(Math.min(clientWidth / width, clientHeight / height));
    this.left = x + width / 2 - clientWidth / this.scale / 2;
    this.top = y + height / 2 - clientHeight / this.scale / 2;
    this.#draw();
  }

  home() { this.fit(0, 0, this.size.width, this.size.height); }

  // Magnifies; the place under a point of the frame, by default its middle, stays there.
  zoom(factor, x = this.frame.clientWidth / 2, y = this.frame.clientHeight / 2) {
    const before = this.scale;
    this.scale = this.#allowed(before * factor);
    this.left += x / before - x / this.scale;
    this.top += y / before - y / this.scale;
    this.#draw();
  }

  // Moves by CSS pixels.
  move(x, y) {
    this.left += x / this.scale;
    this.top += y / this.scale;
    this.#draw();
  }

  // The place under the pointer.
  place(event) {
    const bounds = this.frame.getBoundingClientRect();
    return { x: this.left + (event.clientX - bounds.left) / this.scale, y: this.top + (event.clientY - bounds.top) / this.scale };
  }

  // Lays an element over a rectangle.
  overlay(element, x, y, width, height) {
    Object.assign(element.style, { position: "absolute", left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px`, zIndex: 100 });
    this.scene.append(element);
  }

  #add(parent, tag, name) {
    const element = document.createElement(tag);
    element.className = name;
    parent.append(element);
    return element;
  }

  #whole() { return Math.min(this.frame.clientWidth / this.size.width, this.frame.clientHeight / this.size.height); }

  #allowed(scale) {
    const least = Math.min(this.#whole(), 1);
    return Math.max(least, Math.min(Math.max(MOST_MAGNIFIED, least), scale));
  }

  #resized() {
    if (!this.frame.clientWidth || !this.frame.clientHeight) return;
    if (!this.scale) return this.home();
    this.zoom(1);
  }

  // Where the picture is smaller than the frame it stays in the middle, else the frame stays full.
  #kept(start, seen, length) {
    return seen >= length ? (length - seen) / 2 : Math.max(0, Math.min(length - seen, start));
  }

  #draw() {
    const { size, scale } = this;
    const [width, height] = [this.frame.clientWidth / scale, this.frame.clientHeight / scale];
    this.left = this.#kept(this.left, width, size.width);
    this.top = this.#kept(this.top, height, size.height);
    this.scene.style.transform = `scale(${scale}) translate(${-this.left}px, ${-this.top}px)`;
    const [across, down] = [Math.min(1, width / size.width), Math.min(1, height / size.height)];
    Object.assign(this.window.style, {
      left: `${100 * Math.max(0, this.left / size.width)}%`, top: `${100 * Math.max(0, this.top / size.height)}%`, width: `${100 * across}%`, height: `${100 * down}%`,
    });
    const small = Math.min(160 / size.width, 0.3 * this.frame.clientWidth / size.width, 0.4 * this.frame.clientHeight / size.height);
    Object.assign(this.overview.style, { width: `${size.width * small}px`, height: `${size.height * small}px` });
    this.overview.hidden = across === 1 && down === 1;
    this.#load(width, height);
    this.onChange();
  }

  #load(width, height) {
    const { size } = this;
    const finest = size.levels - 1;
    const level = Math.max(this.base, Math.min(finest, finest + Math.ceil(Math.log2(this.scale * window.devicePixelRatio))));
    const side = size.tile * 2 ** (finest - level);
    const wanted = new Set();
    for (let row = Math.max(0, Math.floor(this.top / side)); row * side < Math.min(size.height, this.top + height); row++) {
      for (let column = Math.max(0, Math.floor(this.left / side)); column * side < Math.min(size.width, this.left + width); column++) {
        wanted.add(`${level}/${column}/${row}`);
      }
    }
    for (const key of [`${this.base}/0/0`, ...wanted]) if (!this.tiles.has(key)) this.tiles.set(key, this.#tile(...key.split("/").map(Number)));
    this.wanted = wanted;
    this.#discard();
  }

  #tile(level, column, row) {
    const finer = 2 ** (this.size.levels - 1 - level);
    const [left, top] = [column * this.size.tile, row * this.size.tile];
    const image = this.#add(this.scene, "img", "tile");
    image.alt = "";
    image.draggable = false;
    image.addEventListener("load", () => this.#discard());
    Object.assign(image.style, {
      left: `${left * finer}px`, top: `${top * finer}px`, zIndex: level,
      width: `${Math.min(this.size.tile, Math.ceil(this.size.width / finer) - left) * finer}px`,
      height: `${Math.min(this.size.tile, Math.ceil(this.size.height / finer) - top) * finer}px`,
    });
    image.src = this.url(level, column, row);
    return image;
  }

  // Tiles that are seen no more go once all that are seen are there.
  #discard() {
    if ([...this.wanted].some((key) => !this.tiles.get(key).complete)) return;
    for (const [key, image] of this.tiles) {
      if (key === `${this.base}/0/0` || this.wanted.has(key)) continue;
      image.remove();
      this.tiles.delete(key);
    }
  }

  #listen() {
    const { frame } = this;
    const keys = {
      "+": () => this.zoom(1.6), "=": () => this.zoom(1.6), "-": () => this.zoom(1 / 1.6), _: () => this.zoom(1 / 1.6), 0: () => this.home(),
      ArrowLeft: () => this.move(-80, 0), ArrowRight: () => this.move(80, 0), ArrowUp: () => this.move(0, -80), ArrowDown: () => this.move(0, 80),
    };
    frame.tabIndex = 0;
    frame.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
      event.preventDefault();
      keys[event.key]();
    });
    const inFrame = (event) => { const bounds = frame.getBoundingClientRect(); return [event.clientX - bounds.left, event.clientY - bounds.top]; };
    frame.addEventListener("wheel", (event) => {
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : 40); // some browsers count lines
      this.zoom(Math.exp(-Math.max(-400, Math.min(400, pixels)) * (event.ctrlKey ? 0.01 : 0.002)), ...inFrame(event)); // a pinch on a touchpad comes with ctrlKey
    }, { passive: false });
    frame.addEventListener("dblclick", (event) => this.zoom(2, ...inFrame(event)));
    frame.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      frame.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, inFrame(event));
    });
    frame.addEventListener("pointermove", (event) => { if (this.pointers.has(event.pointerId)) this.#dragged(event.pointerId, inFrame(event)); });
    for (const end of ["pointerup", "pointercancel"]) frame.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    this.overview.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      const bounds = this.overview.getBoundingClientRect();
      this.left = (event.clientX - bounds.left) / bounds.width * this.size.width - frame.clientWidth / this.scale / 2;
      this.top = (event.clientY - bounds.top) / bounds.height * this.size.height - frame.clientHeight / this.scale / 2;
      this.#draw();
    });
    for (const same of ["dblclick", "wheel"]) this.overview.addEventListener(same, (event) => event.stopPropagation());
  }

  // One pointer moves the picture; two move and magnify it.
  #dragged(id, now) {
    const before = this.pointers.get(id);
    this.pointers.set(id, now);
    const other = [...this.pointers].find(([key]) => key !== id)?.[1];
    if (!other) return this.move(before[0] - now[0], before[1] - now[1]);
    const distance = (point) => Math.max(1, Math.hypot(point[0] - other[0], point[1] - other[1]));
    this.move((before[0] - now[0]) / 2, (before[1] - now[1]) / 2);
    this.zoom(distance(now) / distance(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  }
}
