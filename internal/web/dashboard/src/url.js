// The address is the state: what page, of what, over which time. #/endpoint?service=shop&range=6h
import { useEffect, useState } from "preact/hooks";

export const ranges = { "15m": 900, "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800, "30d": 2592000 };
export const rangeNames = { "15m": "Last 15 minutes", "1h": "Last hour", "6h": "Last 6 hours", "24h": "Last 24 hours", "7d": "Last 7 days", "30d": "Last 30 days" };
const rangeDefault = "15m";
const kept = ["range", "from", "to"]; // from one page to the next

export const place = () => {
  const [path, query = ""] = location.hash.slice(1).split("?", 2);
  return { path: path || "/", parameters: Object.fromEntries(new URLSearchParams(query)) };
};

const text = (path, parameters) => {
  const set = Object.entries(parameters).filter(([, v]) => v !== "" && v !== undefined && v !== null);
  return `#${path}${set.length ? `?${new URLSearchParams(set)}` : ""}`;
};

// link leads to a page, over the time that is looked at now.
export const link = (path, parameters = {}) => {
  const now = place().parameters;
  return text(path, { ...Object.fromEntries(kept.filter((k) => now[k]).map((k) => [k, now[k]])), ...parameters });
};

const listeners = new Set();
const tell = () => listeners.forEach((f) => f());
addEventListener("hashchange", tell);

// change sets parameters of the page; a small one leaves no step to go back to.
export const change = (parameters, { step = true } = {}) => {
  const now = place();
  const next = text(now.path, { ...now.parameters, ...parameters });
  if (step) {
    location.hash = next;
    return;
  }
  history.replaceState(null, "", next);
  tell();
};

export const usePlace = () => {
  const [at, set] = useState(place);
  useEffect(() => {
    const listener = () => set(place());
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  return at;
};

// spanOf is the time that an address asks for, in seconds since 1970. One that ends now is live.
export const spanOf = ({ range, from, to }, now = Date.now()) => {
  const start = Date.parse(from) / 1000, end = Date.parse(to) / 1000;
  if (end > start) return { live: false, name: "", from: start, to: end, ...resolution(start, end, now) };
  const name = ranges[range] ? range : rangeDefault;
  const length = ranges[name];
  const rough = resolution(now / 1000 - length, now / 1000, now);
  const last = Math.floor(now / 1000 / 10) * 10;
  return { live: true, name, from: last - length, to: last, ...rough };
};

const steps = [10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400];
const points = 180;

// resolution: the history has ten seconds for a day, minutes for weeks, hours for longer; ranges of an hour and more read minutes, of sixty hours
// and more hours. Rates are over at least two of what is kept.
const resolution = (from, to, now) => {
  const length = to - from;
  let least = 10;
  if (length >= 3600 || from < now / 1000 - 86000) least = 60;
  if (length >= 216000) least = 3600;
  const step = steps.find((s) => s >= least && s >= length / points) ?? 86400;
  return { step, window: Math.max(step, least === 10 ? 30 : 2 * least), every: length <= 3600 ? 10 : 60 };
};
