// What the agent is asked. It answers two questions to its history at once, so no more are asked.
import { useEffect, useRef, useState } from "preact/hooks";

const questionsMax = 2;
let asking = 0;
const waiting = [];

const turn = async () => {
  if (asking < questionsMax) {
    asking++;
    return;
  }
  await new Promise((next) => waiting.push(next));
};

const done = () => {
  const next = waiting.shift();
  if (next) next();
  else asking--;
};

export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status; // 0: no answer
  }
}

export const ask = async (path, signal) => {
  let response;
  try {
    response = await fetch(path, { signal, headers: { accept: "application/json" }, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure(0, "the agent does not answer");
  }
  let document;
  try {
    document = await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure(response.status, `the answer is no JSON (${response.status})`);
  }
  if (!response.ok) throw new Failure(response.status, document.detail || document.error || document.title || `status ${response.status}`);
  return document;
};

// inTurn asks the history when it is this question's turn.
const inTurn = async (path, signal) => {
  await turn();
  try {
    if (signal?.aborted) throw new DOMException("aborted", "AbortError");
    return await ask(path, signal);
  } finally {
    done();
  }
};

// query asks for an expression over a span of time.
export const query = async (expression, span, signal) => {
  const parameters = new URLSearchParams({ query: expression, start: span.from, end: span.to, step: span.step });
  return (await inTurn(`/api/v1/query_range?${parameters}`, signal)).data.result;
};

const rowsMax = 10_000; // as the agent lists at most

// past asks for services, endpoints and targets over a span of time.
export const past = async (span, service, signal) => {
  const parameters = new URLSearchParams({ from: span.from, to: span.to, limit: rowsMax, ...(service && { service }) });
  try {
    return await inTurn(`/performance/past?${parameters}`, signal);
  } catch (error) {
    if (error.status === 404) throw new Failure(404, "this agent keeps no history: only what is of now is known (see --storage.retention)");
    throw error;
  }
};

// useAnswer is what load gives: anew from the beginning when one of the keys changes, and refreshed, with the answer before still shown, when one of
// the others does. Where the agent takes longer than that, the question that is under way goes on. A failure leaves the last answer.
export const useAnswer = (load, keys, refresh = []) => {
  const key = JSON.stringify(keys);
  const [state, set] = useState({ key, loading: true });
  const running = useRef({});
  useEffect(() => {
    const before = running.current;
    if (before.abort && before.key === key) return;
    before.abort?.abort();
    const abort = new AbortController();
    const mine = { key, abort };
    running.current = mine;
    if (before.key !== key) set({ key, loading: true });
    const finish = (outcome) => {
      if (abort.signal.aborted) return;
      mine.abort = null;
      set((s) => ({ key, answer: s.answer, ...outcome, loading: false }));
    };
    load(abort.signal).then((answer) => finish({ answer }), (error) => finish({ error }));
  }, [key, ...refresh]);
  useEffect(() => () => running.current.abort?.abort(), []);
  return state.key === key ? state : { loading: true };
};
