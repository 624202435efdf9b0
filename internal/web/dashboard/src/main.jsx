// The frame of all pages: where one is, which time is looked at, whether what is shown is still true.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ago } from "./format.js";
import { useLive } from "./live.js";
import { Text } from "./parts.jsx";
import { PastNote } from "./past.jsx";
import { Range } from "./range.jsx";
import { chosenTheme, setTheme } from "./theme.js";
import { link, spanOf, usePlace } from "./url.js";
import { Agent } from "./pages/agent.jsx";
import { Alerts } from "./pages/alerts.jsx";
import { Analysis } from "./pages/analysis.jsx";
import { Calls } from "./pages/calls.jsx";
import { Endpoint } from "./pages/endpoint.jsx";
import { Endpoints } from "./pages/endpoints.jsx";
import { Overview } from "./pages/overview.jsx";

const pages = {
  "/": { name: "Overview", page: Overview },
  "/endpoints": { name: "Endpoints", page: Endpoints },
  "/endpoint": { name: "Endpoint", page: Endpoint, under: "/endpoints" },
  "/calls": { name: "Outgoing calls", page: Calls },
  "/alerts": { name: "Alerts", page: Alerts, now: true },
  "/analysis": { name: "Analysis", page: Analysis },
  "/agent": { name: "Agent", page: Agent, now: true },
};

const Missing = () => (
  <>
    <h1>There is no such page</h1>
    <p><a href={link("/")}>Overview</a></p>
  </>
);

const App = () => {
  const { path, parameters } = usePlace();
  const live = useLive();
  const { name, page: Page, under, now } = pages[path] ?? { name: "Not found", page: Missing };
  const span = spanOf(parameters);
  const main = useRef(null);
  const first = useRef(true);
  useEffect(() => {
    document.title = `${name} · perfagent`;
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" }); // where the pages do not all fit
    if (first.current) {
      first.current = false;
      return;
    }
    main.current.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [path]);
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); main.current.focus(); }}>Skip to the page</a>
      <header class="top">
        <a class="brand" href={link("/")}>perfagent</a>
        <Connection live={live} />
        <div class="controls">
          <Range />
          <Theme />
        </div>
        <nav aria-label="Pages">
          <ul>
            {Object.entries(pages).filter(([, p]) => !p.under).map(([key, p]) => (
              <li key={key}>
                <a href={link(key)} aria-current={key === (under ?? path) ? "page" : undefined}>
                  {p.name}
                  {key === "/alerts" && live.document?.alerts?.firing_total > 0 && <span class="badge">{live.document.alerts.firing_total}<span class="hidden"> firing</span></span>}
                </a>
              </li>
            ))}
          </ul>
        </nav>
      </header>
      <main id="main" ref={main} tabIndex={-1} key={path} data-path={path}>
        {!live.connected && live.document && <Stale live={live} />}
        {!span.live && <PastNote span={span} now={now} />}
        <Page parameters={parameters} live={live} />
      </main>
      <footer>
        <p>perfagent <Text>{live.document?.version}</Text> · times are of this browser's time zone · <a href="/openapi.json">all paths of the agent</a> · <a href="/assets/licenses.txt">licences</a></p>
      </footer>
    </>
  );
};

const Connection = ({ live }) => (
  <p class={`connection ${live.connected ? "on" : "off"}`} role="status">
    <span class="dot" aria-hidden="true" />
    {live.connected ? "Live" : live.document ? "Not live" : live.reason === "connecting" ? "Connecting" : "No connection"}
  </p>
);

const Stale = ({ live }) => {
  const [, again] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => again((n) => n + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  return <p class="stale" role="alert">What is shown is of {ago(live.document.time)}: {live.reason}. It is tried again; the page goes on by itself.</p>;
};

const Theme = () => {
  const [theme, set] = useState(chosenTheme);
  return (
    <label>
      <span class="hidden">Theme</span>
      <select value={theme} onChange={(e) => { setTheme(e.target.value); set(e.target.value); }}>
        <option value="auto">As the system</option>
        <option value="light">Light</option>
        <option value="dark">Dark</option>
      </select>
    </label>
  );
};

render(<App />, document.getElementById("app"));
