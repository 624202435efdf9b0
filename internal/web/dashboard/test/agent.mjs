// An agent of its own, on free ports, that watches nothing but traffic.mjs; as root, as whoever observes must be.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { letters } from "./words.mjs";

const binary = process.env.PERFAGENT_BINARY ?? new URL("../../../../bin/perfagent", import.meta.url).pathname;
const readyTimeout = 120_000; // ms; of a machine that does much else

const freePort = () => new Promise((done, failed) => {
  const server = createServer().on("error", failed);
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address();
    server.close(() => done(port));
  });
});

const until = async (what, holds, timeout = readyTimeout) => {
  const end = Date.now() + timeout;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((next) => setTimeout(next, 100));
  }
};

const ended = (child) => new Promise((done) => (child.exitCode !== null || child.signalCode !== null ? done() : child.once("exit", done)));

// start returns the agent's address, ways to stop and start it, and to end everything. routes: so many further endpoints.
export const start = async ({ routes = 0 } = {}) => {
  const directory = mkdtempSync(join(tmpdir(), "perfagent-web-"));
  const [watched, served] = [await freePort(), await freePort()];
  const file = (name) => join(directory, name);
  const templates = ["GET /", "GET /items/{id}", "GET /search", "GET /fail", "GET /missing", "GET /report", "POST /orders"];
  for (let i = 0; i < routes; i++) templates.push(`GET /api/${letters(i)}/list`);
  if (routes) writeFileSync(file("routes"), `${templates.join("\n")}\n`);
  writeFileSync(file("services"), `traffic port=${watched}\n`);
  writeFileSync(file("perfagent.yml"), "objectives:\n  - {service: traffic, availability-percent: 99.9, latency-ms: 300, latency-percent: 99}\n");
  const traffic = spawn(process.execPath, [new URL("traffic.mjs", import.meta.url).pathname, watched, routes], { stdio: ["ignore", "ignore", "inherit"] });
  let agent, output;
  const run = async () => {
    output = "";
    rmSync(file("ready"), { force: true });
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("PERFAGENT_"))); // which would be settings
    agent = spawn(binary, ["run", `--config.file=${file("perfagent.yml")}`, `--capture.port=${watched}`, `--web.listen-address=127.0.0.1:${served}`, "--web.socket=",
      `--storage.path=${file("history")}`, `--ready-file=${file("ready")}`, `--services.file=${file("services")}`, ...(routes ? [`--routes.file=${file("routes")}`] : [])], { env, stdio: ["ignore", "pipe", "pipe"] });
    agent.stdout.on("data", (b) => (output += b));
    agent.stderr.on("data", (b) => (output += b));
    await until("the agent", () => {
      if (agent.exitCode !== null) throw new Error(`the agent ended:\n${output}`);
      return existsSync(file("ready"));
    });
  };
  process.once("exit", () => [agent, traffic].forEach((child) => child?.kill())); // also where an error ends this process
  const stop = async () => {
    agent?.kill("SIGTERM");
    if (agent) await ended(agent);
  };
  const end = async () => {
    await stop();
    traffic.kill();
    await ended(traffic);
    rmSync(directory, { recursive: true, force: true });
  };
  const base = `http://127.0.0.1:${served}`;
  try {
    await run();
    await until("endpoints", async () => {
      const summary = await (await fetch(`${base}/performance/summary`)).json();
      return summary.endpoints_total >= 6 + routes;
    });
  } catch (error) {
    await end();
    throw error;
  }
  return { base, run, stop, end };
};
