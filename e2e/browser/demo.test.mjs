// The dashboard over the results of `make demo`: commits that break tests and commits that fix them. Started by
// crates/ci-dashboard/tests/browser.rs with DEMO_DATA, over a copy in which one test runs at the tip.
import assert from "node:assert/strict";
import { appendFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { accessible, fitsPhone, go, on, origin, results, running, scratch, shot, text } from "./harness.mjs";

const BRANCH = "/ci?user=demo&branch=demo";
const PUNCH = "fs.ext4.basic.punch";
const json = async (target) => (await fetch(origin + target)).json();

/** The commit that broke the punch: the oldest on which it fails. */
async function broken() {
  const rows = (await json(`${BRANCH}&test=basic.punch&format=json`)).filter((row) => row.failed > 0);
  return rows.at(-1);
}

const views = async () => {
  const rows = await json(`${BRANCH}&format=json`);
  const { commit } = await broken();
  const unbuilt = rows.find((row) => row.failed_to_run > 0).commit;
  return {
    home: "/ci", user: "/ci?user=demo", branch: BRANCH, commit: `${BRANCH}&commit=${commit}`,
    log: `/c/${commit}/${PUNCH}/`, machine: `/c/${commit}/${PUNCH}/?log=full`, unbuilt: `${BRANCH}&commit=${unbuilt}`,
    buildlog: `/c/${unbuilt}/${PUNCH}/`, history: `${BRANCH}&history=${PUNCH}`, crashes: `${BRANCH}&crashes`,
    compare: `/ci?user=demo&compare=${rows.at(-1).commit}..${commit}`, status: "/ci?status",
    running: `/c/${running}/`, passed: `/c/${running}/fs.ext4.basic.xattr/`, error: "/ci?user=nobody",
  };
};

test("from the branch to the line of the crash", () => on({}, async (page) => {
  await go(page, "/ci");
  await page.getByRole("link", { name: "demo", exact: true }).last().click();
  await page.waitForURL(/branch=demo/);
  await shot(page, "demo-branch", { fullPage: true });
  const { commit, message } = await broken();
  const row = page.locator("tr.red", { hasText: message.split("\n")[0] });
  assert.match(await row.innerText(), /▼ broke:\s*fs\.ext4\.basic\.punch/);
  assert.ok(await row.locator("path.l-f").count() > 0, "the lane is red");
  await row.locator(".subject > a").click();
  await page.waitForURL((url) => url.href.includes(commit));
  assert.match(await text(page), /NULL pointer dereference/);
  await shot(page, "demo-commit", { fullPage: true });
  await page.locator("table.tests tbody a", { hasText: "punch" }).first().click();
  await page.waitForURL(/#failure$/);
  const line = page.locator(".con .k").first();
  assert.match(await line.innerText(), /BUG: kernel NULL pointer dereference/);
  const box = await line.boundingBox();
  assert.ok(box.y >= 0 && box.y < 900, `the failure is in sight, at ${box.y}`);
  await shot(page, "demo-log");
}));

test("a build failure is reported by the first error of the compiler", () => on({}, async (page) => {
  const { unbuilt } = await views();
  await go(page, unbuilt);
  assert.match(await text(page), /No test could run at this commit\./);
  assert.match(await text(page), /ext4_acl_name_index/);
}));

test("two commits are compared", () => on({}, async (page) => {
  const { commit, compare } = await views();
  await go(page, compare);
  assert.match(await text(page), /1 broke/);
  await shot(page, "demo-compare", { fullPage: true });
  await go(page, commit);
  await page.getByRole("link", { name: "compare with parent" }).click();
  assert.match(await text(page), /fs\.ext4\.basic\.punch/);
  await go(page, `${BRANCH}&history=${PUNCH}`);
  const bars = await page.locator("svg.plot path").evaluateAll((paths) => paths.map((path) => path.getAttribute("d")));
  assert.ok(bars.join("").split("z").length > 6);
  await shot(page, "demo-history", { fullPage: true });
}));

test("the page of a running subtest shows new lines and the verdict", () => on({}, async (page, context) => {
  const commit = await context.newPage();
  await go(commit, `/c/${running}/?test=live`);
  assert.match(await text(commit), /In progress/);
  await go(page, `/c/${running}/fs.ext4.basic.live/`);
  await page.locator("#L2").waitFor();
  await appendFile(join(results, running, "fs.ext4.basic.live", "log"), "00003 one more line\n");
  await page.locator("#L3").waitFor();
  await writeFile(join(scratch, "finish"), "");
  await page.locator(".lede .s-passed").waitFor();
  await commit.bringToFront();
  await commit.locator("td .s-passed").first().waitFor();
}));

test("without JavaScript", () => on({ javaScriptEnabled: false }, async (page) => {
  const { commit } = await broken();
  await go(page, BRANCH);
  await page.getByRole("searchbox").fill("punch");
  await page.keyboard.press("Enter");
  await page.waitForURL(/test=punch/);
  await page.locator("tr.red .subject > a").first().click();
  assert.ok(page.url().includes(commit));
  await page.locator("table.tests tbody a", { hasText: "punch" }).first().click();
  const box = await page.locator(".con .k").first().boundingBox();
  assert.ok(box.y < 900, "opened at the failure");
}));

fitsPhone(views, ["home", "branch", "commit", "log", "unbuilt", "history", "compare", "status"], "demo-");
accessible(views, "demo-");

test("a screenshot of each page", () => on({}, async (page) => {
  for (const [name, target] of Object.entries(await views())) {
    await go(page, target);
    await shot(page, `demo-all-${name}`, { fullPage: !["log", "machine", "buildlog", "passed"].includes(name) });
  }
}));
