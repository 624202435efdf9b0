// Prints how large the dashboard is, when the overview of 2,000 endpoints has its figures (the median and the worst of several first visits), and
// what the page holds after an hour's worth of events.
import { readdirSync, statSync } from "node:fs";
import { start } from "./agent.mjs";
import { launch, settled } from "./browser.mjs";

const endpoints = 2000 - 12, visits = 7, paintMax = 1000; // ms; twelve are of the traffic itself, and 2,000 the agent's limit
const hour = 360, growthMax = 1.1; // events; of the heap

const dist = new URL("../dist/", import.meta.url);
let sum = 0;
for (const name of readdirSync(dist)) {
  const { size } = statSync(new URL(name, dist));
  sum += size;
  console.log(`${name.padEnd(30)} ${size} bytes`);
}
console.log(`${"in all".padEnd(30)} ${sum} bytes, at most ${150 * 1024}`);

const agent = await start({ routes: endpoints });
const browser = await launch();
const paints = [], figures = [];
for (let i = 0; i < visits; i++) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  await page.addInitScript(() => {
    const look = new MutationObserver(() => {
      if (!document.querySelector(".tiles")) return;
      look.disconnect();
      requestAnimationFrame(() => setTimeout(() => (globalThis.figuresAt = performance.now())));
    });
    look.observe(document, { childList: true, subtree: true });
  });
  await page.goto(agent.base);
  await page.waitForFunction(() => globalThis.figuresAt && performance.getEntriesByName("first-contentful-paint").length);
  paints.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime));
  figures.push(await page.evaluate(() => globalThis.figuresAt));
  await context.close();
}
const { endpoints_total: total } = await (await fetch(`${agent.base}/performance/summary?window=60m`)).json();
const median = (all) => all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)];
const say = (what, all) => console.log(`${what.padEnd(30)} median ${median(all).toFixed(0)} ms, worst ${Math.max(...all).toFixed(0)} ms of ${visits} first visits with ${total} endpoints`);
say("first paint", paints);
say("figures of the overview", figures);

// The same events as the agent sends, one as soon as the one before is drawn, to a page that is there already.
const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
const page = await context.newPage();
await page.addInitScript(() => {
  globalThis.EventSource = class extends EventTarget {
    constructor() {
      super();
      globalThis.source = this;
    }
    close() {}
  };
});
await page.goto(`${agent.base}/#/`);
const play = (count) => page.evaluate(async (n) => {
  const document = await (await fetch("/dashboard?limit=100")).json();
  const tell = (type, data) => globalThis.source.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data) }));
  globalThis.started ?? tell("snapshot", document);
  globalThis.started = true;
  for (let i = 0; i < n; i++) {
    const noise = (v) => v * (1 + Math.random() / 10);
    const endpoints = document.endpoints.map((e) => ({ ...e, throughput_rps: noise(e.throughput_rps) }));
    tell("delta", { time: new Date().toISOString(), exchanges: document.exchanges + i, throughput_rps: noise(document.throughput_rps), endpoints });
    await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
  }
}, count);
const devtools = await context.newCDPSession(page);
await devtools.send("Performance.enable");
const held = async () => {
  await settled(page);
  await devtools.send("HeapProfiler.collectGarbage");
  const { metrics } = await devtools.send("Performance.getMetrics");
  const of = (name) => metrics.find((m) => m.name === name).value;
  return { heap: of("JSHeapUsedSize"), nodes: of("Nodes"), listeners: of("JSEventListeners") };
};
await play(hour / 6);
const early = await held();
await play(hour);
const late = await held();
for (const [when, h] of [["held after ten minutes of events", early], ["and after an hour's more", late]]) console.log(`${when.padEnd(33)} ${(h.heap / 1e6).toFixed(1)} MB, ${h.nodes} nodes, ${h.listeners} listeners`);
await browser.close();
await agent.end();
if (median(figures) > paintMax) {
  console.error(`the aim is ${paintMax} ms`);
  process.exitCode = 1;
}
if (late.heap > growthMax * early.heap || late.nodes > growthMax * early.nodes || late.listeners > growthMax * early.listeners) {
  console.error("the page grows");
  process.exitCode = 1;
}
