// Single exchanges that the agent keeps: the slowest, the failed, a sample of the rest.
import { useState } from "preact/hooks";
import { ask, useAnswer } from "./api.js";
import { bytes, milliseconds, moment } from "./format.js";
import { Bar, Empty, Panel, Text, Trouble } from "./parts.jsx";
import { Table } from "./table.jsx";

const kinds = { slowest: "Slowest", failed: "Failed", client_error: "Client errors", sample: "A sample" };
const ns = (v) => milliseconds(v === undefined ? undefined : v / 1e6);

const columns = [
  { key: "time", label: "Time", text: true, value: (e) => e.time, cell: (e) => moment(e.time) },
  { key: "status", label: "Outcome", text: true, value: (e) => e.status_code ?? 0, cell: (e) => <Text>{[e.status_code, e.error_type !== String(e.status_code) && e.error_type].filter(Boolean).join(" ")}</Text> },
  { key: "duration", label: "Duration", value: (e) => e.duration_ns, cell: (e) => ns(e.duration_ns) },
  { key: "phases", label: "Where it went", text: true, wide: true, cell: (e) => e.processing_ns === undefined ? "" : <Bar label={`waiting ${ns(e.queue_ns)}, processing ${ns(e.processing_ns)}, transfer ${ns(e.transfer_ns)}`} parts={[{ class: "queue", value: e.queue_ns }, { class: "processing", value: e.processing_ns }, { class: "transfer", value: e.transfer_ns }]} /> },
  { key: "path", label: "Path", text: true, cell: (e) => <Text class="route">{e.path}</Text> },
  { key: "peer", label: "Client", text: true, wide: true, cell: (e) => <Text>{e.role === "client" ? e.server_address : e.client_address}</Text> },
  { key: "size", label: "Answer", wider: true, value: (e) => e.response_size_bytes, cell: (e) => bytes(e.response_size_bytes) },
  { key: "id", label: "Request id", text: true, wider: true, cell: (e) => <Text class="id">{e.trace_id ?? e.request_id}</Text> },
];

// A service is asked for as a pattern: what would be one is any character, and what is meant is found among the answers.
const pattern = (text) => text.replace(/[*?[\]\\{}]/g, "?");

export const Exchanges = ({ service, only, match, live }) => {
  const [kind, setKind] = useState("slowest");
  const [sort, setSort] = useState(["duration", true]);
  const parameters = new URLSearchParams({ kind, limit: 50, ...only });
  if (service) parameters.set("service", pattern(service));
  const { answer, error } = useAnswer((signal) => ask(`/requests?${parameters}`, signal), [parameters.toString()], [live.tick]);
  const rows = (answer?.requests ?? []).filter((e) => (!service || e.service_name === service) && (!match || match(e)));
  return (
    <Panel title="Exchanges" note="Of now, whatever the time range: the slowest of the last minutes, failures, and a fair sample. Identifiers in paths are masked."
      actions={(
        <div class="views" role="group" aria-label="Which exchanges">
          {Object.entries(kinds).map(([key, name]) => <button type="button" key={key} aria-pressed={kind === key} onClick={() => setKind(key)}>{name}</button>)}
        </div>
      )}>
      <p class="key" aria-hidden="true"><span class="swatch queue" /> waiting <span class="swatch processing" /> processing <span class="swatch transfer" /> transfer</p>
      <Trouble error={error} />
      <Table caption="Exchanges" columns={columns} rows={rows} rowKey={(e) => `${e.request_id}${e.time}${e.role}`} sort={sort[0]} descending={sort[1]} onSort={(key, down) => setSort([key, down])}
        empty={answer && <Empty title={kind === "failed" ? "None failed lately." : "None is kept."}><p>Exchanges are kept for an hour at most. Others may be among {Object.entries(kinds).filter(([k]) => k !== kind).map(([, n]) => n.toLowerCase()).join(", ")}.</p></Empty>} />
    </Panel>
  );
};
