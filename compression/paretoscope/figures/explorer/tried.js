// All that was tried: columns to brush, and a table of what passes; both follow the plots, and the plots them.
const LINES_HEIGHT = 190, LINES_TOP = 34, LINES_BOTTOM = 22, BEYOND = 10, MOST_LINES = 1500, PAGE = 100;

// Draw into `root` what the plots of a board were drawn of; send("load", digest).
function drawTried(root, { board: name }, send) {
  const board = shared.boards.get(name);
  if (!board?.head) {
    // The plots come as an element of their own and may arrive later.
    setTimeout(() => root.isConnected && drawTried(root, { board: name }, send), 50);
    return;
  }
  root.classList.add("px");
  root.tried ??= new Tried(root);
  root.tried.show(board, send);
}

class Tried {
  constructor(root) {
    this.lines = html("div");
    this.bar = html("div", { class: "px-bar" });
    this.table = html("div", { class: "px-scroll", tabindex: "0", "aria-label": "Tried recipes" });
    this.order = ["value", -1];
    this.visit = false;
    this.pages = 1;
    root.replaceChildren(this.lines, this.bar, this.table);
    this.follow = (what) => (what === "hover" ? this.light() : this.draw());
    // On what stays when the picture is drawn anew, which may be while somebody drags.
    this.lines.addEventListener("pointerdown", (event) => this.down(event));
    this.lines.addEventListener("pointermove", (event) => this.move(event));
    this.lines.addEventListener("pointerup", (event) => this.up(event));
    this.lines.addEventListener("pointercancel", () => (this.from = null));
    new ResizeObserver(() => this.board && this.lines.clientWidth !== this.width && this.draw()).observe(this.lines);
    this.table.addEventListener("scroll", () => {
      const { scrollTop, clientHeight, scrollHeight } = this.table;
      if (scrollTop + clientHeight > scrollHeight - 60 && this.pages * PAGE < this.listed.length) {
        this.pages += 1;
        this.rows();
      }
    });
  }

  show(board, send) {
    if (this.board !== board) {
      this.board?.views.delete(this.follow);
      board.views.add(this.follow);
      this.board = board;
    }
    this.send = send;
    this.draw();
  }

  draw() {
    const { board } = this;
    this.width = this.lines.clientWidth;
    if (!this.width) return;
    this.columns = columnsOf(board);
    const visited = new Set([...board.head.trail, ...board.letters.keys()]);
    this.places = measured(board).filter((place) => !this.visit || visited.has(place));
    this.passing = this.places.filter((place) => passes(board, this.columns, place));
    this.parallel();
    const filtered = Object.keys(board.brush).length > 0;
    const count = `${this.passing.length.toLocaleString("en")} of ${this.places.length.toLocaleString("en")} tried`;
    const toggle = html("label", { class: "px-key" }, html("input", { type: "checkbox", checked: this.visit, onchange: (event) => {
      this.visit = event.target.checked;
      this.draw();
    } }), "This visit and pins only");
    this.bar.replaceChildren(html("span", {}, count), toggle, html("span", { class: "px-space" }), html("button", { disabled: !filtered, onclick: () => {
      board.brush = {};
      changed(board, "all");
    } }, "Clear filter"));
    this.listed = this.sorted();
    this.rows();
  }

  scale(column) {
    const known = this.places.map(column.of).filter((v) => v !== null && (!column.log || v > 0));
    let low = known.reduce((a, b) => Math.min(a, b), Infinity), high = known.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!known.length) [low, high] = [0, 1];
    if (low === high) [low, high] = column.log ? [low / 1.1, high * 1.1] : [low - 1, high + 1];
    const top = LINES_TOP, foot = LINES_HEIGHT - LINES_BOTTOM;
    const share = column.log ? (v) => Math.log(v / low) / Math.log(high / low) : (v) => (v - low) / (high - low);
    const back = column.log ? (s) => low * (high / low) ** s : (s) => low + s * (high - low);
    return { low, high, y: (v) => foot - share(v) * (foot - top), un: (y) => back((foot - y) / (foot - top)) };
  }

  parallel() {
    const { board, width, columns } = this, picture = svg("svg", { class: "px-lines", viewBox: `0 0 ${width} ${LINES_HEIGHT}`, height: LINES_HEIGHT, role: "img", "aria-label": "Columns to brush: drag along an axis to filter" });
    const gap = (width - 110) / (columns.length - 1);
    this.axes = columns.map((column, at) => ({ ...column, x: 55 + at * gap, scale: this.scale(column) }));
    const path = (place) => {
      let d = "", pen = "M";
      for (const { of, scale, x, log } of this.axes) {
        const value = of(place);
        if (value === null || (log && value <= 0)) pen = "M";
        else [d, pen] = [`${d}${pen}${x.toFixed(1)} ${scale.y(value).toFixed(1)}`, "L"];
      }
      return d;
    };
    this.path = path;
    const inside = new Set(this.passing), step = Math.max(1, Math.ceil(this.places.length / MOST_LINES));
    const shown = this.places.filter((place, at) => at % step === 0 || place === board.head.current);
    picture.append(svg("path", { class: "px-line px-out", d: shown.filter((place) => !inside.has(place)).map(path).join("") }));
    picture.append(svg("path", { class: "px-line", d: shown.filter((place) => inside.has(place)).map(path).join("") }));
    this.one = svg("path", { class: "px-line px-one" });
    picture.append(this.one);
    const narrow = gap < 74;
    for (const [at, axis] of this.axes.entries()) {
      const foot = LINES_HEIGHT - LINES_BOTTOM;
      picture.append(svg("path", { class: "px-axis", d: `M${axis.x} ${LINES_TOP}V${foot}` }));
      const title = narrow ? axis.title.split(" ")[0] : axis.title;
      picture.append(svg("text", { class: "px-name", x: axis.x, y: narrow && at % 2 ? 24 : 11, "text-anchor": "middle" }, title));
      if (!narrow || at % 2 === 0) {
        picture.append(svg("text", { x: axis.x, y: LINES_TOP - (narrow ? 2 : 7), "text-anchor": "middle", class: narrow ? "px-hidden" : "" }, axis.text(axis.scale.high)));
        picture.append(svg("text", { x: axis.x, y: foot + 15, "text-anchor": "middle" }, axis.text(axis.scale.low)));
      }
      const range = board.brush[axis.key];
      if (range) {
        const [y0, y1] = range.map((v) => Math.max(LINES_TOP, Math.min(foot, axis.scale.y(v)))).sort((a, b) => a - b);
        picture.append(svg("rect", { class: "px-brush", x: axis.x - 9, width: 18, y: y0, height: Math.max(2, y1 - y0) }));
      }
    }
    this.drag = svg("rect", { class: "px-brush", visibility: "hidden", width: 18 });
    picture.append(this.drag);
    this.lines.replaceChildren(picture);
    this.light();
  }

  // A little beyond an axis counts too, or what stands at its end could hardly be framed.
  where(event) {
    const box = this.lines.getBoundingClientRect(), [top, foot] = [LINES_TOP - BEYOND, LINES_HEIGHT - LINES_BOTTOM + BEYOND];
    return [event.clientX - box.left, Math.max(top, Math.min(foot, event.clientY - box.top))];
  }

  down(event) {
    const [x, y] = this.where(event);
    const near = this.axes.reduce((best, each) => (Math.abs(each.x - x) < Math.abs(best.x - x) ? each : best));
    if (Math.abs(near.x - x) > 22) return;
    this.from = { key: near.key, y };
    this.lines.setPointerCapture(event.pointerId);
  }

  move(event) {
    if (!this.from) return;
    const y = this.where(event)[1], { key, y: start } = this.from, axis = this.axes.find((each) => each.key === key);
    const frame = { x: axis.x - 9, y: Math.min(start, y), height: Math.abs(y - start), visibility: "visible" };
    for (const [name, value] of Object.entries(frame)) this.drag.setAttribute(name, value);
  }

  up(event) {
    if (!this.from) return;
    const y = this.where(event)[1], { key, y: start } = this.from, axis = this.axes.find((each) => each.key === key);
    this.from = null;
    if (Math.abs(y - start) < 4) delete this.board.brush[key];
    else this.board.brush[key] = [axis.scale.un(Math.max(start, y)), axis.scale.un(Math.min(start, y))].map((v, i) => v + (i ? 1e-9 : -1e-9) * Math.abs(v));
    changed(this.board, "all");
  }

  sorted() {
    const [key, way] = this.order, column = this.columns.find((each) => each.key === key);
    const of = column ? column.of : (place) => this.board.rows[place][TITLE];
    return [...this.passing].sort((a, b) => {
      const [x, y] = [of(a), of(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return way * (x < y ? -1 : x > y ? 1 : 0);
    });
  }

  rows() {
    const { board, columns } = this, [key, way] = this.order;
    const head = html("tr", {}, ...[{ key: "title", title: "Recipe" }, ...columns].map(({ key: own, title }) => html("th", { scope: "col", "aria-sort": own === key ? (way < 0 ? "descending" : "ascending") : null }, html("button", { onclick: () => {
      this.order = [own, own === key ? -way : own === "value" || own === "zeros" ? -1 : 1];
      this.listed = this.sorted();
      this.rows();
    } }, `${title}${own === key ? (way < 0 ? " ↓" : " ↑") : ""}`))));
    const body = this.listed.slice(0, this.pages * PAGE).map((place) => {
      const name = nameOf(board, place), row = board.rows[place];
      const cells = columns.map(({ key: own, of, text }) => {
        const value = of(place), predicted = own === "ms" && isPredicted(board, place);
        return html("td", {}, value === null ? "–" : `${predicted ? "≈ " : ""}${text(value)}`);
      });
      const made = html("tr", { tabindex: "0", "data-place": String(place), class: place === board.head.current ? "px-chosen" : "" }, html("td", {}, `${name ? `${name}: ` : ""}${row[TITLE]}`), ...cells);
      made.addEventListener("pointerenter", () => this.point(place));
      made.addEventListener("pointerleave", () => this.point(null));
      made.addEventListener("focus", () => this.point(place));
      made.addEventListener("click", () => this.send("load", row[DIGEST]));
      made.addEventListener("keydown", (event) => event.key === "Enter" && this.send("load", row[DIGEST]));
      return made;
    });
    this.table.replaceChildren(html("table", {}, html("thead", {}, head), html("tbody", {}, ...body)));
  }

  point(place) {
    if (this.board.hover === place) return;
    this.board.hover = place;
    changed(this.board, "hover");
  }

  light() {
    const { board } = this, place = board.hover;
    for (const row of this.table.querySelectorAll(".px-hovered")) row.classList.remove("px-hovered");
    if (place === null || place === "baseline" || !board.rows[place]) {
      this.one?.setAttribute("d", "");
      return;
    }
    this.one?.setAttribute("d", this.path(place));
    this.table.querySelector(`[data-place="${place}"]`)?.classList.add("px-hovered");
  }
}
