// How response times are distributed over time: each cell is the requests of one step that took about so long.
import { useState } from "preact/hooks";
import { query, useAnswer } from "./api.js";
import { Expressions, frame, nameOf, usePlot, useSpan, Views, zoom } from "./chart.jsx";
import { clock, count, seconds } from "./format.js";
import { Scroll, Trouble } from "./parts.jsx";

const perDecade = 8; // rows: a third more each

const row = (v) => Math.floor(Math.log10(v) * perDecade + 1e-9);
const floor = (r) => 10 ** (r / perDecade);

// The columns are wider than a step of charts, so that a cell is worth looking at: some sixty of them, of half a minute at least.
const columnsOf = (span) => {
  const step = Math.max(30, span.step * Math.ceil((span.to - span.from) / 60 / span.step));
  return { ...span, step, from: span.to - step * Math.floor((span.to - span.from) / step) };
};

const load = (expression, span) => async (signal) => {
  const columns = columnsOf(span);
  const [result] = await query(expression(columns.step), columns, signal);
  const cells = [];
  let most = 0, least = Infinity, highest = -Infinity, sum = 0;
  for (const [t, histogram] of result?.histograms ?? []) {
    const rows = new Map();
    for (const [, low, high, n] of histogram.buckets ?? []) {
      const middle = Math.sqrt(Number(low) * Number(high));
      if (!(middle > 0) || !(Number(n) > 0)) continue;
      const r = row(middle);
      rows.set(r, (rows.get(r) ?? 0) + Number(n));
    }
    for (const [r, n] of rows) {
      cells.push({ t, r, n });
      most = Math.max(most, n);
      least = Math.min(least, r);
      highest = Math.max(highest, r);
      sum += n;
    }
  }
  return { cells, most, least, highest, sum, span, step: columns.step };
};

const shades = 5;

const Cells = ({ answer, sync, height, summary, onCursor }) => {
  const element = usePlot((css, width) => {
    const { cells, most, least, highest, span, step } = answer;
    const fills = Array.from({ length: shades }, (_, i) => css.getPropertyValue(`--heat-${i + 1}`).trim());
    const range = [floor(least), floor(highest + 1)];
    const draw = (u) => {
      const { ctx } = u;
      ctx.save();
      ctx.beginPath();
      ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
      ctx.clip();
      for (const { t, r, n } of cells) {
        const x0 = u.valToPos(t - step, "x", true), x1 = u.valToPos(t, "x", true);
        const y0 = u.valToPos(floor(r + 1), "y", true), y1 = u.valToPos(floor(r), "y", true);
        ctx.fillStyle = fills[Math.min(shades - 1, Math.floor((shades * Math.log1p(n)) / Math.log1p(most)))];
        ctx.fillRect(x0, y0, Math.max(1, x1 - x0 - 1), Math.max(1, y1 - y0 - 1));
      }
      ctx.restore();
    };
    const times = [];
    for (let t = span.from; t <= span.to; t += span.step) times.push(t);
    return {
      data: [times, times.map(() => null)],
      options: {
        width, height, ...frame(css, span, seconds, { distr: 3, range: () => range }),
        cursor: { sync: { key: sync, setSeries: false }, drag: { x: true, y: false } },
        series: [{}, { points: { show: false } }],
        hooks: { draw: [draw], setSelect: [zoom], setCursor: [(u) => onCursor(u.cursor.left >= 0 && u.cursor.top >= 0 ? { t: u.posToVal(u.cursor.left, "x"), v: u.posToVal(u.cursor.top, "y") } : null)] },
      },
    };
  }, [answer]);
  return <div class="plot" ref={element} role="img" aria-label={summary} />;
};

export const Heatmap = ({ title, expression, sync = "page", height = 240, keys = [] }) => {
  const [span] = useSpan();
  const [view, setView] = useState("chart");
  const [cursor, setCursor] = useState(null);
  const { answer, error, loading } = useAnswer(load(expression, span), [nameOf(span), ...keys], [span.to]);
  const filled = answer?.cells.length > 0;
  const under = cursor && filled ? answer.cells.find((c) => c.t - answer.step < cursor.t && cursor.t <= c.t && c.r === row(cursor.v)) : null;
  const series = [{ label: "Distribution", expression: () => expression(columnsOf(span).step) }];
  return (
    <figure class={`chart ${loading ? "loading" : ""}`}>
      <figcaption>
        <h3>{title}</h3>
        <Views view={view} setView={setView} title={title} />
      </figcaption>
      <Trouble error={error} />
      {view === "promql" && <Expressions series={series} span={span} />}
      {view === "table" && filled && <Rows title={title} answer={answer} />}
      {view === "chart" && (filled
        ? <Cells answer={answer} sync={sync} height={height} onCursor={setCursor} summary={`${title}: ${count(answer.sum)} requests between ${seconds(floor(answer.least))} and ${seconds(floor(answer.highest + 1))}`} />
        : <p class="nothing" style={{ minHeight: `${height}px` }}>{!answer && !error ? "Loading" : "No request was counted in this time. A longer range may show some."}</p>)}
      {view === "chart" && filled && (
        <ul class="legend">
          <li>fewer <span class="heat" aria-hidden="true">{[1, 2, 3, 4, 5].map((i) => <span style={{ background: `var(--heat-${i})` }} />)}</span> more requests</li>
          <li class="when">{under ? `${count(under.n)} requests of ${seconds(floor(under.r))} to ${seconds(floor(under.r + 1))} until ${clock(new Date(under.t * 1000))}` : `a cell is ${seconds(answer.step)} wide`}</li>
        </ul>
      )}
    </figure>
  );
};

const Rows = ({ title, answer }) => {
  const sums = new Map();
  for (const { r, n } of answer.cells) sums.set(r, (sums.get(r) ?? 0) + n);
  return (
    <Scroll label={`${title} as a table`} class="values">
      <table>
        <caption class="hidden">{title}, all of the time together</caption>
        <thead><tr><th scope="col">Response time</th><th scope="col" class="number">Requests</th></tr></thead>
        <tbody>
          {[...sums].sort((a, b) => a[0] - b[0]).map(([r, n]) => (
            <tr key={r}><th scope="row">{seconds(floor(r))} to {seconds(floor(r + 1))}</th><td class="number">{count(n)}</td></tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  );
};
