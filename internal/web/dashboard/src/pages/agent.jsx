// Is what is shown true? The agent's own health, what it lost, and what it cannot see.
import { Chart } from "../chart.jsx";
import { count, megabytes, moment, number, percent, seconds, span } from "../format.js";
import { Panel, sentence, Text, Tile } from "../parts.jsx";
import { Table } from "../table.jsx";

// The agent's own counters are in the history every half minute.
const own = ({ window }) => Math.max(window, 120);

export const Agent = ({ live: { document: d } }) => {
  const a = d?.agent;
  if (!a) return <><h1>Agent</h1><p class="nothing">Waiting for the agent's first answer.</p></>;
  const attached = a.hooks.filter((h) => h.attached).length;
  return (
    <>
      <h1>The agent itself</h1>
      <section class={`verdict verdict-${a.status}`} aria-label="Verdict">
        <p class="word"><span class="dot" aria-hidden="true" />{a.status === "healthy" ? "The agent works, and sees what it should" : "The agent is degraded"}</p>
        {a.reasons.length > 0 && <ul>{a.reasons.map((r) => <li key={r}><Text>{sentence(r)}</Text></li>)}</ul>}
      </section>
      <dl class="tiles">
        <Tile label="Exchanges" value={count(a.exchanges)} note="since the start" />
        <Tile label="Lost" value={percent(a.recent.exchanges_lost_percent)} note={`of 10 minutes; ${count(a.exchanges_lost)} in all`} />
        <Tile label="Memory" value={megabytes(a.memory.resident_mb)} note={a.memory.limit_mb !== undefined ? `of ${megabytes(a.memory.limit_mb)}` : ""} />
        <Tile label="In the kernel" value={megabytes(a.memory.bpf_maps_mb)} note="BPF maps" />
        <Tile label="Runs for" value={span(a.uptime_seconds)} note={`backend ${a.backend ?? "none"}`} />
        <Tile label="Endpoints" value={count(a.endpoints)} note={a.endpoints_overflowed ? `${count(a.endpoints_overflowed)} exchanges under _OTHER` : "none over the limit"} />
      </dl>
      <Panel title="What is not visible, and why">
        {a.not_visible.length === 0 && a.undecoded.length === 0 && <p>Everything that the agent can see on a Linux host is visible on this one: no gap is known, and no connection is open that it cannot read.</p>}
        {a.not_visible.length > 0 && <ul>{a.not_visible.map((m) => <li key={m}><Text>{sentence(m)}</Text></li>)}</ul>}
        {a.undecoded.length > 0 && (
          <Table caption="Connections that are not decoded" rows={a.undecoded} rowKey={(u) => `${u.service_name} ${u.reason}`} columns={[
            { key: "service", label: "Service", text: true, cell: (u) => <Text>{u.service_name}</Text> },
            { key: "reason", label: "What it carries", text: true, cell: (u) => ({ tls: "TLS", http2: "HTTP/2", unknown: "another protocol, which is not recognised" }[u.reason] ?? u.reason) },
            { key: "n", label: "Open connections", cell: (u) => count(u.connections) },
          ]} />
        )}
      </Panel>
      <Panel title="Losses" note="Exchanges that happened and are not reported, by where they were lost.">
        {a.losses.length === 0 ? <p>None since the start.</p> : (
          <Table caption="Losses" rows={a.losses} rowKey={(l) => `${l.stage} ${l.reason}`} columns={[
            { key: "stage", label: "Where", text: true, cell: (l) => l.stage },
            { key: "reason", label: "Why", text: true, cell: (l) => l.reason },
            { key: "n", label: "Exchanges", cell: (l) => count(l.count) },
          ]} />
        )}
        <div class="grid two">
          <Chart title="Exchanges a second, seen" format={number} series={[{ by: "role", expression: (span) => `sum by (role) (rate(perfagent_exchanges_total[${own(span)}s]))` }]} height={120} nothing="The agent's own counters are in the history while rules are evaluated." />
          <Chart title="Exchanges a second, lost" format={number} series={[{ label: "lost", colour: "bad", expression: (span) => `sum(rate(perfagent_exchanges_lost_total[${own(span)}s]))` }]} height={120} max={1} nothing="The agent's own counters are in the history while rules are evaluated." />
        </div>
      </Panel>
      <div class="grid two">
        <Panel title="Hooks" note={`${attached} of ${a.hooks.length} attached.`}>
          <Table caption="Hooks" rows={a.hooks} rowKey={(h) => `${h.probe} ${h.backend}`} columns={[
            { key: "probe", label: "Hook", text: true, cell: (h) => <code>{h.probe}</code> },
            { key: "backend", label: "Backend", text: true, cell: (h) => h.backend },
            { key: "attached", label: "Attached", text: true, cell: (h) => <span class={`level level-${h.attached ? "good" : "critical"}`}><span class="dot" aria-hidden="true" />{h.attached ? "yes" : "no"}</span> },
          ]} />
        </Panel>
        <Panel title="Parts" note="That may fail, and are tried again.">
          {a.parts.length === 0 ? <p>None has failed since the start.</p> : (
            <Table caption="Parts" rows={a.parts} rowKey={(p) => p.part} columns={[
              { key: "part", label: "Part", text: true, cell: (p) => <Text>{p.part}</Text> },
              { key: "works", label: "Works", text: true, cell: (p) => (p.works ? "yes" : `no, since ${moment(p.failed_since)}`) },
              { key: "n", label: "Came back", cell: (p) => count(p.recoveries) },
              { key: "away", label: "Away in all", cell: (p) => seconds(p.away_seconds ?? undefined) },
            ]} />
          )}
          {a.queues.map((q) => <p key={q.name}>Queue {q.name}: {q.length} of {q.capacity}</p>)}
          {a.config && <p>Configuration: {a.config.last_reload_successful ? `read ${moment(a.config.last_reload_success_time)}` : "could not be read again; the one before is in force"}</p>}
        </Panel>
      </div>
    </>
  );
};
