// How is everything now? What fires, every service with its level, the host.
import { Chart } from "../chart.jsx";
import { ago, bytesPerSecond, count, megabytes, milliseconds, number, percent, perSecond, unknown } from "../format.js";
import { Findings, useFindings } from "../marks.jsx";
import { Empty, Level, Panel, sentence, Severity, Text, Tile, Trouble } from "../parts.jsx";
import { ofTime, usePast } from "../past.jsx";
import { failures, host, quantiles, rate, server } from "../promql.js";
import { Table } from "../table.jsx";
import { change, link } from "../url.js";

export const Overview = ({ live: { document: d }, parameters }) => {
  const [findings, marks] = useFindings();
  const past = usePast();
  if (!d) return <><h1>Overview</h1><p class="nothing">Waiting for the agent's first answer.</p></>;
  return (
    <>
      <h1>Overview</h1>
      {past ? <Trouble error={past.error} /> : <Verdict d={d} />}
      {past && !past.answer && !past.error && <p class="nothing">Loading</p>}
      {!past && d.exchanges === 0 && d.services.length === 0 ? <Nothing d={d} /> : (
        <>
          {past?.answer ? <Then a={past.answer} /> : !past && <Now d={d} />}
          <Findings findings={findings} />
          <div class="grid three">
            <div class="panel"><Chart level={2} marks={marks} title="Requests a second" format={number} series={[{ label: "all services", expression: rate(server, "") }]} /></div>
            <div class="panel"><Chart level={2} marks={marks} title="Failed requests" format={percent} series={[{ label: "all services", colour: "bad", expression: failures(server, "") }]} max={1} /></div>
            <div class="panel"><Chart level={2} marks={marks} title="Response times" format={(v) => milliseconds(v * 1000)} series={quantiles(server, "")} bands log /></div>
          </div>
          {(!past || past.answer) && <Services d={past?.answer ?? d} past={past} parameters={parameters} />}
        </>
      )}
      <Host d={d} past={past} />
    </>
  );
};

const Now = ({ d }) => (
  <dl class="tiles">
    <Figures of={d} note="mean of 5 minutes" />
    <Tile label="In flight" value={number(d.concurrency.in_flight_mean)} note={d.concurrency.active !== undefined ? `${number(d.concurrency.active)} now` : "mean"} />
  </dl>
);

const Then = ({ a }) => (
  <dl class="tiles">
    <Figures of={a} note="mean of this time" />
    <Tile label="In flight" value={number(a.in_flight_mean ?? undefined)} note="mean" />
  </dl>
);

const Figures = ({ of: d, note }) => (
  <>
    <Tile label="Requests" value={perSecond(d.throughput_rps)} note={note} />
    <Tile label="Failed" value={percent(d.error_rate_percent)} note={`${count(d.failures)} of ${count(d.exchanges)}`} level={d.error_rate_percent >= 5 ? "bad" : ""} />
    <Tile label="Median" value={milliseconds(d.response_time.p50_ms)} />
    <Tile label="95th percentile" value={milliseconds(d.response_time.p95_ms)} />
    <Tile label="99th percentile" value={milliseconds(d.response_time.p99_ms)} />
  </>
);

const Verdict = ({ d }) => {
  const { health, alerts, agent } = d;
  const firing = (alerts?.alerts ?? []).filter((a) => a.state === "firing");
  const unusual = (d.findings ?? []).filter((f) => !f.end && f.severity !== "info");
  const but = health.status === "healthy" && (firing.length ? "alerts fire" : unusual.length ? "something is unusual" : "");
  const word = { healthy: "All judged endpoints are well", degraded: "Something is slow or fails", critical: "Something is far beyond its limits", unknown: "Nothing is judged yet" }[health.status];
  return (
    <section class={`verdict verdict-${but ? "degraded" : health.status}`} aria-label="Verdict">
      <p class="word"><span class="dot" aria-hidden="true" />{but ? `Endpoints are within their limits, but ${but}` : word}</p>
      {health.status === "unknown" && health.unknown_reason && <p>{sentence(health.unknown_reason)}</p>}
      {health.reasons.length > 0 && (
        <ul>
          {health.reasons.slice(0, 5).map((r) => (
            <li key={`${r.service_name} ${r.method} ${r.http_route} ${r.aspect}`}>
              {r.http_route !== undefined
                ? <a href={endpointLink(r)}><Text>{`${r.method} ${r.http_route}`}</Text></a>
                : <a href={link("/endpoints", { service: r.service_name })}><Text>{r.service_name}</Text></a>}
              {" "}of <Text>{r.service_name}</Text>: {r.message}{r.level && <> (<Level level={{ name: r.level, severe: r.severe }} />)</>}
            </li>
          ))}
          {health.reasons_total > 5 && <li><a href={link("/endpoints", { sort: "level", down: 1 })}>{health.reasons_total - 5} more</a></li>}
        </ul>
      )}
      {unusual.length > 0 && <p>{unusual.length === 1 ? "One thing is" : `${unusual.length} things are`} unusual: <a href={link("/analysis")}>since when, and why</a></p>}
      {firing.length > 0 && (
        <ul class="marked">
          {firing.slice(0, 5).map((a) => (
            <li key={JSON.stringify(a.labels)}>
              <Severity severity={a.severity} /> <a href={link("/alerts")}><Text>{a.alertname}</Text></a>: <Text>{a.summary}</Text> <small>{ago(a.fired_at ?? a.active_at)}</small>
            </li>
          ))}
          {firing.length > 5 && <li><a href={link("/alerts")}>{firing.length - 5} more alerts</a></li>}
        </ul>
      )}
      {firing.length === 0 && alerts?.evaluating && <p>No alert fires ({alerts.rules} rules{alerts.pending_total > 0 ? `, ${alerts.pending_total} pending` : ""}).</p>}
      {alerts && !alerts.evaluating && <p>No rules are evaluated: <Text>{alerts.why_not}</Text></p>}
      {agent?.status === "degraded" && <p><a href={link("/agent")}>The agent itself has {agent.reasons.length === 1 ? "a trouble" : `${agent.reasons.length} troubles`}</a>: <Text>{agent.reasons[0]}</Text></p>}
    </section>
  );
};

const Nothing = ({ d }) => (
  <Empty title="No request was seen in the last five minutes.">
    <p>The agent sees HTTP/1 of every process on this host{d.agent?.undecoded?.length ? "; there are connections that it cannot read" : ""}. To see something here:</p>
    <ul>
      <li>ask a service of this host for something, for instance <code>curl http://localhost:8080/</code>; its figures come within ten seconds</li>
      <li>if <code>--capture.port</code> or another filter is set, check that it lets the service through</li>
      <li><a href={link("/agent")}>look at what is not visible</a>, and run <code>perfagent check</code></li>
      <li>choose a longer time range above: charts are of the history</li>
    </ul>
  </Empty>
);

export const endpointLink = (e) => link("/endpoint", { service: e.service_name, namespace: e.service_namespace, method: e.method, route: e.http_route });

const serviceColumns = [
  { key: "name", label: "Service", text: true, value: (s) => s.service_name, cell: (s) => <a data-row href={link("/endpoints", { service: s.service_name })}><Text>{s.service_namespace ? `${s.service_namespace}/${s.service_name}` : s.service_name}</Text></a> },
  { key: "level", label: "Level", text: true, value: (s) => (s.level ? s.level.level + (s.level.severe ? 1 : 0) : -1), cell: (s) => <Level level={s.level} why="No endpoint has enough requests to be judged" /> },
  { key: "rps", label: "Requests", value: (s) => s.throughput_rps, cell: (s) => perSecond(s.throughput_rps) },
  { key: "errors", label: "Failed", value: (s) => s.error_rate_percent, cell: (s) => percent(s.error_rate_percent) },
  { key: "p50", label: "p50", wide: true, value: (s) => s.response_time.p50_ms, cell: (s) => milliseconds(s.response_time.p50_ms) },
  { key: "p95", label: "p95", value: (s) => s.response_time.p95_ms, cell: (s) => milliseconds(s.response_time.p95_ms) },
  { key: "p99", label: "p99", wide: true, value: (s) => s.response_time.p99_ms, cell: (s) => milliseconds(s.response_time.p99_ms) },
  { key: "cpu", label: "Processors", wide: true, value: (s) => s.resources?.cpu_percent, cell: (s) => percent(s.resources?.cpu_percent) },
  { key: "memory", label: "Memory", wide: true, value: (s) => s.resources?.memory_resident_mb, cell: (s) => megabytes(s.resources?.memory_resident_mb) },
  { key: "left", label: "Capacity left", wider: true, value: (s) => s.saturation?.capacity_left_percent, cell: (s) => <span title={s.saturation_unknown_reason}>{percent(s.saturation?.capacity_left_percent)}</span> },
  { key: "endpoints", label: "Endpoints", wider: true, value: (s) => s.endpoints, cell: (s) => count(s.endpoints) },
];

const nowOnly = ["cpu", "memory", "left"];

const Services = ({ d, past, parameters }) => (
  <Panel title="Services" note={`${past ? ofTime(past) : "The last 5 minutes"}${d.services_total > d.services.length ? `; the ${d.services.length} busiest of ${d.services_total}` : ""}.${past ? "" : " Processors: 100 % is one."}`}>
    <Table caption="Services" columns={past ? serviceColumns.filter((c) => !nowOnly.includes(c.key)) : serviceColumns} rows={d.services} rowKey={(s) => `${s.service_namespace}/${s.service_name}`}
      sort={parameters.sort ?? "rps"} descending={parameters.up !== "1"} onSort={(sort, down) => change({ sort, up: down ? "" : "1" }, { step: false })}
      empty={<Empty title="No request was counted in this time."><p>Choose another time: the history has what it was given to keep, see <code>--storage.retention</code>.</p></Empty>} />
  </Panel>
);

const sum = (...all) => (all.every((v) => v === undefined) ? undefined : all.reduce((s, v) => s + (v ?? 0), 0));

const Host = ({ d, past }) => {
  const s = d.system ?? {};
  const stalled = [["processors", s.pressure_cpu_some_percent], ["memory", s.pressure_memory_some_percent], ["disks", s.pressure_io_some_percent]].filter(([, v]) => v !== undefined);
  const worst = stalled.sort((a, b) => b[1] - a[1])[0];
  return (
    <Panel title="Host">
      {!past && <dl class="tiles">
        <Tile label="Processors" value={percent(s.cpu_percent)} note={s.cpu_count ? `of ${s.cpu_count}; load ${number(s.load_1m)}` : ""} />
        <Tile label="Memory" value={percent(s.memory_used_percent)} note={`${megabytes(s.memory_available_mb)} left`} />
        <Tile label="Disks" value={bytesPerSecond(1e6 * sum(s.disk_read_mb_per_second, s.disk_write_mb_per_second))} note={s.disk_busy_percent !== undefined ? `busiest ${percent(s.disk_busy_percent)}` : ""} />
        <Tile label="Network" value={bytesPerSecond(1e6 * sum(s.network_receive_mb_per_second, s.network_transmit_mb_per_second))} note={s.tcp_retransmits_per_second !== undefined ? `${number(s.tcp_retransmits_per_second)} retransmits/s` : ""} />
        <Tile label="Pressure" value={worst ? percent(worst[1]) : unknown} note={worst ? `of the time something waits for ${worst[0]}` : "not known on this kernel"} />
      </dl>}
      <div class="grid four">
        <Chart title="Processors" format={percent} max={100} series={[{ label: "busy", colour: "series-1", expression: host.cpu, fill: true }, { label: "waiting for disks", colour: "series-2", expression: host.iowait }]} height={120} />
        <Chart title="Memory in use" format={percent} max={100} series={[{ label: "used", colour: "series-3", expression: host.memory }]} height={120} />
        <Chart title="Disks and network" format={bytesPerSecond} height={120} series={[{ label: "read", expression: host.read }, { label: "written", expression: host.written }, { label: "received", expression: host.received }, { label: "sent", expression: host.transmitted }]} />
        <Chart title="Pressure" unit="time that something waited" format={percent} height={120} series={[{ by: "resource", label: "", expression: host.pressure }]} nothing="This kernel does not tell of pressure (CONFIG_PSI)." />
      </div>
    </Panel>
  );
};
