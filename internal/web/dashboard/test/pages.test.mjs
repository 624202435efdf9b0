// The dashboard in a real browser, of a real agent that watches real requests.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import axe from "axe-core";
import { start } from "./agent.mjs";
import { launch, pages, settled } from "./browser.mjs";

const patience = 240_000; // ms, for what the agent tells every ten seconds, on a machine that does much else

let agent, browser;
before(async () => {
  agent = await start({ routes: 150 });
  browser = await launch();
});
afterEach(async () => {
  await Promise.all(browser.contexts().map((context) => context.close())); // those of a test that failed
});
after(async () => {
  await browser?.close();
  await agent?.end();
});

// open shows a page in a context of its own. What the page asks others for, and what goes wrong in it, is kept.
const open = async (hash, options = {}) => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  page.errors = [];
  page.foreign = [];
  page.on("pageerror", (e) => page.errors.push(e.message));
  page.on("console", (m) => m.type() === "error" && !/status of 404/.test(m.text()) && page.errors.push(m.text()));
  page.on("request", (r) => new URL(r.url()).origin !== agent.base && page.foreign.push(r.url()));
  page.on("dialog", (d) => page.errors.push(`a script ran: ${d.message()}`) && d.dismiss());
  await page.goto(`${agent.base}/${hash}`);
  await settled(page);
  return page;
};

const done = async (page) => {
  assert.deepEqual(page.errors, []);
  assert.deepEqual(page.foreign, [], "nobody else is asked for anything");
  await page.context().close();
};

// What axe finds wrong with the page as it is, by the rules of WCAG 2.2 AA and by its own of good practice.
const violations = async (page) => {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"] }));
  return violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => `${n.html.slice(0, 200)} ${n.failureSummary}`).join(" | ")}`);
};

// Every page shows figures of the traffic, in both themes, and axe finds nothing wrong with it.
const figures = { overview: /traffic/, endpoints: /\/items/, endpoint: /\/report/, calls: /127\.0\.0\.1/, alerts: /budget/, analysis: /What the history says/, metric: /To come|conclusions need/, agent: /attached/ };
for (const colorScheme of ["light", "dark"]) {
  test(`all pages, ${colorScheme}: they show figures, and are accessible`, async () => {
    const page = await open("#/", { colorScheme });
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), colorScheme);
    for (const [name, hash] of Object.entries(pages)) {
      await page.goto(`${agent.base}/${name === "endpoints" ? `${hash}?q=items` : hash}`); // a few rows are as good as many
      await settled(page);
      assert.match(await page.innerText("main"), figures[name], name);
      assert.deepEqual(await violations(page), [], name);
    }
    await done(page);
  });
}

// Figures change by themselves, without a request of the page for it.
test("overview: goes on by itself", async () => {
  const page = await open("#/");
  const seen = () => page.locator(".tile", { hasText: "Failed" }).locator("small").innerText();
  const before = await seen();
  await page.waitForFunction((old) => ![...document.querySelectorAll(".tile small")].some((e) => e.textContent === old), before);
  assert.match(await seen(), /^[\d,]+ of [\d,]+$/);
  await done(page);
});

// What is typed narrows the table, stands in the address, and is there again after a reload; so does the order.
test("endpoints: filter, order and address", async () => {
  const page = await open("#/endpoints");
  const rows = page.locator("tbody tr");
  const all = await rows.count();
  assert.equal(all, 100, "a page of them");
  await page.getByRole("button", { name: "Next" }).click();
  await page.waitForFunction(() => location.hash.includes("page=2"));
  await page.getByLabel("Find").fill("post orders");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
  assert.match(await rows.first().innerText(), /POST\s+\/orders/);
  await page.reload();
  await settled(page);
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
  await page.getByLabel("Find").fill("");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length > 1);
  await page.getByRole("button", { name: "p95" }).click();
  assert.equal(await page.locator("th[aria-sort]").getAttribute("aria-sort"), "descending");
  const column = (await page.locator("thead th").allInnerTexts()).findIndex((name) => name.startsWith("p95")) + 1;
  await page.waitForFunction((n) => {
    const all = [...document.querySelectorAll(`tbody td:nth-child(${n})`)].map((e) => parseFloat(e.textContent) * { µs: 1, ms: 1000, s: 1e6 }[e.textContent.split(" ")[1]]);
    return all.length > 50 && all.every((v, i) => i === 0 || v <= all[i - 1]);
  }, column);
  await page.getByLabel("Find").fill("nothing is called this");
  await page.getByText("No endpoint is like that.").waitFor();
  await done(page);
});

// All of it can be done with keys: skip to the page, walk the rows, open one, go back.
test("keyboard", async () => {
  const page = await open("#/endpoints");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the page");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "MAIN");
  await page.getByRole("button", { name: /^Endpoint/ }).focus();
  await page.keyboard.press("Enter");
  const focused = () => page.evaluate(() => document.activeElement.innerText);
  await page.locator("a[data-row]").first().focus();
  const [first, ...others] = await page.locator("a[data-row]").allInnerTexts();
  assert.equal(await focused(), first);
  await page.keyboard.press("ArrowDown");
  assert.equal(await focused(), others[0]);
  await page.keyboard.press("End");
  assert.equal(await focused(), others.at(-1));
  await page.keyboard.press("Home");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => location.hash.startsWith("#/endpoint?"));
  await page.getByRole("heading", { level: 1 }).getByText(first.split(" ")[1]).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "MAIN");
  await page.goBack();
  await page.getByRole("heading", { level: 1, name: "Endpoints" }).waitFor();
  await done(page);
});

// Paths that were made to be run or to mislead are text like any other, wherever they stand; what would not show is named.
test("hostile text is inert", async () => {
  const bad = "/<img src=x onerror=\"alert('ran')\"><script>alert('ran')</script>\u202egnp.exe\u001b[31m\u0000";
  const page = await open("#/");
  await page.route("**/performance/summary*", async (route) => {
    const answer = await (await fetch(route.request().url())).json();
    if (answer.endpoints.length) Object.assign(answer.endpoints[0], { http_route: bad, service_name: bad, method: "<b>GET</b>" }); // of the hostile service are none
    await route.fulfill({ json: answer });
  });
  await page.route("**/requests*", async (route) => {
    const answer = await (await fetch(`${agent.base}/requests?limit=5`)).json();
    answer.requests.forEach((r) => Object.assign(r, { path: bad, service_name: bad, http_route: bad, client_address: bad, request_id: bad }));
    await route.fulfill({ json: answer });
  });
  await page.route("**/troubleshoot/performance*", async (route) => {
    const answer = await (await fetch(route.request().url())).json();
    const issue = { issue: "finding", severity: "warning", since: new Date().toISOString(), service_name: bad, method: "GET", http_route: bad, summary: bad, probable_causes: [{ summary: bad, confidence: 0.5 }],
      next_steps: [bad], evidence: { finding_id: bad }, failures: [{ error_type: bad, kept: 1 }], alerts: [{ alertname: bad, severity: bad }] };
    Object.assign(answer, { summary: bad, healthy: bad, issues: [issue], ended: [{ ...issue, end: issue.since }], foreseen: [{ summary: bad }] });
    await route.fulfill({ json: answer });
  });
  const inert = async () => assert.deepEqual(await page.evaluate(() => [document.querySelectorAll("main img, main script, main b:not(.legend b)").length, document.scripts.length]), [0, 1]);
  await page.goto(`${agent.base}/#/endpoints`);
  await page.locator("td").getByText("U+202E").first().waitFor();
  const text = await page.innerText("main");
  for (const shown of ["<img src=x", "<script>", "U+202E", "U+001B", "U+0000", "<b>GET</b>"]) assert.ok(text.includes(shown), shown);
  assert.ok(!text.includes("\u202e"));
  await inert();
  await page.goto(`${agent.base}/#/endpoint?${new URLSearchParams({ service: bad, method: "GET", route: bad })}`);
  await page.locator("td").getByText("U+202E").first().waitFor();
  await inert();
  for (const hash of Object.values(pages)) {
    await page.goto(`${agent.base}/${hash}`);
    await settled(page);
    await inert();
  }
  await done(page);
});

// On the narrowest screens nothing is wider than the screen.
test("narrow", async () => {
  const page = await open("#/", { viewport: { width: 360, height: 740 } });
  for (const [name, hash] of Object.entries(pages)) {
    await page.goto(`${agent.base}/${hash}`);
    await settled(page);
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360, name);
  }
  await done(page);
});

// A time that was is shown as one that is; the theme stays as it was chosen; each chart is there as a table and as PromQL.
test("ranges, themes and views", async () => {
  const page = await open("#/");
  await page.getByLabel("Theme").selectOption("dark");
  await page.getByLabel("Time range").selectOption("1h");
  await page.waitForFunction(() => location.hash.includes("range=1h") && document.documentElement.dataset.theme === "dark");
  const to = new Date(), from = new Date(to - 120_000);
  await page.goto(`${agent.base}/#/?from=${from.toISOString()}&to=${to.toISOString()}`);
  await settled(page);
  const chart = page.locator("figure", { hasText: "Requests a second" });
  await chart.getByRole("button", { name: "PromQL" }).click();
  assert.match(await chart.locator("pre").innerText(), /^sum \(rate\(http_server_request_duration_seconds_count\[30s\]\)\)$/);
  await chart.getByRole("button", { name: "Table" }).click();
  assert.match(await chart.locator("tbody").innerText(), /\d\d:\d\d:\d\d\s+\d/);
  await page.reload();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
  await done(page);
});

// What is chosen narrows the table to what the agent says is such, and all choices stand in the address: they are there again after a reload.
test("endpoints: service, level and time", async () => {
  const page = await open("#/endpoints?q=fail");
  const rows = page.locator("tbody tr");
  const has = (text) => page.waitForFunction((t) => document.querySelector("main").innerText.includes(t), text);
  await page.getByLabel("Service").selectOption("traffic");
  await page.getByLabel("Over").selectOption("1m");
  await has("in the last minute");
  await page.waitForFunction(() => /critical/.test(document.querySelector("tbody tr")?.innerText), null); // three of ten fail
  await page.getByLabel("Level").selectOption("critical");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
  await page.getByLabel("Level").selectOption("excellent");
  await page.getByText("No endpoint is like that.").waitFor();
  await page.reload();
  await settled(page);
  await page.getByText("No endpoint is like that.").waitFor();
  assert.deepEqual([await page.getByLabel("Find").inputValue(), await page.getByLabel("Service").inputValue(), await page.getByLabel("Level").inputValue(), await page.getByLabel("Over").inputValue()],
    ["fail", "traffic", "excellent", "1m"]);
  await page.getByRole("button", { name: /^Show all/ }).click();
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length > 1);
  await page.getByLabel("Over").selectOption("range");
  await has("Endpoints in the chosen time");
  await page.getByLabel("Find").fill("fail");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
  assert.match(await rows.first().innerText(), /\/fail/);
  await done(page);
});

// Of a time that was, tables and tiles are of that time as charts are: exactly what the history says. Pages of now say that they are. All of it is
// accessible, fits a narrow screen, and leads back to what is now.
test("a time that was", async () => {
  const to = new Date(Math.floor(Date.now() / 10_000) * 10_000 - 10_000), from = new Date(to - 40_000);
  const range = new URLSearchParams({ from: from.toISOString(), to: to.toISOString() });
  const was = await (await fetch(`${agent.base}/performance/past?${range}&limit=10000`)).json();
  assert.ok(was.exchanges > 0 && was.endpoints_total > 3, JSON.stringify(was).slice(0, 300));
  const count = (n) => n.toLocaleString("en-US");
  for (const colorScheme of ["light", "dark"]) {
    const page = await open(`#/?${range}`, { colorScheme, viewport: { width: 360, height: 740 } });
    const at = async (path) => {
      await page.goto(`${agent.base}/#${path}${path.includes("?") ? "&" : "?"}${range}`);
      await settled(page);
      assert.deepEqual(await violations(page), [], path);
      assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360, path);
      return page.innerText("main");
    };
    const overview = await at("/");
    assert.match(overview, /Figures, tables and charts are of/);
    assert.ok(overview.includes(`${count(was.failures)} of ${count(was.exchanges)}`), `${was.failures} of ${was.exchanges} in ${overview}`);
    assert.doesNotMatch(overview, /No alert fires|mean of 5 minutes/);
    const endpoints = await at("/endpoints");
    assert.match(endpoints, new RegExp(`Endpoints in the chosen time\\s+${was.endpoints_total} with requests from`));
    const report = was.endpoints.find((e) => e.http_route === "/report");
    if (report) assert.match(await at("/endpoint?service=traffic&method=GET&route=%2Freport"), /p95 [\d.]+ ms/);
    assert.match(await at("/endpoint?service=traffic&method=GET&route=%2Fnever"), /It had no request from/);
    assert.match(await at("/calls"), /What programs of this host called from[^]*127\.0\.0\.1/);
    assert.match(await at("/alerts"), /What stands here is of now/);
    await at("/analysis");
    await page.getByRole("button", { name: "Show what is now" }).click();
    await page.getByText("Figures, tables and charts are of").waitFor({ state: "detached" });
    assert.match(await page.evaluate(() => location.hash), /range=15m/);
    await done(page);
  }
});

// Without a network the page keeps what it has and says of when it is. An agent that ends and starts again is followed without a reload.
test("without the agent", async () => {
  const page = await open("#/");
  await agent.stop();
  await page.getByText("Not live").waitFor();
  await page.getByText(/What is shown is of .* ago/).waitFor();
  assert.match(await page.innerText("main"), /traffic/);
  await agent.run();
  await page.locator(".connection.on").waitFor();
  await page.getByText(/What is shown is of/).waitFor({ state: "detached" });
  page.errors.length = 0; // the browser says that nobody answered
  await done(page);
});
