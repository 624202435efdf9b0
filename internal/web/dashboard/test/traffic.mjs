// A service with traffic of its own for the tests and pictures of the dashboard: fast and slow routes, errors, a hostile path, calls to itself
// as client. `node traffic.mjs PORT [ROUTES]` serves on loopback and asks until it is ended; ROUTES further endpoints are asked once a round.
import http from "node:http";
import { letters } from "./words.mjs";

const port = Number(process.argv[2]);
const routes = Number(process.argv[3] ?? 0);
const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });

// What a page must show and never run: markup, an escape sequence, a bidirectional override.
const hostile = ["/%3Cimg%20src=x%20onerror=alert(1)%3E", "/<img/src=x/onerror=alert(1)>", "/\u001b[31mred", "/\u202egnp.exe"];

const server = http.createServer((request, response) => {
  const path = request.url;
  const answer = (status, size = 64) => {
    response.writeHead(status, { "content-type": "text/plain", "content-length": size });
    response.end("x".repeat(size));
  };
  if (path === "/report") setTimeout(answer, 60 + 60 * Math.random(), 200, 40_000);
  else if (path === "/fail") answer(Math.random() < 0.3 ? 503 : 200);
  else if (path === "/missing") answer(404);
  else if (path.startsWith("/search")) setTimeout(answer, 5 + 20 * Math.random() ** 4, 200, 2_000);
  else answer(200);
});

const ask = (path, method = "GET") => new Promise((done) => {
  const request = http.request({ host: "127.0.0.1", port, path: "/", method, agent }, (response) => response.resume().on("end", done));
  request.path = Buffer.from(path).toString("latin1"); // byte by byte, and as it is: http.request refuses what the tests want to send
  request.on("error", done);
  request.end();
});

server.listen(port, "127.0.0.1", async () => {
  console.log(`listening on ${port}`);
  for (let round = 0; ; round++) {
    const paths = ["/", `/items/${round}`, `/items/${round + 7}`, "/search?q=a", "/fail", "/missing", "/health"];
    if (round % 5 === 0) paths.push("/report");
    if (round % 20 === 0) paths.push(...hostile);
    await Promise.all(paths.map((p) => ask(p)));
    await ask("/orders", "POST");
    for (let i = 0; routes > 0 && round % 50 === 0 && i < routes; i++) await ask(`/api/${letters(i)}/list`);
    await new Promise((done) => setTimeout(done, 150));
  }
});
