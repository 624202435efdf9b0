// A chart of expressions over the span that the address asks for: drawn, as a table, and as PromQL to copy.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { query, useAnswer } from "./api.js";
import { clock, day, moments, number, shown, unknown } from "./format.js";
import { useLive } from "./live.js";
import { drawMarks } from "./marks.jsx";
import { Copy, Scroll, Text, Trouble } from "./parts.jsx";
import { useTheme } from "./theme.js";
import { change, spanOf, usePlace } from "./url.js";

const seriesMax = 8; // more are no picture

// useSpan is the span of the address, which moves with the agent's ticks while it is live.
export const useSpan = () => {
  const { parameters: { range, from, to } } = usePlace();
  const { tick } = useLive();
  const key = `${range}|${from}|${to}`;
  const held = useRef({ key: "", at: 0, span: null });
  const now = Date.now();
  if (held.current.key !== key || (held.current.span.live && document.visibilityState === "visible" && now - held.current.at >= 1000 * held.current.span.every - 500)) {
    held.current = { key, at: now, span: spanOf({ range, from, to }, now) };
  }
  return [held.current.span, tick];
};

// nameOf is the same for a span that moves with the time.
export const nameOf = (span) => (span.live ? span.name : [span.from, span.to]);

// load asks for each series of a chart and puts what it gets on one axis of time.
const load = (series, span) => async (signal) => {
  const answers = await Promise.all(series.map((s) => query(s.expression(span), span, signal)));
  const times = [];
  for (let t = span.from; t <= span.to; t += span.step) times.push(t);
  const lines = [];
  answers.forEach((result, i) => {
    const own = series[i];
    const named = result.map((r) => ({ ...own, label: own.by ? r.metric[own.by] || "none" : own.label, values: r.values ?? [] }));
    if (own.by) named.sort((a, b) => a.label.localeCompare(b.label));
    for (const line of named.slice(0, seriesMax)) {
      const column = new Array(times.length).fill(null);
      for (const [t, v] of line.values) {
        const at = Math.round((t - span.from) / span.step);
        const n = Number(v) * (own.scale ?? 1);
        if (at >= 0 && at < column.length && Number.isFinite(n)) column[at] = n;
      }
      lines.push({ ...line, column });
    }
  });
  return { times, lines, span };
};

const colour = (line, i, css) => css.getPropertyValue(line.colour ? `--${line.colour}` : `--series-${(i % 7) + 1}`).trim();

export const axisTimes = (span) => (u, splits) => splits.map((t) => {
  const d = new Date(t * 1000);
  if (span.to - span.from > 2 * 86400) return `${day(d).slice(5)}\n${clock(d).slice(0, 5)}`;
  return clock(d).slice(0, 5);
});

// power tells the values that a logarithmic scale is labelled with, and has lines at.
const power = (v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-6;

const powers = ({ distr }) => (u, splits) => splits.map((v) => (distr === 3 && !power(v) ? null : v));

export const frame = (css, span, format, range) => ({
  axes: [
    { stroke: css.getPropertyValue("--muted"), grid: { stroke: css.getPropertyValue("--grid"), width: 1 }, ticks: { show: false }, values: axisTimes(span), font: "12px system-ui", space: 64, size: span.to - span.from > 2 * 86400 ? 40 : 26, gap: 4 },
    { stroke: css.getPropertyValue("--muted"), grid: { stroke: css.getPropertyValue("--grid"), width: 1, filter: powers(range) }, ticks: { show: false }, filter: powers(range), values: (u, splits) => splits.map((v) => (v === null ? "" : format(v))), font: "12px system-ui", size: 66, space: 28 },
  ],
  scales: { x: { time: true, range: () => [span.from, span.to] }, y: range },
  legend: { show: false },
});

export const zoom = (u) => {
  const { left, width } = u.select;
  if (width < 4) return;
  const [from, to] = [u.posToVal(left, "x"), u.posToVal(left + width, "x")];
  u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  if (to - from >= 30) change({ range: "", from: new Date(Math.floor(from) * 1000).toISOString(), to: new Date(Math.ceil(to) * 1000).toISOString() });
};

// usePlot draws into an element with what make returns, and again where the width, the theme or one of the keys changes.
export const usePlot = (make, keys) => {
  const element = useRef(null);
  const theme = useTheme();
  useEffect(() => {
    const e = element.current;
    if (!e) return undefined;
    let plot;
    const width = () => Math.max(200, Math.floor(e.clientWidth));
    const made = make(getComputedStyle(document.documentElement), width());
    if (!made) return undefined;
    plot = new uPlot(made.options, made.data, e);
    const look = new ResizeObserver(() => width() !== plot.width && plot.setSize({ width: width(), height: made.options.height }));
    look.observe(e);
    return () => {
      look.disconnect();
      plot.destroy();
    };
  }, [theme, ...keys]);
  return element;
};

// logarithmic is a scale from one power of ten to another, or as near to the values as half of one.
const logarithmic = (u, low, high) => low > 0 ? [10 ** (Math.floor(2 * Math.log10(low)) / 2), 10 ** (Math.ceil(2 * Math.log10(high) + 1e-9) / 2)] : [0.001, 1];

const linear = (max) => ({ range: (u, low, high) => [0, Math.max(high ?? 0, max ?? 0) * 1.05 || 1] });

const Plot = ({ answer, format, sync, max, log, height, bands, marks, summary, onCursor }) => {
  const element = usePlot((css, width) => {
    const { times, lines, span } = answer;
    const lone = lines.map(({ column }) => column.filter((v) => v !== null).length < 2);
    return {
      data: [times, ...lines.map((l) => l.column)],
      options: {
        width, height, ...frame(css, span, format, log ? { distr: 3, range: logarithmic } : linear(max)),
        cursor: { sync: { key: sync, setSeries: false }, drag: { x: true, y: false }, points: { size: 6 }, y: false },
        series: [{}, ...lines.map((l, i) => ({
          stroke: colour(l, i, css), width: 1.75, dash: l.dash, spanGaps: false, points: { show: lone[i] },
          fill: l.fill || lines.length === 1 ? `${colour(l, i, css)}22` : undefined,
        }))],
        bands: bands ? lines.slice(1).map((l, i) => ({ series: [i + 1, i + 2], fill: `${colour(l, i + 1, css)}33` })) : undefined,
        hooks: { setSelect: [zoom], setCursor: [(u) => onCursor(u.cursor.idx ?? null)], drawClear: [drawMarks(marks, css)] },
      },
    };
  }, [answer, JSON.stringify(marks)]);
  return <div class="plot" ref={element} role="img" aria-label={summary} />;
};

const latest = (column) => {
  for (let i = column.length - 1; i >= 0; i--) if (column[i] !== null) return column[i];
  return null;
};

const say = (title, { lines, span }, format) => `${title}, ${moments(span)}. ${lines.map(({ label, column }) => {
  const all = column.filter((v) => v !== null);
  return all.length ? `${shown(label)}: latest ${format(latest(column))}, least ${format(Math.min(...all))}, most ${format(Math.max(...all))}` : `${shown(label)}: nothing`;
}).join("; ")}`;

// Chart draws series: {label, expression(span), colour?, by? (a label: a line for each of its values), scale?, dash?, fill?}. Its scale begins at
// zero and reaches to max at least, or is logarithmic. marks: what was found in this time.
export const Chart = ({ title, series, format = number, unit, sync = "page", max, log, height = 170, bands, marks = [], nothing, keys = [], level = 3 }) => {
  const [span] = useSpan();
  const [view, setView] = useState("chart");
  const [cursor, setCursor] = useState(null);
  const { answer, error, loading } = useAnswer(load(series, span), [nameOf(span), ...keys], [span.to]);
  const lines = answer?.lines ?? [];
  const filled = lines.some((l) => l.column.some((v) => v !== null));
  const Heading = `h${level}`;
  return (
    <figure class={`chart ${loading ? "loading" : ""}`}>
      <figcaption>
        <Heading>{title}{unit && <small> {unit}</small>}</Heading>
        <Views view={view} setView={setView} title={title} />
      </figcaption>
      <Trouble error={error} />
      {view === "promql" && <Expressions series={series} span={span} />}
      {view === "table" && answer && <Values title={title} answer={answer} format={format} />}
      {view === "chart" && (filled
        ? <Plot answer={answer} format={format} sync={sync} max={max} log={log} height={height} bands={bands} marks={marks} summary={say(title, answer, format)} onCursor={setCursor} />
        : <p class="nothing" style={{ minHeight: `${height}px` }}>{!answer && !error ? "Loading" : nothing ?? "Nothing was counted in this time. A longer range may show more."}</p>)}
      {view === "chart" && filled && (
        <ul class="legend">
          {lines.map((l, i) => (
            <li key={l.label}>
              <span class="swatch" style={{ background: `var(--${l.colour ?? `series-${(i % 7) + 1}`})` }} aria-hidden="true" />
              <Text>{l.label}</Text> <b>{format((cursor !== null ? l.column[cursor] : latest(l.column)) ?? undefined)}</b>
            </li>
          ))}
          <li class="when">{cursor !== null && answer.times[cursor] ? clock(new Date(answer.times[cursor] * 1000)) : "latest"}</li>
        </ul>
      )}
    </figure>
  );
};

export const Views = ({ view, setView, title }) => (
  <div class="views" role="group" aria-label={`How ${title} is shown`}>
    {[["chart", "Chart"], ["table", "Table"], ["promql", "PromQL"]].map(([key, name]) => (
      <button type="button" key={key} aria-pressed={view === key} onClick={() => setView(key)}>{name}</button>
    ))}
  </div>
);

export const Expressions = ({ series, span }) => (
  <div class="expressions">
    {series.map((s) => {
      const text = s.expression(span);
      return (
        <div key={text}>
          <p>{s.label ?? s.by} <Copy text={text} /></p>
          <pre tabIndex={0} aria-label={`PromQL of ${s.label ?? s.by}`}><Text>{text}</Text></pre>
        </div>
      );
    })}
  </div>
);

const Values = ({ title, answer: { times, lines, span }, format }) => (
  <Scroll label={`${title} as a table`} class="values">
    <table>
      <caption class="hidden">{title}, {moments(span)}</caption>
      <thead><tr><th scope="col">Time</th>{lines.map((l) => <th scope="col" class="number"><Text>{l.label}</Text></th>)}</tr></thead>
      <tbody>
        {times.map((t, i) => (
          <tr key={t}>
            <th scope="row">{stamp(t, span)}</th>
            {lines.map((l) => <td class="number">{l.column[i] === null ? unknown : format(l.column[i])}</td>)}
          </tr>
        )).reverse()}
      </tbody>
    </table>
  </Scroll>
);

const stamp = (t, span) => {
  const d = new Date(t * 1000);
  return span.to - span.from >= 86400 ? `${day(d)} ${clock(d)}` : clock(d);
};
