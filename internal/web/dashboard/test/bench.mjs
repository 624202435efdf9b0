// Prints how large the dashboard is and when the overview of 2,000 endpoints has its figures: the median and the worst of several first visits.
import { readdirSync, statSync } from "node:fs";
import { start } from "./agent.mjs";
import { launch } from "./browser.mjs";

const endpoints = 2000, visits = 7, paintMax = 1000; // ms

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
await browser.close();
await agent.end();
if (median(figures) > paintMax) {
  console.error(`the aim is ${paintMax} ms`);
  process.exit(1);
}
