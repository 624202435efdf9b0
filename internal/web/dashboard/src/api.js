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

// query asks for an expression over a span of time.
export const query = async (expression, span, signal) => {
  await turn();
  try {
    if (signal?.aborted) throw new DOMException("aborted", "AbortError");
    const parameters = new URLSearchParams({ query: expression, start: span.from, end: span.to, step: span.step });
    const document = await ask(`/api/v1/query_range?${parameters}`, signal);
    return document.data.result;
  } finally {
    done();
  }
};

// useAnswer is what load gives, anew whenever one of the keys changes; the one before is shown meanwhile, and kept over a failure.
export const useAnswer = (load, keys) => {
  const [state, set] = useState({ loading: true });
  const shown = useRef();
  useEffect(() => {
    const abort = new AbortController();
    set((s) => ({ ...s, loading: true }));
    load(abort.signal).then(
      (answer) => {
        shown.current = answer;
        set({ answer, loading: false });
      },
      (error) => abort.signal.aborted || set({ answer: shown.current, error, loading: false }),
    );
    return () => abort.abort();
  }, keys);
  return state;
};
