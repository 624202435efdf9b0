// The browser that the tests and pictures of the dashboard use: Debian's Chromium, without a screen.
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const known = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
export const executablePath = known.find((p) => p && existsSync(p));

export const launch = () => chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });

// The pages of a dashboard whose agent watches traffic.mjs, by name.
export const pages = {
  overview: "#/",
  endpoints: "#/endpoints",
  endpoint: "#/endpoint?service=traffic&method=GET&route=%2Freport",
  calls: "#/calls",
  alerts: "#/alerts",
  analysis: "#/analysis",
  metric: "#/analysis?of=traffic&metric=response_time",
  agent: "#/agent",
};

// settled waits until nothing loads any more.
export const settled = async (page) => {
  const name = new URL(page.url()).hash.slice(1).split("?")[0];
  await page.waitForSelector(`main[data-path="${name}"] h1`);
  await page.waitForFunction(() => !document.querySelector(".chart.loading") && ![...document.querySelectorAll(".nothing")].some((e) => /^(Loading|Waiting)/.test(e.textContent)), null, { timeout: 240_000 });
};
