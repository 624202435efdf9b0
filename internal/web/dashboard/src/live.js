// The dashboard's document as the agent tells it: once whole, then what of it changes.
import { useEffect, useState } from "preact/hooks";

const silenceMax = 25_000; // ms; the agent tells something every ten seconds
const again = [1000, 2000, 5000, 10_000]; // ms, between attempts

let state = { document: null, connected: false, tick: 0, since: Date.now(), reason: "connecting" };
const listeners = new Set();
let source, silence, retry, attempts = 0;

const set = (change) => {
  state = { ...state, ...change };
  listeners.forEach((f) => f(state));
};

const take = (event, document) => {
  attempts = 0;
  clearTimeout(silence);
  silence = setTimeout(() => lose("the agent is silent"), silenceMax);
  set({ document, connected: true, reason: "", tick: state.tick + 1, since: state.connected ? state.since : Date.now() });
};

const lose = (reason) => {
  source?.close();
  clearTimeout(silence);
  clearTimeout(retry);
  retry = setTimeout(connect, again[Math.min(attempts++, again.length - 1)]);
  if (state.connected || state.reason !== reason) set({ connected: false, reason, since: state.connected ? Date.now() : state.since });
};

const connect = () => {
  source?.close();
  source = new EventSource("/events");
  source.addEventListener("snapshot", (event) => take(event, JSON.parse(event.data)));
  source.addEventListener("delta", (event) => {
    const changed = JSON.parse(event.data);
    const document = { ...state.document, ...changed };
    for (const name of Object.keys(changed)) if (changed[name] === null) delete document[name];
    take(event, document);
  });
  source.addEventListener("error", () => lose("the agent does not answer"));
};

connect();
// A browser that closes a page in the background, or a computer that wakes up, is told at once.
addEventListener("online", connect);
addEventListener("pageshow", (event) => event.persisted && connect());
addEventListener("pagehide", () => source?.close());

export const useLive = () => {
  const [now, tell] = useState(state);
  useEffect(() => {
    listeners.add(tell);
    tell(state);
    return () => listeners.delete(tell);
  }, []);
  return now;
};
