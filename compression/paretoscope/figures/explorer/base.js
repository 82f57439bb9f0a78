// What all views of the explorer share: the records that the browser has, what is chosen among them, and how numbers
// are written. Rows are those of paretoscope.measure.board.ROW.
const DIGEST = 0, TITLE = 1, SIZE = 2, VALUE = 3, LOW = 4, HIGH = 5, HARM = 6, ZEROS = 7;
const SPARSITY = 8, CLUSTERS = 9, BITS = 10, TRAINED = 11, SIMPLIFIED = 12, TOLD = 13;

const shared = (window.paretoscopeExplorer ??= { boards: new Map(), kept: 4 });

// Take in what a scene says; nothing where rows are missing that the browser should have had.
function boardOf(scene) {
  const { head, rows } = scene;
  let board = shared.boards.get(head.board);
  if (!board || head.since === 0) {
    const views = board ? board.views : new Set();
    board = { rows: [], of: [], seen: 0, brush: {}, hover: null, at: null, views };
    shared.boards.delete(head.board);
    shared.boards.set(head.board, board);
    while (shared.boards.size > shared.kept) shared.boards.delete(shared.boards.keys().next().value);
  }
  if (board.seen < head.since) return null;
  for (const [place, row] of rows) board.rows[place] = row;
  for (const [place, timing] of head.of) board.of[place] = timing;
  board.seen = Math.max(board.seen, head.seen);
  board.head = head;
  board.letters = new Map(head.pins);
  board.names = new Map(head.names);
  return board;
}

const timing = (board, place) => board.head.timings[board.of[place]] ?? null;

// Milliseconds of a record: measured, or predicted from its zeros where that was not timed; null where neither is known.
function msOf(board, place) {
  const found = timing(board, place);
  if (found && found[0] !== null) return found[0];
  return predictedMs(board, place);
}

function predictedMs(board, place) {
  const [at, times] = board.head.predicted, row = board.rows[place];
  if (!at.length || row[SIMPLIFIED]) return null;
  const zeros = row[ZEROS];
  if (zeros <= at[0]) return times[0];
  for (let i = 1; i < at.length; i++)
    if (zeros <= at[i]) return times[i - 1] + ((times[i] - times[i - 1]) * (zeros - at[i - 1])) / (at[i] - at[i - 1]);
  return times[times.length - 1];
}

const isPredicted = (board, place) => {
  const found = timing(board, place);
  return !(found && found[0] !== null) && predictedMs(board, place) !== null;
};

// What can be brushed, by its key: title, value, how it is written, whether its scale is logarithmic.
function columnsOf(board) {
  const { words } = board.head, row = (at) => (place) => board.rows[place][at];
  return [
    { key: "value", title: words.axis, of: (place) => words.factor * board.rows[place][VALUE], text: (v) => v.toFixed(1) },
    { key: "size", title: "Size", of: row(SIZE), text: bytesText, log: true },
    { key: "ms", title: "Time", of: (place) => msOf(board, place), text: msText, log: true },
    { key: "harm", title: "Harm", of: row(HARM), text: (v) => Number(v.toPrecision(2)).toString() },
    { key: "zeros", title: "Zero weights", of: (place) => 100 * board.rows[place][ZEROS], text: (v) => `${v.toFixed(0)} %` },
    { key: "clusters", title: "Clusters", of: row(CLUSTERS), text: (v) => (v ? v.toFixed(0) : "none") },
    { key: "bits", title: "Bits", of: row(BITS), text: (v) => v.toFixed(0) },
  ];
}

// Whether a record is within all that was brushed.
function passes(board, columns, place) {
  return columns.every(({ key, of }) => {
    const range = board.brush[key];
    if (!range) return true;
    const value = of(place);
    return value !== null && value >= range[0] && value <= range[1];
  });
}

// Whether a record is within the limits that are set; one without a time is not, where time is limited.
function affordable(board, place) {
  const { size, ms, value } = board.head.limits, row = board.rows[place];
  if (size !== undefined && row[SIZE] > size * (1 + 1e-6)) return false;
  if (value !== undefined && row[VALUE] < value - 1e-9) return false;
  if (ms === undefined) return true;
  const found = timing(board, place);
  return Boolean(found) && found[0] !== null && found[0] <= ms * (1 + 1e-6);
}

const measured = (board) => Array.from({ length: board.head.count }, (_, place) => place).filter((p) => board.rows[p]);

// How a record is called: its letter and name, then what it is.
function nameOf(board, place) {
  return [board.letters.get(place), board.names.get(place)].filter(Boolean).join(" · ");
}

function toldOf(board, place) {
  const row = board.rows[place], found = timing(board, place), told = [...row[TOLD]];
  if (found && found[0] !== null) {
    told.push(`${msText(found[0])}, ${found[5]}${found[3] === row[DIGEST] ? "" : " (timed for another recipe of this graph)"}`);
  } else if (isPredicted(board, place)) told.push(`about ${msText(predictedMs(board, place))}, predicted: not timed yet`);
  else told.push(found ? found[5] : "not timed yet");
  return told;
}

// Three significant digits at most, all digits before the point.
const short = (value, digits = 3) =>
  Math.abs(value) >= 10 ** digits - 0.5 ? value.toFixed(0) : Number(value.toPrecision(digits)).toString();
const UNITS = [["GB", 1e9], ["MB", 1e6], ["KB", 1e3], ["B", 1]];
function bytesText(value) {
  const [name, factor] = UNITS.find(([, least]) => value * 1.0005 >= least) ?? UNITS[3];
  return `${short(value / factor)} ${name}`;
}
const msText = (value) => `${short(value, value >= 1 ? 3 : 2)} ms`;

const SVG = "http://www.w3.org/2000/svg";
function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
function html(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Let every view of a board follow; `what` says how much has changed: "hover" or "all".
function changed(board, what) {
  for (const view of board.views) view(what);
}

// Round numbers between two ends.
function ticksOf(low, high, most) {
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step);
}
function logTicks(low, high, most) {
  const decades = Math.log10(high / low);
  const mantissas = decades < 0.7 ? null : decades < 2.5 ? [1, 2, 5] : decades < 4 ? [1, 3] : [1];
  if (!mantissas) return ticksOf(low, high, most);
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const m of mantissas) if (m * 10 ** power >= low && m * 10 ** power <= high) found.push(m * 10 ** power);
  return found;
}
