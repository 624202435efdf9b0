// How figures, times and what others wrote are shown.

export const unknown = "–";

const known = (v) => typeof v === "number" && Number.isFinite(v);

// digits is the number with three significant digits, and never an exponent.
const digits = (v) => {
  const size = Math.abs(v);
  if (size === 0) return "0";
  if (size >= 100) return Math.round(v).toLocaleString("en-US");
  if (size >= 1) return String(Number(v.toFixed(size >= 10 ? 1 : 2)));
  return v < 0.0005 && v > -0.0005 ? "0" : String(Number(v.toPrecision(2)));
};

export const number = (v) => (known(v) ? digits(v) : unknown);
export const count = (v) => (known(v) ? Math.round(v).toLocaleString("en-US") : unknown);
export const perSecond = (v) => (known(v) ? `${digits(v)}/s` : unknown);
export const percent = (v) => (known(v) ? `${digits(v)} %` : unknown);
export const ratio = (v) => (known(v) ? percent(v * 100) : unknown);

export const milliseconds = (v) => {
  if (!known(v)) return unknown;
  if (v === 0) return "0 ms";
  if (v < 1) return `${digits(v * 1000)} µs`;
  if (v < 1000) return `${digits(v)} ms`;
  return seconds(v / 1000);
};

export const seconds = (v) => {
  if (!known(v)) return unknown;
  const size = Math.abs(v);
  if (size < 1) return milliseconds(v * 1000);
  if (size < 120) return `${digits(v)} s`;
  if (size < 7200) return `${digits(v / 60)} min`;
  if (size < 172800) return `${digits(v / 3600)} h`;
  return `${digits(v / 86400)} days`;
};

const scaled = (v, units, by) => {
  let i = 0;
  while (Math.abs(v) >= by && i < units.length - 1) {
    v /= by;
    i++;
  }
  return `${digits(v)} ${units[i]}`;
};

export const bytes = (v) => (known(v) ? scaled(v, ["B", "kB", "MB", "GB", "TB"], 1000) : unknown);
export const megabytes = (v) => (known(v) ? bytes(v * 1e6) : unknown);
export const bytesPerSecond = (v) => (known(v) ? `${bytes(v)}/s` : unknown);

const two = (n) => String(n).padStart(2, "0");
export const clock = (date) => `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
export const day = (date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;

// moment is a time of day, with the date where that is another than today's.
export const moment = (text) => {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return unknown;
  return day(date) === day(new Date()) ? clock(date) : `${day(date)} ${clock(date)}`;
};

// span is a length of time as people say it, in whole seconds, minutes or hours.
export const span = (s) => {
  if (!known(s)) return unknown;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} days`;
};

export const ago = (text, now = Date.now()) => {
  const s = (now - new Date(text).getTime()) / 1000;
  return Number.isFinite(s) ? `${span(Math.max(0, s))} ago` : unknown;
};

// moments is a time from one moment to another, in seconds since 1970, with the date of its beginning.
export const moments = ({ from, to }) => {
  const [a, b] = [new Date(from * 1000), new Date(to * 1000)];
  return `${day(a)} ${clock(a)} to ${day(a) === day(b) ? "" : `${day(b)} `}${clock(b)}`;
};

// What has no form of its own, or changes the form of what stands beside it: control characters, marks that turn the direction of
// writing, spaces without width, line and paragraph separators, tags, and halves of pairs.
const invisible = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]|[\ud800-\udfff]/gu;

// pieces divides what others wrote into plain text and names of characters that would not show: [text, isName] each.
export const pieces = (text) => {
  const all = [];
  let at = 0;
  for (const found of text.matchAll(invisible)) {
    if (found.index > at) all.push([text.slice(at, found.index), false]);
    all.push([`U+${found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`, true]);
    at = found.index + found[0].length;
  }
  if (at < text.length) all.push([text.slice(at), false]);
  return all;
};

// shown is the same as one text, for places that have no elements.
export const shown = (text) => pieces(String(text ?? "")).map(([piece, name]) => (name ? `[${piece}]` : piece)).join("");
