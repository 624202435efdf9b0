// Builds the dashboard into dist/: the page, one script and one style sheet that are named by their content, an icon, and the licences of what
// the script contains. Every file is packed by a packer that is written in JavaScript, so that the same sources give the same bytes anywhere.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";
import { gzipSync } from "fflate";

const bytesMax = 150 * 1024; // of all packed files
const dist = new URL("dist/", import.meta.url);
const text = (name) => readFileSync(new URL(name, import.meta.url), "utf8");

const result = await build({
  absWorkingDir: new URL(".", import.meta.url).pathname,
  entryPoints: { app: "src/main.jsx", style: "src/style.css" },
  bundle: true,
  minify: true,
  write: false,
  outdir: "dist",
  format: "esm",
  target: ["es2022"],
  charset: "ascii",
  legalComments: "none",
  jsx: "automatic",
  jsxImportSource: "preact",
});

const files = new Map();
const named = (name, kind, contents) => {
  const hash = createHash("sha256").update(contents).digest("hex").slice(0, 12);
  const full = `${name}-${hash}.${kind}`;
  files.set(full, contents);
  return full;
};
const output = (kind) => result.outputFiles.find((f) => f.path.endsWith(kind)).contents;
const script = named("app", "js", output(".js"));
const style = named("style", "css", output(".css"));
const icon = named("icon", "svg", Buffer.from(text("src/icon.svg")));
files.set("licenses.txt", Buffer.from(["preact", "uplot"].map((name) => {
  const { version } = JSON.parse(text(`node_modules/${name}/package.json`));
  return `${name} ${version}\n\n${text(`node_modules/${name}/LICENSE`)}`;
}).join("\n\n")));
files.set("index.html", Buffer.from(text("src/index.html").replace("SCRIPT", script).replace("STYLE", style).replaceAll("ICON", icon)));

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);
let sum = 0;
for (const [name, contents] of files) {
  const packed = gzipSync(contents, { level: 9, mtime: 0 });
  packed[9] = 255; // made on an unknown system
  writeFileSync(new URL(`${name}.gz`, dist), packed);
  sum += packed.length;
  console.log(`${name.padEnd(28)} ${String(contents.length).padStart(8)} bytes, packed ${packed.length}`);
}
console.log(`packed in all: ${sum} bytes of ${bytesMax}`);
if (sum > bytesMax) {
  console.error("the dashboard is too large");
  process.exit(1);
}
