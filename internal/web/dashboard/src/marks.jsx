// What was found unusual in the time that is looked at: drawn behind the lines of charts, and said below them.
import { ask, useAnswer } from "./api.js";
import { clock, moment } from "./format.js";
import { Panel, Prose, sentence, Severity } from "./parts.jsx";
import { useLive } from "./live.js";
import { link } from "./url.js";
import { nameOf, useSpan } from "./chart.jsx";

// or404 is an answer, or that there is none to be had.
export const or404 = (path) => async (signal) => {
  try {
    return await ask(path, signal);
  } catch (error) {
    if (error.status === 404) return { absent: true };
    throw error;
  }
};

const colours = { critical: "critical", error: "critical", warning: "poor", info: "excellent" };

// markOf is what a chart draws of a finding or an issue: a stretch of time, or a moment after which the level is another one.
export const markOf = ({ start, since, end, severity, lasting }) => ({
  from: Date.parse(start ?? since) / 1000, to: end ? Date.parse(end) / 1000 : Infinity, colour: colours[severity] ?? "none", line: lasting,
});

// drawMarks is a hook of uPlot that comes before the lines.
export const drawMarks = (marks, css) => (u) => {
  const { ctx, bbox: { left, top, width, height } } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  for (const { from, to, colour, line } of marks) {
    const x0 = u.valToPos(Math.max(from, u.scales.x.min - 1e6), "x", true), x1 = u.valToPos(Math.min(to, u.scales.x.max), "x", true);
    ctx.fillStyle = ctx.strokeStyle = css.getPropertyValue(`--${colour}`).trim();
    ctx.lineWidth = 1.5 * devicePixelRatio;
    if (line) {
      ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(x0, top);
      ctx.lineTo(x0, top + height);
      ctx.stroke();
      continue;
    }
    ctx.globalAlpha = 0.14;
    ctx.fillRect(x0, top, Math.max(2, x1 - x0), height);
    ctx.globalAlpha = 1;
    ctx.fillRect(x0, top, Math.max(2, x1 - x0), 3 * devicePixelRatio);
  }
  ctx.restore();
};

const same = (want, have) => Object.entries(want).every(([key, v]) => v === undefined || v === "" || String(have[key] ?? "") === String(v));

// useFindings are those of a subject, of its service and of the host that touch the time that is looked at: [findings, marks].
export const useFindings = ({ service, namespace, method, route, address, port } = {}) => {
  const [span] = useSpan();
  const live = useLive();
  const path = service ? `/troubleshoot/performance?service=${encodeURIComponent(service)}` : "/troubleshoot/performance";
  const { answer } = useAnswer(or404(path), [path], [live.tick]);
  const isOf = (s) => {
    if (service && s.service_name && !same({ service_name: service, service_namespace: namespace }, s)) return false;
    if (s.http_route && route) return same({ method, http_route: route }, { ...s, method: s.method ?? s.http_request_method });
    if (s.server_address && address) return same({ server_address: address, server_port: port }, s);
    return !(s.http_route && address) && !(s.server_address && route);
  };
  const about = (i) => i.issue === "finding" && [{ ...i.evidence, ...i }, ...(i.effects ?? [])].some(isOf);
  const touches = (i) => Date.parse(i.since) / 1000 <= span.to && (!i.end || Date.parse(i.end) / 1000 >= span.from);
  const findings = [...(answer?.issues ?? []), ...(answer?.ended ?? [])].filter((i) => about(i) && touches(i)).sort((a, b) => b.since.localeCompare(a.since));
  const drawn = findings.map((i) => markOf({ ...i, lasting: i.evidence?.finding === "change" }));
  return [findings, drawn, nameOf(span)];
};

export const Findings = ({ findings }) => findings.length > 0 && (
  <Panel title="Findings" note={<>In the time that is shown; charts mark them. <a href={link("/analysis")}>Causes and what to do next</a></>}>
    <ul class="lines marked">
      {findings.slice(0, 10).map((i) => (
        <li key={`${i.evidence?.finding_id}${i.since}`}>
          <Severity severity={i.severity} /> {moment(i.since)}{i.end ? ` to ${clock(new Date(i.end))}` : ", goes on"}: <Prose>{sentence(i.summary)}</Prose>
        </li>
      ))}
      {findings.length > 10 && <li>{findings.length - 10} earlier ones</li>}
    </ul>
  </Panel>
);
