// What was, where the address asks for a time that is over: the tables and tiles are of it as the charts are, and every page says so.
import { past, useAnswer } from "./api.js";
import { nameOf, useSpan } from "./chart.jsx";
import { moments, span as lengthOf } from "./format.js";
import { change } from "./url.js";

// usePast is what the history has of the time that is looked at, of one service or all: null while that time ends now, unless it is wanted then, too.
export const usePast = ({ service, live = false } = {}) => {
  const [span] = useSpan();
  const wanted = live || !span.live;
  const { answer, error } = useAnswer(wanted ? (signal) => past(span, service, signal) : async () => null, [wanted && nameOf(span), service], [wanted && span.to]);
  return wanted ? { span, answer, error } : null;
};

// ofTime says in a note which time a table is of, and how much of it was counted.
export const ofTime = ({ span, answer }) => {
  const read = answer ? { from: Date.parse(answer.from) / 1000, to: Date.parse(answer.to) / 1000 } : span;
  const missing = answer ? read.to - read.from - answer.counted_seconds : 0;
  return `${moments(read)}${missing >= 10 ? `, of which the agent did not count ${lengthOf(missing)}` : ""}`;
};

// PastNote stands above every page that shows a time that is over.
export const PastNote = ({ span, now }) => (
  <p class="stale past" role="status">
    {now ? "What stands here is of now; charts are of" : "Figures, tables and charts are of"} {moments(span)}. <button type="button" onClick={() => change({ range: "15m", from: "", to: "" })}>Show what is now</button>
  </p>
);
