// What the agent concludes: issues with their causes, trends. Where the agent at hand draws no conclusions, that is said.
import { ask, useAnswer } from "../api.js";
import { moment } from "../format.js";
import { Empty, Panel, sentence, Severity, Text, Trouble } from "../parts.jsx";
import { link } from "../url.js";

// or404 is an answer, or that there is none to be had.
const or404 = (path) => async (signal) => {
  try {
    return await ask(path, signal);
  } catch (error) {
    if (error.status === 404) return { absent: true };
    throw error;
  }
};

export const Analysis = ({ live }) => (
  <>
    <h1>Analysis</h1>
    <Source title="Issues" path="/troubleshoot/performance" live={live} absent="This agent does not name issues and their causes." />
    <Source title="Trends and changes" path="/performance/analytics" live={live} absent="This agent does not analyse its history." />
  </>
);

const Source = ({ title, path, absent, live }) => {
  const { answer, error } = useAnswer(or404(path), [path], [live.document?.window?.to]);
  return (
    <Panel title={title} note={<>What <code>{path}</code> answers.</>}>
      <Trouble error={error} />
      {!answer && !error && <p class="nothing">Loading</p>}
      {answer?.absent && <Empty title={absent}><p>A later release may. Meanwhile <a href={link("/alerts")}>alerts</a> say what is beyond its limits, and each <a href={link("/endpoints")}>endpoint</a> shows where its time goes. Data of your own: <code>perfagent analyze --help</code>.</p></Empty>}
      {answer && !answer.absent && <Conclusions answer={answer} />}
    </Panel>
  );
};

// Lists of things that say something are shown as such, one below the other; what else there is can be opened.
const Conclusions = ({ answer }) => {
  const lists = Object.entries(answer).filter(([, v]) => Array.isArray(v) && v.some((e) => e && typeof e === "object" && (e.summary || e.message)));
  const sentences = Object.entries(answer).filter(([k, v]) => typeof v === "string" && ["summary", "message", "verdict", "status"].includes(k));
  return (
    <>
      {sentences.map(([k, v]) => <p key={k}><Text>{sentence(v)}</Text></p>)}
      {lists.map(([name, all]) => (
        <section key={name} aria-label={name}>
          <h3>{sentence(name.replaceAll("_", " ")).replace(/\.$/, "")}</h3>
          <ul class="cards">{all.filter((e) => e?.summary || e?.message).map((e, i) => <Conclusion key={e.id ?? i} of={e} />)}</ul>
        </section>
      ))}
      <details><summary>All of the answer</summary><pre tabIndex={0} aria-label="The answer as JSON"><Text>{JSON.stringify(answer, null, 1)}</Text></pre></details>
    </>
  );
};

const Conclusion = ({ of: e }) => (
  <li class="card">
    <p>{e.severity && <><Severity severity={e.severity} /> </>}<strong><Text>{e.summary ?? e.message}</Text></strong></p>
    {e.start && <p class="note">since {moment(e.start)}{e.end ? ` until ${moment(e.end)}` : ""}</p>}
    {Array.isArray(e.causes) && e.causes.length > 0 && <><p>Probable causes:</p><ol>{e.causes.map((c, i) => <li key={i}><Text>{c.summary ?? JSON.stringify(c)}</Text></li>)}</ol></>}
    {Array.isArray(e.next_steps) && e.next_steps.length > 0 && <><p>Next:</p><ul>{e.next_steps.map((s) => <li key={s}><Text>{s}</Text></li>)}</ul></>}
    {e.service_name && <p><a href={e.http_route && e.http_request_method ? link("/endpoint", { service: e.service_name, namespace: e.service_namespace, method: e.http_request_method, route: e.http_route }) : link("/endpoints", { service: e.service_name })}><Text>{[e.service_name, e.http_request_method, e.http_route].filter(Boolean).join(" ")}</Text></a></p>}
  </li>
);
