// Shared by the browser tests: the dashboard over results, Debian's Chromium, and pages without errors.
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { axe, browserIn, dashboard } from "./start.mjs";

const { KTEST_DASHBOARD, KTEST_CHROMIUM, KTEST_RESULTS, KTEST_CONFIG, KTEST_SCRATCH, KTEST_RUNNING, KTEST_SHOTS } = process.env;

/** A directory for files that the tests exchange. */
export const scratch = KTEST_SCRATCH;
/** The directory of results, and the commit with a running test. */
export const results = KTEST_RESULTS;
export const running = KTEST_RUNNING;
/** The address of the dashboard. */
export let origin;

let server, browser;

before(async () => {
  ({ server, origin } = await dashboard(KTEST_DASHBOARD, ["--config", KTEST_CONFIG, "--output-dir", KTEST_RESULTS]));
  browser = await browserIn(KTEST_SCRATCH, KTEST_CHROMIUM);
  await mkdir(KTEST_SHOTS, { recursive: true });
});

after(async () => {
  await browser?.close();
  server?.kill();
});

/** Runs `body` on a new page; an error on the page, or a request to another site, fails the test. */
export async function on(options, body) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => {
    // A missing page is an error on the console, too; some tests request one on purpose.
    if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) wrong.push(message.text());
  });
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("dialog", (dialog) => { wrong.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => {
    if (!request.url().startsWith(origin) && !request.url().startsWith("data:")) wrong.push(`request to ${request.url()}`);
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

/** Each page fits the width of a phone; those in `kept` are saved as screenshots. `views` returns addresses by name. */
export function fitsPhone(views, kept, prefix = "") {
  const phone = { viewport: { width: 360, height: 800 }, isMobile: true, deviceScaleFactor: 2 };
  test("nothing is cut off at the width of a phone", () => on(phone, async (page) => {
    for (const [name, target] of Object.entries(await views())) {
      await go(page, target);
      const [wide, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(wide <= seen, `${name} is ${wide} wide on a screen of ${seen}`);
      if (kept.includes(name)) await shot(page, `${prefix}phone-${name}`);
    }
  }));
}

/** The pages are accessible, in light and dark mode. */
export function accessible(views, prefix = "") {
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
        const found = serious.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.html} ${node.failureSummary}`).join("; ")}`);
        assert.deepEqual(found, [], name);
      }
    }));
  }
}
