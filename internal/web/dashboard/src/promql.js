// The questions of the charts. They hold for any Prometheus that scrapes native histograms as well.
const escape = (text) => text.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");

// selector is the braces of a series: {service_name="shop",http_route="/"}.
export const selector = (labels) => {
  const set = Object.entries(labels).filter(([, v]) => v !== undefined && v !== "");
  return set.length ? `{${set.map(([k, v]) => `${k}="${escape(String(v))}"`).join(",")}}` : "";
};

export const server = "http_server_request_duration_seconds";
export const client = "http_client_request_duration_seconds";
const failed = 'error_type!="",http_response_status_code!~"[123].."'; // as the agent's rules have it

const and = (braces, more) => (braces ? `${braces.slice(0, -1)},${more}}` : `{${more}}`);

export const rate = (metric, braces, by) => ({ window }) => `sum${by ? ` by (${by})` : ""} (rate(${metric}_count${braces}[${window}s]))`;
export const failures = (metric, braces) => (span) =>
  `100 * (sum(rate(${metric}_count${and(braces, failed)}[${span.window}s])) or vector(0)) / sum(rate(${metric}_count${braces}[${span.window}s]))`;
export const quantile = (q, metric, braces) => ({ window }) => `histogram_quantile(${q}, sum(rate(${metric}${braces}[${window}s])))`;
export const distribution = (metric, braces) => (step) => `sum(increase(${metric}${braces}[${step}s]))`;
export const mean = (metric, braces) => ({ window }) => `sum(rate(${metric}_sum${braces}[${window}s])) / sum(rate(${metric}_count${braces}[${window}s]))`;

export const quantiles = (metric, braces) => [
  { label: "p99", colour: "band-3", expression: quantile(0.99, metric, braces) },
  { label: "p95", colour: "band-2", expression: quantile(0.95, metric, braces) },
  { label: "p50", colour: "band-1", expression: quantile(0.5, metric, braces) },
];

export const cpuOfService = (braces) => ({ window }) => `100 * sum(rate(perfagent_service_cpu_seconds_total${braces}[${window}s]))`;
export const memoryOfService = (braces) => () => `sum(perfagent_service_resident_memory_bytes${braces})`;

export const host = {
  cpu: ({ window }) => `clamp_max(100 * sum(rate(perfagent_host_cpu_seconds_total{mode!~"idle|iowait"}[${window}s])) / max(perfagent_host_cpus), 100)`,
  iowait: ({ window }) => `100 * sum(rate(perfagent_host_cpu_seconds_total{mode="iowait"}[${window}s])) / max(perfagent_host_cpus)`,
  memory: () => "100 * (1 - perfagent_host_memory_available_bytes / perfagent_host_memory_total_bytes)",
  read: ({ window }) => `sum(rate(perfagent_host_disk_read_bytes_total{stacked="false"}[${window}s]))`,
  written: ({ window }) => `sum(rate(perfagent_host_disk_written_bytes_total{stacked="false"}[${window}s]))`,
  received: ({ window }) => `sum(rate(perfagent_host_network_receive_bytes_total{loopback="false"}[${window}s]))`,
  transmitted: ({ window }) => `sum(rate(perfagent_host_network_transmit_bytes_total{loopback="false"}[${window}s]))`,
  pressure: ({ window }) => `clamp_max(100 * sum by (resource) (rate(perfagent_host_pressure_stalled_seconds_total{kind="some"}[${window}s])), 100)`,
};
