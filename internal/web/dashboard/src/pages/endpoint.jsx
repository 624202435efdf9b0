// One endpoint over time: how long, how often, with which outcome, where the time went, beside what its service used.
import { ask, useAnswer } from "../api.js";
import { Chart } from "../chart.jsx";
import { bytes, milliseconds, number, percent, perSecond, shown } from "../format.js";
import { Heatmap } from "../heatmap.jsx";
import { Findings, useFindings } from "../marks.jsx";
import { Empty, Level, Panel, Text, Tile, Trouble } from "../parts.jsx";
import { ofTime, usePast } from "../past.jsx";
import { cpuOfService, distribution, failures, mean, memoryOfService, quantiles, rate, selector, server } from "../promql.js";
import { link } from "../url.js";
import { Exchanges } from "../exchanges.jsx";

const duration = (v) => milliseconds(v * 1000);

export const Endpoint = ({ parameters, live }) => {
  const { service = "", namespace, method = "", route = "" } = parameters;
  const labels = { service_name: service, service_namespace: namespace, http_request_method: method, http_route: route };
  const past = usePast({ service });
  const summary = useAnswer((signal) => past ? Promise.resolve(null) : ask(`/performance/summary?${new URLSearchParams({ service, limit: 10000 })}`, signal), [service, Boolean(past)], [live.tick]);
  const { answer, error } = past ?? summary;
  const figures = answer?.endpoints.find((e) => e.method === method && e.http_route === route && (e.service_namespace ?? "") === (namespace ?? ""));
  if (!service || !method) return <><h1>Endpoint</h1><Empty title="No endpoint is chosen."><p><a href={link("/endpoints")}>Choose one</a></p></Empty></>;
  return (
    <>
      <p class="crumbs"><a href={link("/endpoints")}>Endpoints</a> / <a href={link("/endpoints", { service })}><Text>{service}</Text></a></p>
      <h1><Text class="method">{method}</Text> <Text class="route">{route}</Text></h1>
      <Trouble error={error} />
      {answer && !figures && <p class="note">{past ? `It had no request from ${ofTime(past)}.` : "It had no request in the last five minutes. Charts show what the history has."}</p>}
      {figures && <Figures e={figures} past={past} />}
      <EntryCharts metric={server} labels={labels} service={service} namespace={namespace} />
      <Exchanges service={service} only={{ role: "server", method, route }} match={(e) => e.http_route === route} live={live} />
    </>
  );
};

const levelOf = (level, why) => <Level level={level} why={why} />;

const Figures = ({ e, past }) => (
  <dl class="tiles">
    <Tile label="Response time" value={levelOf(e.levels.response_time, e.levels.response_time_unknown_reason)} note={`p95 ${milliseconds(e.response_time.p95_ms)}`} />
    <Tile label="Errors" value={levelOf(e.levels.error_rate, e.levels.error_rate_unknown_reason)} note={percent(e.error_rate_percent)} />
    <Tile label="Requests" value={perSecond(e.throughput_rps)} note={`${number(e.in_flight_mean)} in flight`} />
    <Tile label="Median" value={milliseconds(e.response_time.p50_ms)} note={`p99 ${milliseconds(e.response_time.p99_ms)}`} />
    {!past && <Tile label="Waiting" value={percent(e.queue_share_percent)} note="of the time, to be read" />}
    {!past && <Tile label="Answer" value={bytes(e.response_size_mean_bytes ?? undefined)} note="mean body" />}
  </dl>
);

// EntryCharts are of an endpoint, or of what a client calls, which has no phases and no sizes.
export const EntryCharts = ({ metric, labels, service, namespace }) => {
  const braces = selector(labels);
  const of = selector({ service_name: service, service_namespace: namespace });
  const keys = [braces];
  const [findings, marks] = useFindings({ service, namespace, method: labels.http_request_method, route: labels.http_route, address: labels.server_address, port: labels.server_port });
  return (
    <>
      <Findings findings={findings} />
      <Panel title="Response times">
        <Heatmap title="Distribution" keys={keys} expression={distribution(metric, braces)} />
        <Chart title="Percentiles" marks={marks} keys={keys} format={duration} series={quantiles(metric, braces)} bands log />
      </Panel>
      <div class="grid two">
        <Panel title="Traffic">
          <Chart title="Requests a second by status" marks={marks} keys={keys} format={number} series={[{ by: "http_response_status_code", expression: rate(metric, braces, "http_response_status_code") }]} />
          <Chart title="Failed" marks={marks} keys={keys} format={percent} max={1} height={110} series={[{ label: "failed", colour: "bad", expression: failures(metric, braces) }]} />
        </Panel>
        {metric === server ? (
          <Panel title="Where the time goes">
            <Chart title="Mean time by phase" marks={marks} keys={keys} format={duration} series={["queue", "processing", "transfer"].map((phase) => ({ label: phase, colour: `phase-${phase}`, expression: mean("perfagent_http_server_phase_duration_seconds", selector({ ...labels, phase })) }))} />
            <Chart title="Mean size of bodies" keys={keys} format={bytes} height={110} series={[
              { label: "requests", expression: mean("http_server_request_body_size_bytes", braces) },
              { label: "answers", expression: mean("http_server_response_body_size_bytes", braces) }]} />
          </Panel>
        ) : (
          <Panel title="The calling service's network">
            <Chart title="Retransmissions" marks={marks} unit="a second" keys={keys} format={number} series={[{ label: "retransmitted segments", expression: ({ window }) => `sum(rate(perfagent_tcp_retransmits_total${of}[${window}s]))` }]} />
            <Chart title="Round trips, mean" marks={marks} keys={keys} format={duration} height={110} series={[{ label: "round trip", expression: mean("perfagent_tcp_rtt_seconds", of) }]} />
          </Panel>
        )}
      </div>
      <Panel title={`Resources of ${shown(service)}`} note="Of all its processes; 100 % is one processor.">
        <div class="grid two">
          <Chart title="Processors" marks={marks} keys={keys} format={percent} height={120} series={[{ label: "used", expression: cpuOfService(of) }]} nothing="Its processes are not watched yet, or not visible to the agent." />
          <Chart title="Memory" marks={marks} keys={keys} format={bytes} height={120} series={[{ label: "resident", colour: "series-3", expression: memoryOfService(of) }]} nothing="Its processes are not watched yet, or not visible to the agent." />
        </div>
      </Panel>
    </>
  );
};
