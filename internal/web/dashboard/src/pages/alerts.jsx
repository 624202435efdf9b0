// What fires, what to do about it, and what is left of the error budgets.
import { Chart } from "../chart.jsx";
import { ago, moment, number, percent } from "../format.js";
import { Empty, Panel, sentence, Severity, Text } from "../parts.jsx";
import { selector } from "../promql.js";
import { Table } from "../table.jsx";
import { link } from "../url.js";

export const Alerts = ({ live: { document: d } }) => {
  const a = d?.alerts;
  if (!d) return <><h1>Alerts</h1><p class="nothing">Waiting for the agent's first answer.</p></>;
  if (!a?.evaluating) {
    return (
      <>
        <h1>Alerts</h1>
        <Empty title="No rules are evaluated."><p>{sentence(a?.why_not ?? "this agent serves no alerts")} Rules need the local history: see <code>--storage.retention</code>.</p></Empty>
      </>
    );
  }
  return (
    <>
      <h1>Alerts and objectives</h1>
      <Panel title="Alerts" note={`${a.firing_total} firing, ${a.pending_total} pending, of ${a.rules} rules${a.rules_failing ? `; ${a.rules_failing} rules cannot be evaluated (see /api/v1/rules)` : ""}.`}>
        {a.alerts.length === 0
          ? <Empty title="Nothing fires, and nothing is about to."><p>The built-in rules watch response times, errors, the host, and the agent itself. Limits of your own: <code>alerts.thresholds</code>, <code>--alert.rules-file</code>.</p></Empty>
          : <ul class="cards">{grouped(a.alerts).map(([key, all]) => <Rule key={key} alerts={all} />)}</ul>}
      </Panel>
      <Objectives objectives={a.objectives} />
      <Panel title="Resolved" note="Within the last 24 hours.">
        {a.resolved.length === 0 ? <p class="nothing">None.</p> : (
          <Table caption="Resolved alerts" rows={a.resolved} rowKey={(r) => `${JSON.stringify(r.labels)}${r.resolved_at}`} columns={[
            { key: "name", label: "Alert", text: true, cell: (r) => <Text>{r.alertname}</Text> },
            { key: "severity", label: "Severity", text: true, cell: (r) => <Severity severity={r.severity} /> },
            { key: "summary", label: "What it was", text: true, cell: (r) => <Text>{r.summary}</Text> },
            { key: "from", label: "Began", text: true, wide: true, cell: (r) => moment(r.fired_at ?? r.active_at) },
            { key: "to", label: "Over", text: true, cell: (r) => moment(r.resolved_at) },
          ]} />
        )}
      </Panel>
    </>
  );
};

// grouped puts alerts together that differ in whom they are about alone: what the rule says is said once. The order is that of the first of each.
const grouped = (alerts) => {
  const groups = new Map();
  for (const a of alerts) {
    const key = JSON.stringify([a.alertname, a.severity, a.state, a.description, a.next_step]);
    groups.set(key, [...(groups.get(key) ?? []), a]);
  }
  return [...groups];
};

const Rule = ({ alerts: [a, ...others] }) => (
  <li class={`card severity-${a.severity ?? "none"}`}>
    <h3><Text>{a.alertname}</Text> <Severity severity={a.severity} state={a.state} />{others.length > 0 && <small>{others.length + 1} of it</small>}</h3>
    {others.length > 0
      ? <ul class="lines marked">{[a, ...others].map((one) => <li key={JSON.stringify(one.labels)}><Instance alert={one} /></li>)}</ul>
      : <Instance alert={a} />}
    {a.description && a.description !== a.summary && <p><Text>{a.description}</Text></p>}
    {a.next_step && <p class="next"><strong>Next: </strong><Text>{a.next_step}</Text></p>}
  </li>
);

const Instance = ({ alert: a }) => (
  <>
    <p><strong><Text>{a.summary}</Text></strong></p>
    <p class="note">
      {a.state === "firing" ? "Fires since " : "Holds since "}{moment(a.fired_at ?? a.active_at)} ({ago(a.fired_at ?? a.active_at)})
      {a.value !== null && <> · value {number(a.value)}</>}
      {a.service_name && <> · <a href={link("/endpoints", { service: a.service_name })}><Text>{a.service_name}</Text></a></>}
      {a.http_route && a.labels.http_request_method && <> · <a href={link("/endpoint", { service: a.service_name, namespace: a.labels.service_namespace, method: a.labels.http_request_method, route: a.http_route })}><Text>{`${a.labels.http_request_method} ${a.http_route}`}</Text></a></>}
    </p>
  </>
);

const states = { ok: "good", burning: "poor", spent: "critical" };

const Objectives = ({ objectives }) => (
  <Panel title="Objectives" note="How much of its error budget each has left.">
    {objectives.length === 0 ? (
      <Empty title="No objectives are set.">
        <p>Say in the configuration file what a service shall reach, and its error budget is kept here:</p>
        <pre tabIndex={0} aria-label="Example of objectives">{"objectives:\n  - {service: shop, availability-percent: 99.9, latency-ms: 300, latency-percent: 99}"}</pre>
      </Empty>
    ) : (
      <>
        <Chart title="Error budget left" format={percent} max={100} height={130} keys={objectives.map((o) => budgetOf(o).label)} series={objectives.slice(0, 8).map(budgetOf)} nothing="Budgets are kept in the history from the first evaluation on." />
        <ul class="cards">
          {objectives.map((o) => (
            <li class={`card state-${o.state}`} key={`${o.service_name}${o.http_route}${o.objective}${o.target_percent}`}>
              <h3><Text>{o.http_route ? `${o.http_route} of ${o.service_name}` : o.service_name}</Text> <span class={`level level-${states[o.state] ?? "none"}`}><span class="dot" aria-hidden="true" />{o.state}</span></h3>
              <p>{o.objective === "latency" ? `${o.target_percent} % of requests within ${o.latency_ms} ms` : `${o.target_percent} % of requests without failure`}, over {number(o.window_days)} days</p>
              <Budget left={o.error_budget_left_percent} />
              {Object.keys(o.burn_rates).length > 0 && <p class="note">Burn rate: {Object.entries(o.burn_rates).sort((x, y) => lengthOf(x[0]) - lengthOf(y[0])).map(([w, v]) => `${number(v)} over ${w}`).join(", ")}</p>}
            </li>
          ))}
        </ul>
      </>
    )}
  </Panel>
);

const budgetOf = (o) => ({
  label: `${o.http_route ? `${o.http_route} of ${o.service_name}` : o.service_name}, ${o.objective}`,
  expression: () => `100 * perfagent_objective_error_budget_left_ratio${selector({ service_name: o.service_name, http_route: o.http_route, objective: o.objective })}`,
});

// lengthOf is a window such as 5m, in minutes.
const lengthOf = (w) => parseFloat(w) * { m: 1, h: 60, d: 1440 }[w.at(-1)];

const Budget = ({ left }) => {
  if (left === null || left === undefined) return <p class="note">Not known yet: no request was seen, or it was not evaluated since the start.</p>;
  return (
    <>
      <p><strong>{percent(left)}</strong> of the error budget left</p>
      <span class="bar" aria-hidden="true"><span class={`part ${left > 25 ? "ok" : "scarce"}`} style={{ width: `${Math.min(100, Math.max(0, left))}%` }} /></span>
    </>
  );
};
