// What this host's programs call: other services, APIs, databases that speak HTTP.
import { ask, useAnswer } from "../api.js";
import { milliseconds, number, percent, perSecond } from "../format.js";
import { Empty, Panel, Text, Trouble } from "../parts.jsx";
import { ofTime, usePast } from "../past.jsx";
import { client } from "../promql.js";
import { Table } from "../table.jsx";
import { change, link } from "../url.js";
import { Exchanges } from "../exchanges.jsx";
import { EntryCharts } from "./endpoint.jsx";

const peer = (t) => `${t.server_address}${t.server_port ? `:${t.server_port}` : ""}`;
const callLink = (t) => link("/calls", { service: t.service_name, namespace: t.service_namespace, method: t.method, address: t.server_address, port: t.server_port });

const columns = [
  { key: "target", label: "Target", text: true, value: (t) => `${t.answered_by ?? ""} ${peer(t)} ${t.method}`, cell: (t) => <a data-row href={callLink(t)}><Text class="method">{t.method}</Text> {t.answered_by ? <><Text>{t.answered_by}</Text> <small><Text class="route">{peer(t)}</Text></small></> : <Text class="route">{peer(t)}</Text>}</a> },
  { key: "service", label: "Called by", text: true, value: (t) => t.service_name, cell: (t) => <Text>{t.service_name}</Text> },
  { key: "rps", label: "Calls", value: (t) => t.throughput_rps, cell: (t) => perSecond(t.throughput_rps) },
  { key: "errors", label: "Failed", value: (t) => t.error_rate_percent, cell: (t) => percent(t.error_rate_percent) },
  { key: "p50", label: "p50", wide: true, value: (t) => t.response_time.p50_ms, cell: (t) => milliseconds(t.response_time.p50_ms) },
  { key: "p95", label: "p95", value: (t) => t.response_time.p95_ms, cell: (t) => milliseconds(t.response_time.p95_ms) },
  { key: "p99", label: "p99", wide: true, value: (t) => t.response_time.p99_ms, cell: (t) => milliseconds(t.response_time.p99_ms) },
  { key: "flight", label: "In flight", wider: true, value: (t) => t.in_flight_mean, cell: (t) => number(t.in_flight_mean) },
];

export const Calls = ({ parameters, live }) => {
  const { service, namespace, method, address, port } = parameters;
  return address ? <Target {...{ service, namespace, method, address, port, live }} /> : <All parameters={parameters} live={live} />;
};

const All = ({ parameters, live }) => {
  const past = usePast();
  const now = useAnswer((signal) => past ? Promise.resolve(null) : ask("/dashboard?limit=10000", signal), [Boolean(past)], [live.document?.window?.to, live.connected]);
  const { answer, error } = past ?? now;
  const rows = answer?.targets ?? [];
  return (
    <>
      <h1>Outgoing calls</h1>
      <Panel title="Targets" note={`What programs of this host called ${past ? `from ${ofTime(past)}` : "in the last 5 minutes"}, as the callers saw it: with the time on the network, and a 4xx is a failed call.`}>
        <Trouble error={error} />
        {!answer && !error && <p class="nothing">Loading</p>}
        {answer && <Table caption="Targets" columns={columns} rows={rows} rowKey={(t) => `${t.service_name} ${t.method} ${peer(t)}`} sort={parameters.sort ?? "rps"} descending={parameters.up !== "1"}
          onSort={(sort, down) => change({ sort, up: down ? "" : "1" }, { step: false })} page={Number(parameters.page ?? 1)} onPage={(page) => change({ page })}
          empty={<Empty title={past ? "No outgoing call was counted in this time." : "No outgoing call was seen in the last 5 minutes."}><p>Calls are seen where they are HTTP/1 in clear. What goes out encrypted is not decoded; the page <a href={link("/agent")}>Agent</a> counts such connections.</p></Empty>} />}
      </Panel>
    </>
  );
};

// Answering says which service of this host an address is of.
const Answering = ({ address, port, live }) => {
  const known = live.document?.targets.find((t) => t.answered_by && t.server_address === address && String(t.server_port ?? "") === (port ?? ""));
  return known ? <p class="note">There answers <a href={link("/endpoints", { service: known.answered_by })}><Text>{known.answered_by}</Text></a> of this host.</p> : null;
};

const Target = ({ service, namespace, method, address, port, live }) => (
  <>
    <p class="crumbs"><a href={link("/calls")}>Outgoing calls</a> / <Text>{service}</Text></p>
    <h1><Text class="method">{method}</Text> <Text class="route">{peer({ server_address: address, server_port: port })}</Text></h1>
    <Answering {...{ address, port, live }} />
    <EntryCharts metric={client} service={service} namespace={namespace} labels={{ service_name: service, service_namespace: namespace, http_request_method: method, server_address: address, server_port: port }} />
    <Exchanges service={service} only={{ role: "client", method }} match={(e) => e.server_address === address && (!port || String(e.server_port) === port)} live={live} />
  </>
);
