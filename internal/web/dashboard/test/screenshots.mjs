// Writes a picture of every page in both themes, on a narrow, a wide and a very large screen, of an agent that it starts and lets watch for two
// minutes, or of one that runs, with its endpoint that is in flight most: node screenshots.mjs DIRECTORY [URL [PAGE…]]
import { mkdirSync } from "node:fs";
import { start } from "./agent.mjs";
import { launch, pages, settled } from "./browser.mjs";

const watched = 120_000; // ms

const [directory, url, ...only] = process.argv.slice(2);
mkdirSync(directory, { recursive: true });
const agent = url ? null : await start({ routes: 300 });
if (agent) await new Promise((done) => setTimeout(done, watched));
const base = url || agent.base;
const shown = { ...pages };
if (url) {
  const { endpoints } = await (await fetch(`${base}/performance/summary`)).json();
  const { service_name: service, service_namespace: namespace = "", method, http_route: route } = endpoints.toSorted((a, b) => b.in_flight_mean - a.in_flight_mean)[0];
  shown.endpoint = `#/endpoint?${new URLSearchParams({ service, namespace, method, route })}`;
  shown.metric = `#/analysis?${new URLSearchParams({ of: service, metric: "response_time" })}`;
}
const browser = await launch();
for (const colorScheme of ["light", "dark"]) {
  for (const [kind, viewport] of Object.entries({ wide: { width: 1440, height: 900 }, narrow: { width: 360, height: 740 }, uhd: { width: 3840, height: 2160 } })) {
    const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce" });
    const page = await context.newPage();
    for (const [name, hash] of Object.entries(shown)) {
      if (only.length && !only.includes(name)) continue;
      await page.goto(`${base}/${hash}`);
      await settled(page);
      const file = `${directory}/${name}-${kind}-${colorScheme}.png`;
      await page.screenshot({ path: file, fullPage: true });
      console.log(file);
    }
    await context.close();
  }
}
await browser.close();
await agent?.end();
