// All endpoints: which are slow, which fail, which take the time?
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, useAnswer } from "../api.js";
import { bytes, milliseconds, number, percent, perSecond, shown } from "../format.js";
import { Empty, Level, Panel, Text, Trouble } from "../parts.jsx";
import { ofTime, usePast } from "../past.jsx";
import { Table } from "../table.jsx";
import { change } from "../url.js";
import { endpointLink } from "./overview.jsx";

const rowsMax = 10_000; // as the agent lists at most
const chosenRange = "range"; // as a window: the time that is chosen for the charts
const nowOnly = ["queue", "size"]; // columns
const levelNames = ["excellent", "good", "fair", "poor", "critical"];

export const worst = ({ levels: { response_time: r, error_rate: e } }) => [r, e].filter(Boolean).sort((a, b) => b.level - a.level || b.severe - a.severe)[0] ?? null;
const why = ({ levels: l }) => l.response_time_unknown_reason ?? l.error_rate_unknown_reason;
const rank = (e) => {
  const w = worst(e);
  return w ? w.level + (w.severe ? 1 : 0) : -1;
};

const columns = [
  { key: "route", label: "Endpoint", text: true, value: (e) => `${e.http_route} ${e.method}`, cell: (e) => <a data-row href={endpointLink(e)}><Text class="method">{e.method}</Text> <Text class="route">{e.http_route}</Text></a> },
  { key: "service", label: "Service", text: true, wide: true, value: (e) => e.service_name, cell: (e) => <Text>{e.service_namespace ? `${e.service_namespace}/${e.service_name}` : e.service_name}</Text> },
  { key: "level", label: "Level", text: true, value: rank, cell: (e) => <Level level={worst(e)} why={why(e)} /> },
  { key: "rps", label: "Requests", value: (e) => e.throughput_rps, cell: (e) => perSecond(e.throughput_rps) },
  { key: "errors", label: "Failed", value: (e) => e.error_rate_percent, cell: (e) => percent(e.error_rate_percent) },
  { key: "p50", label: "p50", wide: true, value: (e) => e.response_time.p50_ms, cell: (e) => milliseconds(e.response_time.p50_ms) },
  { key: "p95", label: "p95", value: (e) => e.response_time.p95_ms, cell: (e) => milliseconds(e.response_time.p95_ms) },
  { key: "p99", label: "p99", wide: true, value: (e) => e.response_time.p99_ms, cell: (e) => milliseconds(e.response_time.p99_ms) },
  { key: "time", label: "In flight", wider: true, value: (e) => e.in_flight_mean, cell: (e) => number(e.in_flight_mean) },
  { key: "queue", label: "Waiting", wider: true, value: (e) => e.queue_share_percent, cell: (e) => percent(e.queue_share_percent) },
  { key: "size", label: "Answer", wider: true, value: (e) => e.response_size_mean_bytes, cell: (e) => bytes(e.response_size_mean_bytes ?? undefined) },
];

const chosen = (all, { q = "", service, level }) => {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  return all.filter((e) => {
    if (service && e.service_name !== service) return false;
    if (level && (level === "none" ? worst(e) : worst(e)?.name !== level)) return false;
    const text = `${e.method} ${e.http_route} ${e.service_name}`.toLowerCase();
    return words.every((w) => text.includes(w));
  });
};

export const Endpoints = ({ parameters, live }) => {
  const window = parameters.window ?? "5m";
  const past = usePast({ live: window === chosenRange });
  const now = useAnswer((signal) => past ? Promise.resolve(null) : ask(`/performance/summary?${new URLSearchParams({ window, limit: rowsMax })}`, signal), [window, Boolean(past)], [live.document?.window?.to, live.connected]);
  const { answer, error } = past ?? now;
  const all = answer?.endpoints ?? [];
  const rows = chosen(all, parameters);
  const services = [...new Set(all.map((e) => e.service_name).concat(parameters.service ?? []))].sort();
  const set = (more) => change({ ...more, page: "" }, { step: false });
  return (
    <>
      <h1>Endpoints</h1>
      <Panel title={past ? "Endpoints in the chosen time" : "Endpoints now"} note={answer ? `${rows.length === all.length ? all.length : `${rows.length} of ${all.length}`} with requests ${past ? `from ${ofTime(past)}` : `in the last ${minutes(window)}`}.` : ""}>
        <form class="filters" role="search" onSubmit={(e) => e.preventDefault()}>
          <Filter value={parameters.q ?? ""} set={(q) => set({ q })} />
          <label>Service
            <select value={parameters.service ?? ""} onChange={(e) => set({ service: e.target.value })}>
              <option value="">all</option>
              {services.map((s) => <option key={s} value={s}>{shown(s)}</option>)}
            </select>
          </label>
          <label>Level
            <select value={parameters.level ?? ""} onChange={(e) => set({ level: e.target.value })}>
              <option value="">any</option>
              {levelNames.map((l) => <option key={l} value={l}>{l}</option>)}
              <option value="none">not judged</option>
            </select>
          </label>
          {(!past || past.span.live) && (
            <label>Over
              <select value={window} onChange={(e) => set({ window: e.target.value })}>
                {["1m", "5m", "15m", "60m"].map((w) => <option key={w} value={w}>{minutes(w)}</option>)}
                <option value={chosenRange}>the time range above</option>
              </select>
            </label>
          )}
        </form>
        <Trouble error={error} />
        {!answer && !error && <p class="nothing">Loading</p>}
        {answer && (
          <Table caption="Endpoints" columns={past ? columns.filter((c) => !nowOnly.includes(c.key)) : columns} rows={rows} rowKey={(e) => `${e.service_namespace}/${e.service_name} ${e.method} ${e.http_route}`}
            sort={parameters.sort ?? "rps"} descending={parameters.up !== "1"}
            onSort={(sort, down) => set({ sort, up: down ? "" : "1" })} page={Number(parameters.page ?? 1)} onPage={(page) => change({ page })}
            empty={all.length === 0
              ? <Empty title={past ? "No request was counted in this time." : `No request was seen in the last ${minutes(window)}.`}><p>Ask a service of this host for something, look over a longer time, or check on the page Agent what is not visible.</p></Empty>
              : <Empty title="No endpoint is like that."><p><button type="button" onClick={() => set({ q: "", service: "", level: "" })}>Show all {all.length}</button></p></Empty>} />
        )}
      </Panel>
    </>
  );
};

const minutes = (w) => ({ "1m": "minute", "60m": "hour" }[w] ?? `${w.slice(0, -1)} minutes`);

const Filter = ({ value, set }) => {
  const [text, setText] = useState(value);
  const timer = useRef();
  useEffect(() => setText(value), [value]);
  const type = (event) => {
    setText(event.target.value);
    clearTimeout(timer.current);
    timer.current = setTimeout(set, 120, event.target.value);
  };
  return <label>Find <input type="search" value={text} onInput={type} placeholder="GET /users shop" /></label>;
};
