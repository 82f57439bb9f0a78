// The two plots: one legend, one axis of the figure, one hover, one brush.
// Low windows get low plots, so that the figures below them stay in sight.
const heightOf = () => (window.innerHeight < 800 ? 250 : 318);
let HEIGHT = 318;
const TOP = 22, BOTTOM = 44, RIGHT = 12, LEFT = 52, NARROW = 620, NEAR = 26;
const RADIUS = 3, LABEL = 6.6;
const OBJECTIVES = { "": "Same size", harm: "Size: harm", zeros: "Size: zero weights", ms: "Size: time", size: "Size: bytes" };

// Draw the plots into `root`; send(name, value): "load" with a digest, "resend" with the changes that are there.
function drawPlots(root, scene, send) {
  const board = boardOf(scene);
  if (!board) {
    send("resend", shared.boards.get(scene.head.board)?.seen ?? 0);
    return;
  }
  let plots = root.plots;
  if (!plots) {
    root.classList.add("px");
    root.replaceChildren();
    plots = root.plots = new Plots(root);
  }
  plots.show(board, scene.head.alt, send);
}

class Plots {
  constructor(root) {
    this.bar = html("div", { class: "px-bar" });
    this.row = html("div", { class: "px-plots", tabindex: "0", role: "application" });
    this.readout = html("div", { class: "px-readout" });
    this.said = html("div", { class: "px-hidden", "aria-live": "polite" });
    this.objective = "";
    root.append(this.bar, this.row, this.readout, this.said);
    this.panes = ["size", "ms"].map((quantity) => new Pane(this, quantity));
    this.row.append(...this.panes.map((pane) => pane.box));
    this.row.addEventListener("keydown", (event) => this.key(event));
    this.row.addEventListener("blur", () => this.point(null));
    this.follow = (what) => (what === "hover" ? this.light() : this.draw());
    new ResizeObserver(() => this.board && this.row.clientWidth !== this.width && this.draw()).observe(this.row);
  }

  show(board, alt, send) {
    if (this.board !== board) {
      this.board?.views.delete(this.follow);
      board.views.add(this.follow);
      this.board = board;
    }
    this.send = send;
    this.row.setAttribute("aria-label", `${alt} Arrow keys walk along the front, Enter loads, Escape clears a filter.`);
    changed(board, "all");
  }

  draw() {
    const { board } = this;
    this.width = this.row.clientWidth;
    if (!this.width) return;
    HEIGHT = heightOf();
    const narrow = this.width < NARROW;
    this.row.classList.toggle("px-narrow", narrow);
    this.columns = columnsOf(board);
    this.places = measured(board);
    this.inside = new Set(this.places.filter((place) => passes(board, this.columns, place)));
    this.legend();
    const width = narrow ? this.width : (this.width - 4) / 2;
    for (const pane of this.panes) pane.draw(width, pane.quantity === "size" || narrow);
    this.light();
  }

  legend() {
    const { board } = this, { head } = board;
    const entry = (name, draw) => html("span", { class: "px-key" }, svgIcon(draw), name);
    const keys = [entry("Current", [shape("current", 9, 9)]), entry("Baseline", [shape("star", 9, 9)])];
    keys.push(entry("Front", [svg("path", { class: "px-front", d: "M0 9H18" }), shape("dot", 9, 9)]));
    if (head.pins.length) keys.push(entry("Pinned", [shape("pinned", 9, 9)]));
    keys.push(entry("Tried", [svg("path", { class: "px-dots", d: "M9 9h0", "stroke-width": 6 })]));
    if (head.trained.length) keys.push(entry("Training", [svg("path", { class: "px-arrow", d: "M1 9H12" }), head9()]));
    if (head.best !== null) keys.push(entry("Answers the question", [svg("circle", { class: "px-best", cx: 9, cy: 9, r: 7 })]));
    if (this.places.some((place) => isPredicted(board, place)))
      keys.push(entry("Predicted time", [svg("circle", { class: "px-hollow", cx: 9, cy: 9, r: 3.5 })]));
    const untimed = this.places.filter((place) => msOf(board, place) === null).length;
    if (untimed) keys.push(html("span", { class: "px-key" }, `${untimed.toLocaleString("en")} not timed yet`));
    const filtered = Object.keys(board.brush).length > 0;
    const tools = [];
    if (filtered) {
      tools.push(html("span", {}, `${this.inside.size.toLocaleString("en")} of ${this.places.length.toLocaleString("en")} shown`));
      tools.push(html("button", { onclick: () => this.zoom() }, "Zoom in"));
      tools.push(html("button", { onclick: () => this.clear() }, "Clear filter"));
    }
    if (board.zoomed) tools.push(html("button", { onclick: () => this.whole() }, "Whole range"));
    const select = html("select", { "aria-label": "What the size of a marker means", onchange: (event) => {
      this.objective = event.target.value;
      this.draw();
    } });
    for (const [key, title] of Object.entries(OBJECTIVES)) select.append(html("option", { value: key, selected: key === this.objective }, title));
    this.bar.replaceChildren(...keys, html("span", { class: "px-space" }), ...tools, select);
  }

  clear() {
    this.board.brush = {};
    changed(this.board, "all");
  }

  zoom() {
    this.board.zoomed = { ...this.board.brush };
    this.board.brush = {};
    changed(this.board, "all");
  }

  whole() {
    this.board.zoomed = null;
    changed(this.board, "all");
  }

  // A record under the pointer or the keys, in both plots.
  point(place) {
    if (this.board && this.board.hover !== place) {
      this.board.hover = place;
      changed(this.board, "hover");
    }
  }

  light() {
    const { board } = this, place = board.hover;
    for (const pane of this.panes) pane.light(place);
    if (place === null || !(place === "baseline" || board.rows[place])) {
      const how = board.head.pick ? "A click, or Enter, loads a point; drag a frame to filter." : "Drag a frame to filter.";
      this.readout.replaceChildren(html("span", {}, `Move over a point, or walk the front with the arrow keys. ${how}`));
      return;
    }
    const [title, told] = this.told(place);
    this.readout.replaceChildren(html("b", {}, title), html("br"), html("span", {}, told.join(" · ")));
  }

  told(place) {
    const { board } = this;
    if (place === "baseline") return ["Baseline, uncompressed fp32", board.head.baseline.told];
    const name = nameOf(board, place), told = toldOf(board, place);
    if (board.head.fronts.size.includes(place) || board.head.fronts.ms.includes(place)) told.push("on the front");
    return [`${name ? `${name}: ` : ""}${board.rows[place][TITLE]}`, told];
  }

  key(event) {
    const { board } = this, front = board.head.fronts.size.filter((place) => this.inside.has(place));
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (step && front.length) {
      const at = front.indexOf(board.hover);
      const next = at < 0 ? (step > 0 ? 0 : front.length - 1) : Math.min(front.length - 1, Math.max(0, at + step));
      this.point(front[next]);
      const [title, told] = this.told(front[next]);
      this.said.textContent = `${next + 1} of ${front.length} on the front. ${told[0]}; ${told[1]}; ${told[2] ?? ""}. ${title}. Enter loads it.`;
    } else if (event.key === "Enter" && board.hover !== null) this.load(board.hover);
    else if (event.key === "Escape") this.clear();
    else return;
    event.preventDefault();
  }

  load(place) {
    if (!this.board.head.pick) return;
    this.send("load", place === "baseline" ? this.board.head.baseline.digest : this.board.rows[place][DIGEST]);
  }
}

class Pane {
  constructor(plots, quantity) {
    this.plots = plots;
    this.quantity = quantity;
    this.box = html("div", { class: `px-plot px-of-${quantity}` });
    this.box.addEventListener("pointermove", (event) => this.move(event));
    this.box.addEventListener("pointerleave", () => this.from || plots.point(null));
    this.box.addEventListener("pointerdown", (event) => this.down(event));
    this.box.addEventListener("pointerup", (event) => this.up(event));
    this.box.addEventListener("pointercancel", () => this.drop());
  }

  valueOf(place) {
    const { board } = this.plots;
    return this.quantity === "size" ? board.rows[place][SIZE] : msOf(board, place);
  }

  // The axes: x over all that is shown, y linear from the floor on and compressed below (paretoscope.figures.scale).
  scales(width, labelled) {
    const { board, places } = this.plots, { head } = board, zoomed = board.zoomed ?? {};
    this.left = labelled ? LEFT : 14;
    this.right = width - RIGHT;
    const xs = places.map((place) => this.valueOf(place)).filter((x) => x !== null);
    const base = this.quantity === "size" ? head.baseline.size : head.baseline.ms;
    if (base !== null) xs.push(base);
    const estimate = this.estimate();
    if (estimate) xs.push(estimate.x);
    const most = Math.max(...(xs.length ? [xs.reduce((a, b) => Math.max(a, b))] : [1]));
    if (this.quantity === "size") {
      let [low, high] = zoomed.size ?? [Math.min(xs.reduce((a, b) => Math.min(a, b), most), most / 32), most];
      const pad = (high / low) ** 0.06;
      [low, high] = zoomed.size ? [low, high] : [low / pad, high * pad];
      this.xrange = [low, high];
      this.x = (value) => this.left + ((this.right - this.left) * Math.log(value / low)) / Math.log(high / low);
      this.unx = (at) => low * (high / low) ** ((at - this.left) / (this.right - this.left));
    } else {
      const [low, high] = zoomed.ms ?? [0, 1.1 * most];
      this.xrange = [low, high];
      this.x = (value) => this.left + ((this.right - this.left) * (value - low)) / (high - low);
      this.unx = (at) => low + ((high - low) * (at - this.left)) / (this.right - this.left);
    }
    const { at: floor, broken, range } = head.floor, factor = head.words.factor, foot = HEIGHT - BOTTOM;
    if (zoomed.value) {
      const [low, high] = zoomed.value.map((v) => v / factor);
      this.y = (v) => foot - ((foot - TOP) * (v - low)) / (high - low);
      this.uny = (at) => low + ((high - low) * (foot - at)) / (foot - TOP);
      this.yticks = ticksOf(low * factor, high * factor, 6).map((v) => v / factor);
      this.strip = null;
      return;
    }
    const [low, high] = range, strip = 22 * (1 - floor);
    const position = (v) => (!broken || v >= floor ? 100 * v : 100 * floor - strip * (1 - v / floor));
    const back = (p) => (!broken || p >= 100 * floor ? p / 100 : floor * (1 - (100 * floor - p) / strip));
    this.y = (v) => foot - ((foot - TOP) * (position(v) - low)) / (high - low);
    this.uny = (at) => back(low + ((high - low) * (foot - at)) / (foot - TOP));
    this.yticks = ticksOf(factor * floor, factor, 6).map((v) => v / factor);
    if (broken && floor > 0.35) this.yticks.unshift(0);
    this.strip = broken ? this.y(floor) : null;
  }

  estimate() {
    const { estimate } = this.plots.board.head;
    if (!estimate) return null;
    const [row, timed] = estimate;
    const x = this.quantity === "size" ? row[SIZE] : timed && timed[0];
    return x === null || x === undefined ? null : { x, row };
  }

  draw(width, labelled) {
    const { board, inside, places } = this.plots, { head } = board;
    this.scales(width, labelled);
    this.told = this.stripTold();
    const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, "aria-hidden": "true" });
    const clip = `px-clip-${this.quantity}-${Math.round(width)}`;
    picture.append(svg("clipPath", { id: clip }, svg("rect", { x: this.left - 2, y: TOP - 12, width: this.right - this.left + 10, height: HEIGHT - BOTTOM - TOP + 14 })));
    picture.append(this.frame(labelled));
    const layer = svg("g", { "clip-path": `url(#${clip})` });
    picture.append(layer);
    this.spots = [];
    layer.append(...this.limits(), ...this.lines());
    if (this.quantity === "ms" && head.baseline.ms === null)
      layer.append(svg("text", { x: (this.left + this.right) / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "Nothing is timed yet"));
    const special = new Set([...head.fronts[this.quantity], ...board.letters.keys(), ...board.names.keys()]);
    if (head.current !== null) special.add(head.current);
    layer.append(...this.dots(places.filter((place) => !special.has(place) && this.valueOf(place) !== null), inside));
    for (const place of special) if (this.valueOf(place) !== null) layer.append(...this.marker(place));
    layer.append(...this.ends());
    const formats = this.formats();
    picture.append(...this.names(special, formats), ...formats.map(({ text, x }) => svg("text", { x, y: 11, "text-anchor": "middle" }, text)));
    this.ring = svg("g");
    picture.append(this.ring);
    this.frameOf = svg("rect", { class: "px-brush", visibility: "hidden" });
    picture.append(this.frameOf);
    this.brushed();
    this.box.replaceChildren(picture);
    this.picture = picture;
  }

  frame(labelled) {
    const { head } = this.plots.board, group = svg("g"), foot = HEIGHT - BOTTOM;
    if (this.strip !== null) group.append(svg("rect", { class: "px-strip", x: this.left, width: this.right - this.left, y: this.strip, height: foot - this.strip }));
    for (const tick of this.yticks) {
      const y = this.y(tick);
      if (y < TOP - 4 || y > foot + 4) continue;
      group.append(svg("path", { class: "px-grid", d: `M${this.left} ${y}H${this.right}` }));
      if (labelled) group.append(svg("text", { x: this.left - 8, y: y + 4, "text-anchor": "end" }, short(tick * head.words.factor, 4)));
    }
    const size = this.quantity === "size", [low, high] = this.xrange, most = Math.max(3, (this.right - this.left) / 70);
    const [unit, factor] = size ? UNITS.find(([, f]) => Math.sqrt(low * high) >= f) ?? UNITS[3] : ["ms", 1];
    let end = -Infinity;
    for (const tick of size ? logTicks(low / factor, high / factor, most) : ticksOf(low, high, most)) {
      const x = this.x(tick * factor), label = short(tick, 4);
      if (x < this.left - 1 || x > this.right + 1) continue;
      group.append(svg("path", { class: "px-grid", d: `M${x} ${TOP}V${foot}` }));
      if (x - (label.length * LABEL) / 2 < end) continue;
      end = x + (label.length * LABEL) / 2 + 8;
      group.append(svg("text", { x, y: foot + 16, "text-anchor": "middle" }, label));
    }
    const title = size ? `Size of the file (${unit}, log scale)` : `Time (ms per ${head.setting})`;
    group.append(svg("text", { class: "px-title", x: (this.left + this.right) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, title));
    if (labelled) group.append(svg("text", { class: "px-title", transform: `translate(13 ${(TOP + foot) / 2}) rotate(-90)`, "text-anchor": "middle" }, head.words.axis));
    if (this.told) group.append(svg("text", { x: this.told.left, y: this.strip + 14 }, this.told.text));
    return group;
  }

  // What the compressed part of the axis says of itself, as far to the right as no point is in the way; where there is no
  // room for it, the plot beside says it.
  stripTold() {
    if (this.strip === null || (this.quantity === "ms" && this.plots.panes[0].told)) return null;
    const { floor, words } = this.plots.board.head, text = `below ${short(floor.at * words.factor, 4)} ${words.unit}: compressed scale`;
    const width = text.length * LABEL, top = this.strip + 2, foot = this.strip + 17;
    const spots = this.plots.places.map((place) => this.at(place)).filter((at) => at && at[1] > top - RADIUS && at[1] < foot + RADIUS);
    for (let left = this.right - 4 - width; left > this.left; left -= 10) {
      const box = [left - 4, top, left + width + 4, foot];
      if (!spots.some(([x]) => x > box[0] - RADIUS && x < box[2] + RADIUS)) return { text, left, box };
    }
    return null;
  }

  limits() {
    const { limits } = this.plots.board.head, found = [], foot = HEIGHT - BOTTOM, most = limits[this.quantity];
    if (most !== undefined) {
      const x = Math.max(this.left, Math.min(this.right, this.x(most)));
      found.push(svg("rect", { class: "px-beyond", x, y: TOP, width: Math.max(0, this.right - x), height: foot - TOP }));
      if (x < this.right) found.push(svg("path", { class: "px-limit", d: `M${x} ${TOP}V${foot}` }));
    }
    if (limits.value !== undefined) {
      const y = Math.max(TOP, Math.min(foot, this.y(limits.value)));
      found.push(svg("rect", { class: "px-beyond", x: this.left, y, width: this.right - this.left, height: Math.max(0, foot - y) }));
      found.push(svg("path", { class: "px-limit", d: `M${this.left} ${y}H${this.right}` }));
    }
    return found;
  }

  at(place) {
    const value = this.valueOf(place), { board } = this.plots;
    return value === null || !board.rows[place] ? null : [this.x(value), this.y(board.rows[place][VALUE])];
  }

  lines() {
    const { board } = this.plots, { head } = board, found = [];
    const front = head.fronts[this.quantity].map((place) => this.at(place)).filter(Boolean);
    if (front.length) {
      const path = front.map(([x, y], i) => (i ? `H${x}V${y}` : `M${x} ${y}`)).join("");
      found.push(svg("path", { class: "px-front", d: `${path}H${this.right}` }));
    }
    const trail = this.quantity === "size" ? head.trail.slice(-head.line).map((place) => this.at(place)).filter(Boolean) : [];
    if (trail.length > 1) found.push(svg("path", { class: "px-trail", d: `M${trail.map((at) => at.join(" ")).join("L")}` }));
    for (const [start, end] of head.trained) {
      const from = this.at(start), to = this.at(end);
      if (from && to) found.push(...arrow(from, to));
    }
    return found;
  }

  radius(place) {
    const column = this.plots.columns.find(({ key }) => key === this.plots.objective);
    if (!column) return RADIUS;
    const value = column.of(place);
    if (value === null) return 2;
    const values = this.extentOf(column);
    return 2.5 + 6.5 * Math.sqrt(Math.max(0, value - values[0]) / (values[1] - values[0] || 1));
  }

  extentOf(column) {
    const known = this.plots.places.map(column.of).filter((v) => v !== null);
    const key = `${column.key} ${known.length}`;
    if (this.known !== key) [this.known, this.ends_] = [key, [known.reduce((a, b) => Math.min(a, b), Infinity), known.reduce((a, b) => Math.max(a, b), -Infinity)]];
    return this.ends_;
  }

  // Dots of one size and kind are one path: thousands of records cost as much as one.
  dots(places, inside) {
    const { board } = this.plots, groups = new Map(), hollow = [];
    for (const place of places) {
      const at = this.at(place), row = board.rows[place];
      this.spots.push([...at, place]);
      const out = !inside.has(place) || !affordable(board, place);
      const size = Math.round(2 * this.radius(place)) / 2;
      if (this.quantity === "ms" && isPredicted(board, place)) {
        hollow.push(svg("circle", { class: "px-hollow", cx: at[0], cy: at[1], r: size, opacity: out ? 0.25 : 1 }));
        continue;
      }
      const key = `${out ? "px-dots px-out" : "px-dots"}|${size}`;
      groups.set(key, `${groups.get(key) ?? ""}M${at[0].toFixed(1)} ${at[1].toFixed(1)}h0`);
    }
    return [...[...groups].map(([key, d]) => {
      const [name, size] = key.split("|");
      return svg("path", { class: name, d, "stroke-width": 2 * size });
    }), ...hollow];
  }

  marker(place) {
    const { board, inside } = this.plots, { head } = board, [x, y] = this.at(place), row = board.rows[place], found = [];
    this.spots.push([x, y, place]);
    const fade = inside.has(place) && affordable(board, place) ? 1 : 0.25;
    const front = head.fronts[this.quantity].includes(place);
    if (board.letters.has(place)) found.push(shape("pinned", x, y, fade));
    else if (front) found.push(shape("dot", x, y, fade, Math.max(4, this.radius(place))));
    else if (place !== head.current) found.push(svg("path", { class: "px-dots", d: `M${x} ${y}h0`, "stroke-width": 7, opacity: fade }));
    if (place === head.best) found.push(svg("circle", { class: "px-best", cx: x, cy: y, r: 12 }));
    if (place === head.current) found.push(...this.bars(place, x, row), shape("current", x, y));
    return found;
  }

  bars(place, x, row) {
    const found = [svg("path", { class: "px-bars", d: `M${x} ${this.y(row[LOW])}V${this.y(row[HIGH])}` })];
    const timed = this.quantity === "ms" && timing(this.plots.board, place);
    if (timed && timed[0] !== null) found.push(svg("path", { class: "px-bars", d: `M${this.x(timed[1])} ${this.y(row[VALUE])}H${this.x(timed[2])}` }));
    return found;
  }

  // The baseline's star and a running estimate.
  ends() {
    const { baseline } = this.plots.board.head, found = [];
    const base = this.quantity === "size" ? baseline.size : baseline.ms;
    if (base !== null) {
      const at = [this.x(base), this.y(baseline.value)];
      this.spots.push([...at, "baseline"]);
      found.push(shape("star", ...at));
    }
    const estimate = this.estimate();
    if (estimate) {
      const [x, y] = [this.x(estimate.x), this.y(estimate.row[VALUE])];
      found.push(svg("path", { class: "px-bars", d: `M${x} ${this.y(estimate.row[LOW])}V${this.y(estimate.row[HIGH])}`, "stroke-dasharray": "3 2" }));
      found.push(svg("circle", { class: "px-current", cx: x, cy: y, r: 7, "stroke-dasharray": "3 2" }));
    }
    return found;
  }

  // Names of pins and presets, where they cover neither each other, nor a marker that matters, nor the formats' names.
  names(special, formats) {
    const { board, inside } = this.plots, { head } = board, found = [];
    const taken = formats.map(({ x, half }) => [x - half, 0, x + half, 15]);
    for (const place of special) {
      const at = this.at(place);
      if (at) taken.push([at[0] - 6, at[1] - 6, at[0] + 6, at[1] + 6]);
    }
    if (this.told) taken.push(this.told.box);
    const wanted = [...board.letters.keys(), head.best, head.current, ...board.names.keys()];
    for (const place of new Set(wanted)) {
      if (place === null || place === undefined || !inside.has(place) || this.valueOf(place) === null) continue;
      const text = nameOf(board, place) || (place === head.best ? "Best so far" : "");
      if (!text) continue;
      const [x, y] = this.at(place), width = text.length * LABEL + 4;
      if (x < this.left - 4 || x > this.right + 4 || y < TOP - 10 || y > HEIGHT - BOTTOM + 6) continue;
      const spots = [[x + 10, y - 8], [x - 10 - width, y - 8], [x - width / 2, y - 26], [x - width / 2, y + 10]];
      for (const [left, top] of spots) {
        const box = [left, top, left + width, top + 16];
        if (box[0] < this.left || box[2] > this.right + 8 || box[1] < 0 || box[3] > HEIGHT - BOTTOM + 2) continue;
        if (taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
        taken.push(box);
        found.push(svg("text", { class: "px-name", x: left + 2, y: top + 12 }, text));
        break;
      }
    }
    return found;
  }

  // Recipes of one number format share a timing, so they stand in a column: its name, above the plot, and its place.
  formats() {
    if (this.quantity === "size") return [];
    const { head } = this.plots.board, columns = new Map();
    for (const timed of head.timings) if (timed && timed[0] !== null) columns.set(timed[4], [...(columns.get(timed[4]) ?? []), timed[0]]);
    const labels = [];
    for (const [name, times] of [...columns].map(([n, t]) => [n, t.sort((a, b) => a - b)[t.length >> 1]]).sort((a, b) => a[1] - b[1])) {
      const x = this.x(times), last = labels[labels.length - 1];
      if (x < this.left || x > this.right) continue;
      if (last && x - last.x < 60) last.names.push(name);
      else labels.push({ names: [name], x });
    }
    return labels.map(({ names, x }) => {
      const text = names.join(", "), half = (text.length * LABEL) / 2;
      return { text, half, x: Math.max(this.left + half, Math.min(this.right - half, x)) };
    });
  }

  light(place) {
    if (!this.ring) return;
    this.ring.replaceChildren();
    if (place === null) return;
    const { head } = this.plots.board, base = this.quantity === "size" ? head.baseline.size : head.baseline.ms;
    const at = place === "baseline" ? base !== null && [this.x(base), this.y(head.baseline.value)] : this.at(place);
    if (!at) return;
    const [x, y] = at, foot = HEIGHT - BOTTOM;
    if (x < this.left - 4 || x > this.right + 4) return;
    this.ring.append(svg("path", { class: "px-cross", d: `M${this.left} ${y}H${x - 9}M${x} ${y + 9}V${foot}` }), svg("circle", { class: "px-ring", cx: x, cy: y, r: 8 }));
  }

  where(event) {
    const box = this.picture.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  nearest([x, y]) {
    let found = null, least = NEAR ** 2;
    for (const [px, py, place] of this.spots) {
      const far = (px - x) ** 2 + (py - y) ** 2;
      if (far < least && (place === "baseline" || this.plots.inside.has(place))) [found, least] = [place, far];
    }
    return found;
  }

  move(event) {
    if (!this.picture) return;
    const at = this.where(event);
    if (!this.from) {
      this.plots.point(this.nearest(at));
      return;
    }
    this.to = at;
    this.box_(this.from, at);
  }

  down(event) {
    if (!this.picture || event.button !== 0) return;
    this.plots.row.focus({ preventScroll: true });
    if (event.pointerType === "touch") return;
    this.from = this.to = this.where(event);
    this.box.setPointerCapture(event.pointerId);
  }

  up(event) {
    if (!this.picture) return;
    const from = this.from, at = this.where(event);
    this.drop();
    if (from && Math.hypot(at[0] - from[0], at[1] - from[1]) > 6) {
      const { board } = this.plots, factor = board.head.words.factor, sorted = (a, b) => [Math.min(a, b), Math.max(a, b)];
      board.brush[this.quantity] = sorted(this.unx(from[0]), this.unx(at[0]));
      board.brush.value = sorted(factor * this.uny(from[1]), factor * this.uny(at[1]));
      changed(board, "all");
      return;
    }
    const place = this.nearest(at);
    if (place !== null) {
      this.plots.point(place);
      this.plots.load(place);
    }
  }

  drop() {
    this.from = null;
    this.frameOf?.setAttribute("visibility", "hidden");
    this.brushed();
  }

  box_([x0, y0], [x1, y1]) {
    const box = { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0), visibility: "visible" };
    for (const [key, value] of Object.entries(box)) this.frameOf.setAttribute(key, value);
  }

  // The frame of a brush that is in force.
  brushed() {
    const { brush, head } = this.plots.board, range = brush[this.quantity], values = brush.value;
    if (!this.frameOf || (!range && !values)) return;
    const [x0, x1] = range ? range.map((v) => Math.max(this.left, Math.min(this.right, this.x(v)))) : [this.left, this.right];
    const [y0, y1] = values ? values.map((v) => Math.max(TOP, Math.min(HEIGHT - BOTTOM, this.y(v / head.words.factor)))) : [TOP, HEIGHT - BOTTOM];
    this.box_([x0, y0], [x1, y1]);
  }
}

const svgIcon = (children) => svg("svg", { width: 18, height: 18, viewBox: "0 0 18 18", "aria-hidden": "true" }, ...children);
const head9 = () => svg("path", { class: "px-arrowhead", d: "M17 9l-6 -3.5v7z" });

function shape(kind, x, y, opacity = 1, radius = 4.5) {
  if (kind === "star") {
    const points = Array.from({ length: 10 }, (_, i) => {
      const far = i % 2 ? 3.2 : 8, angle = (Math.PI * i) / 5 - Math.PI / 2;
      return `${(x + far * Math.cos(angle)).toFixed(1)},${(y + far * Math.sin(angle)).toFixed(1)}`;
    });
    return svg("polygon", { class: "px-star", points: points.join(" ") });
  }
  if (kind === "pinned") return svg("path", { class: "px-pinned", d: `M${x} ${y - 7}l7 7l-7 7l-7 -7z`, opacity });
  if (kind === "dot") return svg("circle", { class: "px-dot", cx: x, cy: y, r: radius, opacity });
  return svg("g", {}, svg("circle", { class: "px-current", cx: x, cy: y, r: 7 }), svg("circle", { class: "px-current-dot", cx: x, cy: y, r: 2 }));
}

// From one marker to another, off both of them.
function arrow([x0, y0], [x1, y1]) {
  const far = Math.hypot(x1 - x0, y1 - y0);
  if (far < 24) return [];
  const [dx, dy] = [(x1 - x0) / far, (y1 - y0) / far], [ex, ey] = [x1 - 11 * dx, y1 - 11 * dy];
  const head = `M${ex} ${ey}L${ex - 7 * dx - 3.5 * dy} ${ey - 7 * dy + 3.5 * dx}L${ex - 7 * dx + 3.5 * dy} ${ey - 7 * dy - 3.5 * dx}z`;
  return [svg("path", { class: "px-arrow", d: `M${x0 + 5 * dx} ${y0 + 5 * dy}L${ex - 5 * dx} ${ey - 5 * dy}` }), svg("path", { class: "px-arrowhead", d: head })];
}
