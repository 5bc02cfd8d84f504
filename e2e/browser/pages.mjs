// Measures pages: node pages.mjs PROGRAM DIR PAGES [RATE]. PROGRAM is ci-dashboard, DIR the results, and PAGES a file of lines "NAME ADDRESS",
// which `--example large` of ci-dashboard prints. Prints a table: bytes and nodes of the first view, violations that axe finds, light and
// dark, without JavaScript, and the widths at which the page scrolls horizontally. The exit code is 1 if a page is over a limit.
// With RATE, wrk requests each page about RATE times per second for 4 s, and the table has the 99th percentile of the response times; the
// pages are not opened in a browser then, so that nothing else runs. VERBOSE=1 prints each violation.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { axe, browserIn, dashboard } from "./start.mjs";

const BYTES_MAX = 100_000;
const NODES_MAX = 2_000;
/** In ms. */
const P99_MAX = 50;
const WIDTHS = [360, 768, 1280, 1920];
/** The interval at which each connection of wrk requests a page, in ms. */
const WAIT = 100;

const [program, dir, list, rate] = process.argv.slice(2);
const pages = (await readFile(list, "utf8")).trim().split("\n").map((line) => {
  const at = line.lastIndexOf(" ");
  return [line.slice(0, at), line.slice(at + 1)];
});
const scratch = await mkdtemp(join(tmpdir(), "ktest-pages-"));
const { server, origin } = await dashboard(program, ["--output-dir", dir]);
const browser = rate ? undefined : await browserIn(scratch, process.env.KTEST_CHROMIUM ?? "/usr/bin/chromium");
let isOver = false;

/** The page without JavaScript: nodes, and where it scrolls. axe runs in a second window, light and dark. */
async function inBrowser(target) {
  const plain = await (await browser.newContext({ javaScriptEnabled: false })).newPage();
  await plain.goto(origin + target, { waitUntil: "load" });
  const nodes = await plain.evaluate(() => document.querySelectorAll("*").length);
  const wide = [];
  for (const width of WIDTHS) {
    await plain.setViewportSize({ width, height: 900 });
    if (await plain.evaluate(() => document.documentElement.scrollWidth > innerWidth)) wide.push(width);
  }
  await plain.context().close();
  const violations = new Set();
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [WIDTHS[0], WIDTHS.at(-2)]) {
      const page = await (await browser.newContext({ colorScheme, viewport: { width, height: 900 } })).newPage();
      await page.goto(origin + target, { waitUntil: "load" });
      await page.evaluate(axe);
      const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      for (const { id, nodes } of found.violations) {
        violations.add(id);
        if (process.env.VERBOSE) console.error(target, colorScheme, width, id, nodes[0].html.slice(0, 300), nodes[0].failureSummary);
      }
      await page.context().close();
    }
  }
  return { nodes, wide, violations };
}

/** The 99th percentile in ms at about `rate` requests per second. */
async function p99(target) {
  const script = join(scratch, "wait.lua");
  await writeFile(script, `function delay() return ${WAIT} end\n`);
  const connections = Math.ceil(rate * WAIT / 1000 * 1.05);
  const { stdout } = await promisify(execFile)("wrk", ["-t1", `-c${connections}`, "-d4s", "--latency", "-s", script, origin + target]);
  const [, number, unit] = stdout.match(/ 99%\s+([\d.]+)(us|ms|s)/);
  return [number * { us: 0.001, ms: 1, s: 1000 }[unit], Number(stdout.match(/Requests\/sec:\s+([\d.]+)/)[1])];
}

try {
  const heads = rate ? ["p99, ms", "requests/s"] : ["bytes", "nodes", "axe", "scrolls at"];
  console.log(`| ${["page", ...heads, "first response, ms"].join(" | ")} |\n|${"---|".repeat(heads.length + 2)}`);
  for (const [name, target] of pages) {
    const began = performance.now();
    const response = await fetch(origin + target);
    const bytes = (await response.arrayBuffer()).byteLength;
    const first = performance.now() - began;
    if (response.status !== 200 && name !== "error") throw new Error(`${target}: status ${response.status}`);
    let cells;
    if (rate) {
      const [percentile, reached] = await p99(target);
      isOver ||= percentile > P99_MAX;
      cells = [percentile.toFixed(1), reached.toFixed(0)];
    } else {
      const { nodes, wide, violations } = await inBrowser(target);
      isOver ||= bytes > BYTES_MAX || nodes > NODES_MAX || wide.length > 0 || violations.size > 0;
      cells = [bytes, nodes, [...violations].join(" ") || 0, wide.join(" ") || "-"];
    }
    console.log(`| ${[name, ...cells, first.toFixed(0)].join(" | ")} |`);
  }
} finally {
  await browser?.close();
  server.kill();
  await rm(scratch, { recursive: true, force: true });
}
process.exitCode = isOver ? 1 : 0;
