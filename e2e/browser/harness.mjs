// What the browser tests share: the dashboard started over results, Debian's Chromium, a page that must not complain.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const { KTEST_DASHBOARD, KTEST_CHROMIUM, KTEST_RESULTS, KTEST_SCRATCH, KTEST_RUNNING, KTEST_SHOTS } = process.env;
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A folder for what the tests leave to each other. */
export const scratch = KTEST_SCRATCH;
/** Where the results are, and the commit of which something still runs. */
export const results = KTEST_RESULTS;
export const running = KTEST_RUNNING;
/** Where the dashboard listens. */
export let origin;

let server, browser;

before(async () => {
  server = spawn(KTEST_DASHBOARD, ["serve", "--listen", "127.0.0.1:0", "--output-dir", KTEST_RESULTS], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  origin = await new Promise((resolve, reject) => {
    let said = "";
    server.stderr.on("data", (bytes) => {
      said += bytes;
      const found = said.match(/http:\/\/127\.0\.0\.1:\d+/);
      if (found) resolve(found[0]);
    });
    server.on("exit", () => reject(new Error(`the dashboard ended: ${said}`)));
  });
  const profile = await mkdtemp(join(KTEST_SCRATCH, "chromium-"));
  browser = await chromium.launch({
    executablePath: KTEST_CHROMIUM,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", `--disk-cache-dir=${profile}`,
    ],
  });
  await mkdir(KTEST_SHOTS, { recursive: true });
});

after(async () => {
  await browser?.close();
  server?.kill();
});

/** Runs `body` on a new page; whatever the page complains about, or asks of strangers, fails the test. */
export async function on(options, body) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => {
    // A page that is not there is an error on the console, too; those we ask for on purpose say so.
    if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) wrong.push(message.text());
  });
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("dialog", (dialog) => { wrong.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => {
    if (!request.url().startsWith(origin) && !request.url().startsWith("data:")) wrong.push(`asks ${request.url()}`);
  });
  page.setDefaultTimeout(8000);
  try {
    await body(page, context);
    assert.deepEqual(wrong, []);
  } finally {
    await context.close();
  }
}

export const go = (page, target) => page.goto(origin + target, { waitUntil: "load" });
export const shot = (page, name, options = {}) => page.screenshot({ path: join(KTEST_SHOTS, `${name}.png`), ...options });
export const text = (page) => page.locator("main").innerText();

/** At a phone's width each of these pages fits; some are kept as pictures. `views` gives addresses by name. */
export function fitsPhone(views, kept, prefix = "") {
  const phone = { viewport: { width: 390, height: 844 }, isMobile: true, deviceScaleFactor: 2 };
  test("at a phone's width nothing is cut off", () => on(phone, async (page) => {
    for (const [name, target] of Object.entries(await views())) {
      await go(page, target);
      const [wide, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(wide <= seen, `${name} is ${wide} wide on a screen of ${seen}`);
      if (kept.includes(name)) await shot(page, `${prefix}phone-${name}`);
    }
  }));
}

/** Nothing keeps people out of these pages, light and dark. */
export function open(views, prefix = "") {
  for (const colorScheme of ["light", "dark"]) {
    test(`axe finds nothing serious, ${colorScheme}`, () => on({ colorScheme }, async (page) => {
      for (const [name, target] of Object.entries(await views())) {
        await go(page, target);
        const light = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number)[0] > 128);
        assert.equal(light, colorScheme === "light", name);
        if (colorScheme === "dark") await shot(page, `${prefix}dark-${name}`);
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
        const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
        const told = serious.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.html} ${node.failureSummary}`).join("; ")}`);
        assert.deepEqual(told, [], name);
      }
    }));
  }
}
