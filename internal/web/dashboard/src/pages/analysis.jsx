// What the agent concludes: issues with their causes and what to do, and of any metric over any time what happened to it, with what, and what is to come.
import { useAnswer } from "../api.js";
import { usePlot, useSpan, frame, nameOf } from "../chart.jsx";
import { bytesPerSecond, clock, count, megabytes, milliseconds, moment, number, percent, perSecond, seconds } from "../format.js";
import { drawMarks, markOf, or404 } from "../marks.jsx";
import { Empty, Panel, Prose, sentence, Severity, Text, Trouble } from "../parts.jsx";
import { Table } from "../table.jsx";
import { change, link } from "../url.js";

export const Analysis = ({ live, parameters }) => (
  <>
    <h1>Analysis</h1>
    <Now live={live} />
    <Past live={live} parameters={parameters} />
  </>
);

const states = { critical: "verdict-critical", degraded: "verdict-degraded", healthy: "verdict-healthy" };

const Now = ({ live }) => {
  const { answer, error } = useAnswer(or404("/troubleshoot/performance"), [], [live.tick]);
  if (answer?.absent) return <Empty title="This agent does not name issues and their causes."><p><a href={link("/alerts")}>Alerts</a> say what is beyond its limits.</p></Empty>;
  if (!answer) return error ? <Trouble error={error} /> : <p class="nothing">Loading</p>;
  return (
    <>
      <section class={`verdict ${states[answer.status] ?? ""}`} aria-label="Verdict">
        <p class="word"><span class="dot" aria-hidden="true" /><span><Prose>{sentence(answer.summary)}</Prose></span></p>
        {answer.healthy && <p><Prose>{sentence(answer.healthy)}</Prose></p>}
        {!answer.looking && <p>Nobody looks for unusual values: <Text>{sentence(answer.why_not)}</Text></p>}
        {answer.watching && <p class="note">{count(answer.watching.series)} series are watched since {moment(answer.watching.since)}{answer.watching.series_learning > 0 ? `; of ${count(answer.watching.series_learning)} too little is known yet (five minutes with requests are enough)` : ""}.</p>}
      </section>
      <Trouble error={error} />
      {answer.issues.length > 0 && (
        <Panel title="Issues" note={`Of now${answer.issues_total > answer.issues.length ? `; the ${answer.issues.length} most severe of ${answer.issues_total}` : ""}.`}>
          <ul class="cards wide-cards">{answer.issues.map((i) => <Issue key={`${i.issue}${i.evidence?.finding_id}${i.since}${i.summary}`} of={i} />)}</ul>
        </Panel>
      )}
      {answer.foreseen?.length > 0 && (
        <Panel title="Foreseen" note="Limits that are reached if it goes on like this.">
          <ul class="lines">{answer.foreseen.map((f) => <li key={f.summary}><Prose>{sentence(f.summary)}</Prose></li>)}</ul>
        </Panel>
      )}
      {answer.ended?.length > 0 && (
        <Panel title="Over" note="Findings that ended within a day.">
          <Table caption="Findings that are over" rows={answer.ended} rowKey={(i) => `${i.evidence?.finding_id}${i.since}`} columns={[
            { key: "severity", label: "Severity", text: true, cell: (i) => <Severity severity={i.severity} /> },
            { key: "summary", label: "What it was", text: true, cell: (i) => <Prose>{sentence(i.summary)}</Prose> },
            { key: "from", label: "Began", text: true, wide: true, cell: (i) => moment(i.since) },
            { key: "to", label: "Over", text: true, wide: true, cell: (i) => moment(i.end) },
          ]} />
        </Panel>
      )}
    </>
  );
};

const kinds = { finding: "unusual", alert: "alert", level: "beyond its limits", saturation: "nearly full", agent: "of the agent itself" };

const phases = { queue: "waiting to be read" };
const matters = (phase) => phase.share_percent >= 5; // of what requests take more

const subjectLink = (i) => i.http_route && i.method
  ? link("/endpoint", { service: i.service_name, namespace: i.service_namespace, method: i.method, route: i.http_route })
  : link("/endpoints", { service: i.service_name });

const Issue = ({ of: i }) => (
  <li class={`card severity-${i.severity}`}>
    <h3><Severity severity={i.severity} /> <small>{kinds[i.issue] ?? i.issue}{i.since ? `, since ${moment(i.since)}` : ""}{i.end ? ` until ${moment(i.end)}` : ""}</small></h3>
    <p><strong><Prose>{sentence(i.summary)}</Prose></strong></p>
    {i.phases?.some(matters) && <p>Where the time went: {i.phases.filter(matters).map((p) => `${phases[p.phase] ?? p.phase} (${milliseconds(p.before_ms)} → ${milliseconds(p.after_ms)})`).join(", ")}</p>}
    {i.probable_causes?.length > 0 && (
      <>
        <p>Probable causes:</p>
        <ol>{i.probable_causes.map((c) => <li key={c.summary}><Prose>{c.summary}</Prose> <small>{c.confidence !== undefined ? `confidence ${Math.round(100 * c.confidence)} %` : ""}</small></li>)}</ol>
      </>
    )}
    <Others title="Perhaps behind it:" all={(i.effects ?? []).filter((e) => e.causing)} />
    <Others title="Affected by it:" all={(i.effects ?? []).filter((e) => !e.causing)} />
    {i.next_steps?.length > 0 && <><p>Next:</p><ul>{i.next_steps.map((s) => <li key={s}><Prose>{s}</Prose></li>)}</ul></>}
    {i.failures?.length > 0 && <p class="note">Kept failures: <Text>{i.failures.map((f) => `${f.error_type} (${f.kept})`).join(", ")}</Text></p>}
    {i.alerts?.length > 0 && <p class="note">Alerts of the same: <a href={link("/alerts")}><Text>{[...new Set(i.alerts.map((a) => `${a.alertname} (${a.severity ?? "no severity"})`))].join(", ")}</Text></a></p>}
    {i.service_name && <p class="note"><a href={subjectLink(i)}><Text>{[i.service_name, i.method, i.http_route].filter(Boolean).join(" ")}</Text></a></p>}
  </li>
);

const Others = ({ title: name, all }) => all.length > 0 && (
  <><p>{name}</p><ul>{all.map((e) => <li key={e.id}><Prose>{sentence(e.summary)}</Prose></li>)}</ul></>
);

const forms = { ms: milliseconds, percent, mb: megabytes, mb_per_second: (v) => bytesPerSecond(v * 1e6), rps: perSecond, per_second: perSecond, count: number };
const formOf = (unit) => forms[unit] ?? ((v) => `${number(v)}${unit ? ` ${unit}` : ""}`);
const names = { cpu_usage: "Processors", cpu_throttling: "Processor throttling", pressure_cpu: "Pressure: processors", pressure_memory: "Pressure: memory", pressure_io: "Pressure: disks" };
const title = (metric) => names[metric] ?? metric[0].toUpperCase() + metric.slice(1).replaceAll("_", " ");

// Past asks for one metric of one subject, or briefly for the usual ones.
const Past = ({ live, parameters: { of = "", route = "", metric = "" } }) => {
  const [span] = useSpan();
  const from = Math.min(span.from, span.to - 600); // the shortest that conclusions are drawn of
  const asked = new URLSearchParams({ from, to: span.to });
  if (of) asked.set("service", of);
  if (of && route) asked.set("route", route);
  if (metric) asked.set("metric", metric);
  const refresh = Math.floor(span.to / Math.max(60, (span.to - from) / 60));
  const { answer, error, loading } = useAnswer(or404(`/performance/analytics?${asked}`), [nameOf(span), of, route, metric], [refresh]);
  const routes = useAnswer(of ? or404(`/performance/summary?${new URLSearchParams({ service: of, limit: 1000 })}`) : async () => ({}), [of], []);
  const services = [...new Set([...(live.document?.services ?? []).map((s) => s.service_name), of].filter(Boolean))].sort();
  const endpoints = of ? [...new Set([...(routes.answer?.endpoints ?? []).map((e) => `${e.method} ${e.http_route}`), route].filter(Boolean))].sort() : [];
  const choose = (name, others = {}) => (event) => change({ [name]: event.target.value, ...others });
  return (
    <Panel title="What the history says" note="Of the time that is chosen above." actions={(
      <div class="filters">
        <label>Of <select value={of} onChange={choose("of", { route: "", metric: "" })}><option value="">the whole host</option>{services.map((s) => <option key={s} value={s}>{s}</option>)}</select></label>
        {of && <label>Route <select value={route} onChange={choose("route", { metric: "" })}><option value="">all</option>{endpoints.map((e) => <option key={e} value={e}>{e}</option>)}</select></label>}
        {metric && <button type="button" onClick={() => change({ metric: "" })}>All metrics</button>}
      </div>
    )}>
      <Trouble error={error} />
      {answer?.absent && <Empty title="This agent does not analyse its history."><p>It needs one: see <code>--storage.retention</code>.</p></Empty>}
      {!answer && !error && <p class="nothing">Loading</p>}
      {answer?.notes?.map((n) => <p class="note" key={n}><Text>{sentence(n)}</Text></p>)}
      {answer?.metrics && (metric ? <Metric key={metric} of={answer.metrics[0]} window={answer.window} /> : <Metrics all={answer.metrics} loading={loading} />)}
    </Panel>
  );
};

const told = (m) => {
  if (m.unknown_reason) return m.unknown_reason;
  return [m.trend?.summary, ...m.changes.map((c) => c.summary), ...m.limits.map((l) => l.summary)].filter(Boolean).join("; ");
};

const Metrics = ({ all }) => (
  <Table caption="Metrics" rows={all} rowKey={(m) => `${m.metric}${m.device ?? ""}`} columns={[
    { key: "metric", label: "Metric", text: true, cell: (m) => <a data-row href={linkToMetric(m.metric)}>{title(m.metric)}{m.percentile ? ` (p${m.percentile})` : ""}{m.device ? <> of <Text>{m.device}</Text></> : ""}</a> },
    { key: "latest", label: "Latest", cell: (m) => formOf(m.unit)(m.statistics.latest ?? undefined) },
    { key: "median", label: "Median", wide: true, cell: (m) => formOf(m.unit)(m.statistics.median ?? undefined) },
    { key: "max", label: "Highest", wide: true, cell: (m) => formOf(m.unit)(m.statistics.max ?? undefined) },
    { key: "changes", label: "Changes", wide: true, cell: (m) => count(m.changes.length) },
    { key: "findings", label: "Findings", wide: true, cell: (m) => count(m.anomalies.length) },
    { key: "told", label: "Conclusion", text: true, cell: (m) => <Text>{sentence(told(m))}</Text> },
  ]} />
);

const linkToMetric = (metric) => {
  const [path, query = ""] = location.hash.slice(1).split("?", 2);
  return `#${path}?${new URLSearchParams({ ...Object.fromEntries(new URLSearchParams(query)), metric })}`;
};

const Metric = ({ of: m, window }) => {
  const form = formOf(m.unit);
  return (
    <>
      <h3>{title(m.metric)}{m.percentile ? ` (percentile ${m.percentile})` : ""}</h3>
      <p><Text>{sentence(m.summary)}</Text></p>
      {m.series?.some((p) => p.value !== null) && <Drawn metric={m} window={window} form={form} />}
      <dl class="tiles">
        {[["Latest", m.statistics.latest], ["Median", m.statistics.median], ["Mean", m.statistics.mean], ["Lowest", m.statistics.min], ["Highest", m.statistics.max], ["Of all requests", m.statistics.overall]].filter(([, v]) => v !== null && v !== undefined)
          .map(([label, v]) => <div class="tile" key={label}><dt>{label}</dt><dd>{form(v)}</dd></div>)}
      </dl>
      <Part title="Trend">{m.trend && <p><Text>{sentence(m.trend.summary)}</Text>{m.trend.direction !== "steady" && ` R² ${number(m.trend.r_squared)}, p = ${number(m.trend.p_value)}.`}</p>}</Part>
      <Part title="Changes" none="No lasting change of level or slope.">{m.changes.length > 0 && <ul class="lines">{m.changes.map((c) => <li key={c.time}>{moment(c.time)}: <Text>{sentence(c.summary.replace(/^on \d+ [A-Z][a-z]+ \d\d:\d\d UTC /, ""))}</Text></li>)}</ul>}</Part>
      <Part title="Unusual times" none={m.anomalies_unknown_reason ? sentence(m.anomalies_unknown_reason) : "None."}>{m.anomalies.length > 0 && <ul class="lines marked">{m.anomalies.map((a) => <li key={`${a.id}${a.start}`}><Severity severity={a.severity} /> <Prose>{sentence(a.summary ?? "")}</Prose></li>)}</ul>}</Part>
      <Part title="To come">{m.forecast && <><p><Text>{sentence(m.forecast.summary)}</Text></p>{m.limits.length > 0 && <ul class="lines">{m.limits.map((l) => <li key={l.limit}><Text>{sentence(l.summary)}</Text></li>)}</ul>}</>}</Part>
      <Correlations all={m.correlations} />
      {m.unknown_reason && <p class="note"><Text>{sentence(m.unknown_reason)}</Text></p>}
    </>
  );
};

const Part = ({ title: name, none, children }) => (children || none) && (
  <section aria-label={name}><h3>{name}</h3>{children || <p class="note">{none}</p>}</section>
);

const Correlations = ({ all }) => {
  const related = all.filter((c) => c.relationship !== "none");
  if (all.length === 0) return null;
  return (
    <Part title="Goes together with" none={`None of ${all.length} other metrics, beyond chance${all.some((c) => c.held_constant) ? " and without what follows the load" : ""}.`}>
      {related.length > 0 && (
        <Table caption="Correlations" rows={related} rowKey={(c) => `${c.metric}${c.device ?? ""}${c.service_name ?? ""}`} columns={[
          { key: "metric", label: "Metric", text: true, cell: (c) => <><Text>{[title(c.metric), c.device].filter(Boolean).join(" of ")}</Text>{c.summary && <small> <Text>{c.summary}</Text></small>}</> },
          { key: "strength", label: "How", text: true, cell: (c) => `${c.relationship}, ${c.strength}` },
          { key: "r", label: "Coefficient", cell: (c) => number(c.coefficient ?? undefined) },
          { key: "lag", label: "When", wide: true, cell: (c) => (c.lag_seconds > 0 ? `${seconds(c.lag_seconds)} before` : c.lag_seconds < 0 ? `${seconds(-c.lag_seconds)} after` : "same time") },
          { key: "q", label: "q", wide: true, cell: (c) => number(c.q_value) },
        ]} />
      )}
    </Part>
  );
};

// Drawn is a metric with what is expected of it, its changes and its unusual times.
const Drawn = ({ metric: m, window, form }) => {
  const ahead = m.forecast?.values ?? [];
  const at = (v) => Date.parse(v.time) / 1000;
  const times = [...m.series.map(at), ...ahead.map(at)];
  const before = m.series.map(() => null), after = ahead.map(() => null);
  const data = [times, [...m.series.map((p) => p.value), ...after], [...before, ...ahead.map((v) => v.high)], [...before, ...ahead.map((v) => v.mean)], [...before, ...ahead.map((v) => v.low)]];
  const marks = [...m.anomalies.map((a) => markOf(a)), ...m.changes.map((c) => markOf({ start: c.time, severity: "warning", lasting: true }))];
  const span = { from: Date.parse(window.from) / 1000, to: times.at(-1), step: window.step_seconds };
  const element = usePlot((css, width) => {
    const line = css.getPropertyValue("--series-1").trim(), expected = css.getPropertyValue("--muted").trim();
    const lone = data[1].filter((v) => v !== null).length < 2;
    return {
      data,
      options: {
        width, height: 220, ...frame(css, span, form, { range: (u, low, high) => [Math.min(0, low ?? 0), (high ?? 0) * 1.05 || 1] }),
        cursor: { drag: { x: false, y: false }, y: false },
        series: [{}, { stroke: line, width: 1.75, points: { show: lone } }, { stroke: "transparent", points: { show: false } }, { stroke: expected, dash: [4, 4], width: 1.5, points: { show: false } }, { stroke: "transparent", points: { show: false } }],
        bands: [{ series: [2, 4], fill: `${expected}33` }],
        hooks: { drawClear: [drawMarks(marks, css)] },
      },
    };
  }, [JSON.stringify([data, marks])]);
  const [first, last] = [m.series[0], m.series.at(-1)];
  return (
    <figure class="chart">
      <div class="plot" ref={element} role="img" aria-label={`${title(m.metric)} from ${moment(first.time)} to ${moment(last.time)}. ${shownSummary(m)}`} />
      <ul class="legend">
        <li><span class="swatch" style={{ background: "var(--series-1)" }} aria-hidden="true" />measured</li>
        {ahead.length > 0 && <li><span class="swatch" style={{ background: "var(--muted)" }} aria-hidden="true" />expected, with the band of 95 %</li>}
        {marks.length > 0 && <li>coloured: unusual; dashed: a lasting change</li>}
        <li class="when">steps of {seconds(window.step_seconds)}, until {clock(new Date(last.time))}</li>
      </ul>
    </figure>
  );
};

const shownSummary = (m) => sentence(m.statistics.summary);
