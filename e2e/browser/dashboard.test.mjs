// The dashboard in a real browser, on loopback only. Started by crates/ci-dashboard/tests/browser.rs, which writes the
// results and acts as the daemon.
import assert from "node:assert/strict";
import { appendFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { accessible, fitsPhone, go, on, origin, results, running, scratch, shot, text } from "./harness.mjs";

const BRANCH = "/ci?user=mira&branch=ext4-testing";
const PUSHED = "/ci?user=mira&branch=rebased";
const UNBUILT = "/ci?user=anton&branch=nfsd-next";
const PUNCH = "ext4: punch holes extent by extent";

/** The address of the commit with this subject, and of its punch_hole log. */
async function punch() {
  const rows = await (await fetch(`${origin}${BRANCH}&format=json`)).json();
  const { commit } = rows.find((row) => row.message.startsWith(PUNCH));
  return { commit: `${BRANCH}&commit=${commit}`, log: `/c/${commit}/fs.ext4.basic.punch_hole/`, sha: commit };
}

test("? lists the keys in a dialog, and without JavaScript in the footer", async () => {
  await on({}, async (page) => {
    await go(page, BRANCH);
    await page.keyboard.press("?");
    const dialog = page.getByRole("dialog", { name: "Keyboard" });
    assert.match(await dialog.innerText(), /next, previous row/);
    await page.keyboard.press("j");
    assert.equal(await page.locator(".at").count(), 0, "the keys are off while it is open");
    await page.keyboard.press("Escape");
    // It is removed by its event "close", which comes later.
    await dialog.waitFor({ state: "detached" });
    assert.equal(await page.locator("dialog").count(), 0);
    await page.keyboard.press("j");
    assert.equal(await page.locator(".at").count(), 1);
  });
  await on({ javaScriptEnabled: false, viewport: { width: 360, height: 800 } }, async (page) => {
    await go(page, BRANCH);
    await page.locator("#keys > summary").click();
    assert.match(await page.locator("#keys").innerText(), /next, previous row/);
    const box = await page.locator("#keys").boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= 360, "the list fits a phone");
  });
});

test("from the list of branches to the line of the failure", () => on({}, async (page) => {
  await go(page, "/ci");
  await page.getByRole("link", { name: "ext4-testing" }).click();
  await page.waitForURL(/branch=ext4-testing/);
  await shot(page, "branch", { fullPage: true });
  // The row of the first bad commit names the test, and its failure column is red from here on.
  const row = page.locator("tr.red", { hasText: PUNCH });
  assert.match(await row.innerText(), /▼ broke:\s*fs\.ext4\.basic\.punch_hole/);
  assert.ok(await row.locator("path.l-f").count() > 0, "the failure column is red");
  await row.getByRole("link", { name: PUNCH }).click();
  await page.waitForURL(/commit=/);
  assert.match(await text(page), /kernel BUG in ext4_ext_remove_space/);
  assert.match(await text(page), /this commit/);
  await shot(page, "commit", { fullPage: true });
  await page.getByRole("link", { name: /punch_hole/ }).first().click();
  await page.waitForURL(/#failure$/);
  const line = page.locator(".con .k").first();
  assert.match(await line.innerText(), /kernel BUG at fs\/ext4\/extents\.c:3211!/);
  const box = await line.boundingBox();
  assert.ok(box.y >= 0 && box.y < 900, `the failure is visible, at ${box.y}`);
  await shot(page, "log");
  // Every line has an address.
  await page.locator("#L3 a").click();
  assert.match(page.url(), /#L3$/);
  // Search.
  await page.getByPlaceholder("search in this log").fill("call trace");
  await page.keyboard.press("Enter");
  await page.waitForURL(/find=call/);
  assert.match(await text(page), /1 line of \d+ match/);
}));

test("the failing tests are listed next to the log", () => on({ viewport: { width: 1500, height: 900 } }, async (page) => {
  const rows = await (await fetch(`${origin}${BRANCH}&format=json`)).json();
  const { commit } = rows.find((row) => row.failed > 1);
  await go(page, `${BRANCH}&commit=${commit}&status=failed`);
  await page.locator("table.tests tbody a").first().click();
  const list = page.locator(".failing");
  assert.equal(await list.locator("[aria-current=page]").count(), 1);
  const [left, right] = [await list.boundingBox(), await page.locator(".con").boundingBox()];
  assert.ok(left.x + left.width <= right.x, "side by side");
  await shot(page, "failing");
  await list.locator("a:not([aria-current])").first().click();
  assert.equal(await page.locator(".failing [aria-current=page]").count(), 1);
}));

test("a failure names its first bad commit and the command that reproduces it", () => on({
  permissions: ["clipboard-read", "clipboard-write"],
}, async (page) => {
  await go(page, BRANCH);
  const failing = page.locator("table.now tbody tr", { hasText: "xattr_acl" }).first();
  assert.match(await failing.innerText(), /ext4: allow an xattr value to span two blocks\s+Wilhelmina .*, \d+ d ago/);
  // The broken test leads to the line of the failure.
  await page.locator("tr.red .delta").getByRole("link", { name: "xattr_acl" }).click();
  await page.waitForURL(/#failure$/);
  assert.match(await text(page), /First bad\s+this commit/);
  await page.getByRole("link", { name: "history on" }).click();
  assert.match(await text(page), /First bad\s+\w+ ext4: allow an xattr value/);
  await page.locator(".culprit").getByRole("link", { name: /^[0-9a-f]{12}$/ }).first().click();
  const web = page.getByRole("link", { name: "in git" }).first();
  assert.match(await web.getAttribute("href"), /^https:\/\/git\.example\.org\/linux\.git\/commit\/\?id=[0-9a-f]{40}$/);
  const command = await page.locator(".repro").innerText();
  assert.match(command, /^ktest run -k ~\/linux --commit [0-9a-f]{40} fs\/ext4\/basic\.ktest \w+$/);
  await page.getByRole("button", { name: "Copy the command" }).click();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), command);
  await shot(page, "reproduce");
}));

test("two branches are compared", () => on({}, async (page) => {
  await go(page, BRANCH);
  await page.getByRole("link", { name: "compare…" }).click();
  await page.getByLabel("Head").fill("stable-6.1");
  await page.getByRole("button", { name: "Compare" }).click();
  await page.waitForURL(/with=stable-6\.1/);
  assert.match(await text(page), /fixed/);
  await page.getByRole("link", { name: "swap" }).click();
  assert.match(await text(page), /\d+ broke/);
  await shot(page, "compare", { fullPage: true });
  await go(page, `${BRANCH}&crashes`);
  assert.match(await text(page), /KASAN: slab-use-after-free Read in ext4_orphan_cleanup/);
  await shot(page, "crashes");
}));

test("a flaky test has a state and a rate", () => on({}, async (page) => {
  await go(page, BRANCH);
  await page.getByRole("link", { name: "flaky tests" }).click();
  assert.match(await text(page), /≈ flaky 5 of 15/);
  await page.locator("tbody th a").first().click();
  assert.match(await text(page), /≈ Flaky/);
}));

test("a force-push shows what became of each commit", () => on({}, async (page) => {
  await go(page, PUSHED);
  assert.match(await text(page), /2 of 4 commits kept their results, 1 to run/);
  await page.getByRole("link", { name: "force-pushed" }).click();
  assert.match(await text(page), /broke:\s*fs\.ext4\.basic\.punch/);
  for (const key of ["j", "j", "j"]) await page.keyboard.press(key);
  assert.equal(await page.locator(".at").count(), 1);
  assert.equal(await page.evaluate(() => document.activeElement.hasAttribute("data-open")), true, "the new commit");
  await shot(page, "range-diff", { fullPage: true });
  await page.getByRole("link", { name: "ran, compare" }).click();
  assert.match(await text(page), /1 broke/);
}));

test("a tip that does not build is the headline", () => on({}, async (page) => {
  await go(page, "/ci?user=anton");
  assert.match(await text(page), /build failed/);
  await go(page, UNBUILT);
  const banners = page.locator(".note.bad");
  assert.match(await banners.first().innerText(), /^Tip [0-9a-f]{12} does not build since [0-9a-f]{12} sunrpc: move .*: net\/sunrpc\/svcsock\.c:412:9: error: /);
  const row = page.locator("tr.red", { hasText: "sunrpc: move" });
  assert.match(await row.innerText(), /▼ broke the build: net\/sunrpc\/svcsock\.c/);
  assert.match(await row.innerText(), /build failed/);
  assert.match(await page.locator("tr.red", { hasText: "KASAN" }).innerText(), /▼ broke the build \(kasan\)/);
  assert.doesNotMatch(await text(page), /\d+ failed to run|failing now/);
  await shot(page, "unbuilt", { fullPage: true });
  await row.getByRole("link", { name: "broke the build" }).click();
  await page.waitForURL(/\/build$/);
  const line = page.locator(".con .k");
  assert.match(await line.innerText(), /svcsock\.c:412:9: error: static declaration/);
  const box = await line.boundingBox();
  assert.ok(box.y >= 0 && box.y < 900, `the error is visible, at ${box.y}`);
  assert.match(await text(page), /13 tests not run: the kernel does not build/);
  await shot(page, "build", { fullPage: true });
  const whole = await (await fetch(origin + await page.getByRole("link", { name: "whole log" }).getAttribute("href"))).text();
  assert.match(whole, /^ {2}HOSTCC/);
  // From a test that did not run to the build.
  await page.locator("summary", { hasText: "tests not run" }).click();
  await page.getByRole("link", { name: "boot.boots" }).click();
  await page.getByRole("link", { name: "Build of the kernel" }).click();
  await page.waitForURL(/build\?kernel=$/);
}));

test("the tests of a commit that does not build are one line", () => on({ javaScriptEnabled: false, viewport: { width: 360, height: 800 } }, async (page) => {
  const rows = await (await fetch(`${origin}${BRANCH}&format=json`)).json();
  const { commit, build } = rows.find((row) => row.build?.broke);
  assert.equal(build.failed[0].tests, 20);
  assert.ok(rows.some((row) => row.build?.fixed));
  await go(page, `${BRANCH}&commit=${commit}`);
  assert.match(await text(page), /This commit does not build: fs\/ext4\/acl\.c:143:2: error: /);
  assert.match(await text(page), /20 tests not run: the kernel does not build/);
  assert.equal(await page.locator("table.tests tr[data-row]").count(), 0);
  await page.getByRole("link", { name: "list" }).click();
  assert.equal(await page.locator("table.tests tr[data-row]").count(), 20);
  await go(page, `/c/${commit}/build`);
  assert.ok((await page.locator(".con .k").boundingBox()).y < 800, "the error is visible on a phone");
  await go(page, BRANCH);
  assert.match(await text(page), /▲ fixed the build/);
}));

test("the history of a test is a plot, a pass rate and hosts", () => on({}, async (page) => {
  await go(page, `${BRANCH}&history=fs.ext4.basic.punch_hole`);
  const bars = await page.locator("svg.plot path").evaluateAll((paths) => paths.map((path) => path.getAttribute("d")));
  assert.ok(bars.join("").split("z").length > 6);
  assert.match(await text(page), /passed on \d+ of \d+ commits/);
  assert.match(await text(page), /farm1/);
  await shot(page, "history", { fullPage: true });
}));

test("the live status", () => on({}, async (page) => {
  await go(page, "/ci?status");
  for (const word of ["farm1", "no space left", "xattr_acl", "queued", "did you mean", "could not resolve host", "left, "]) {
    assert.ok((await text(page)).includes(word), word);
  }
  await shot(page, "status", { fullPage: true });
}));

test("the page of a running test shows new lines and the verdict", () => on({}, async (page, context) => {
  const commit = await context.newPage();
  await go(commit, `/c/${running}/?test=live`);
  assert.match(await text(commit), /In progress/);
  await go(page, `/c/${running}/fs.ext4.basic.live/`);
  await page.locator("#L2").waitFor();
  const live = join(results, running, "fs.ext4.basic.live", "log");
  const began = Date.now();
  await appendFile(live, "00002 <script>window.hit=1</script>\n00003 BUG: a third li");
  await page.locator("#L3").waitFor();
  assert.ok(Date.now() - began < 2000, `a line took ${Date.now() - began} ms`);
  assert.equal(await page.locator("#L4").count(), 0, "an incomplete line is not shown");
  await appendFile(live, "ne\n");
  await page.locator("#L4.k").waitFor();
  assert.equal(await page.evaluate(() => window.hit), undefined);
  // This page shows the verdict, and so does the page of the commit in the other window.
  await writeFile(join(scratch, "finish"), "");
  await page.locator(".lede .s-passed").waitFor();
  assert.match(await text(page), /the end/);
  await commit.bringToFront();
  await commit.locator("td .s-passed").first().waitFor();
}));

test("without JavaScript", () => on({ javaScriptEnabled: false }, async (page) => {
  await go(page, "/ci");
  await page.getByRole("link", { name: "ext4-testing" }).click();
  await page.locator("summary", { hasText: "not tested" }).first().click();
  assert.match(await text(page), /ext4: drop the last caller/);
  await page.getByRole("searchbox").fill("journal_replay");
  await page.keyboard.press("Enter");
  await page.waitForURL(/test=journal_replay/);
  const { log } = await punch();
  await go(page, `${log}#failure`);
  assert.match(await page.locator(".repro").innerText(), /^ktest run/);
  assert.equal(await page.locator(".reproduce button").count(), 0, "no button without a script");
  const box = await page.locator(".con .k").first().boundingBox();
  assert.ok(box.y < 900, "opened at the failure");
  await page.getByPlaceholder("search in this log").fill("RIP");
  await page.keyboard.press("Enter");
  await page.waitForURL(/find=RIP/);
  assert.match(await text(page), /1 line of/);
  await go(page, "/ci?user=mira&compare=ext4-testing..stable-6.1");
  assert.match(await text(page), /fixed/);
}));

test("with the keyboard only", () => on({}, async (page) => {
  await go(page, BRANCH);
  for (const key of ["j", "j", "k"]) await page.keyboard.press(key);
  assert.equal(await page.locator(".at").count(), 1);
  await page.keyboard.press("Enter");
  await page.waitForURL((url) => url.search !== BRANCH.slice(3));
  await page.keyboard.press("u");
  await page.waitForURL(`${origin}${BRANCH}`);
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.name), "test");
}));

const views = async () => {
  const { commit, log } = await punch();
  const [tip] = await (await fetch(`${origin}${UNBUILT}&format=json`)).json();
  return {
    unbuilt: UNBUILT, "unbuilt-commit": `${UNBUILT}&commit=${tip.commit}`, build: `/c/${tip.commit}/build`,
    home: "/ci", user: "/ci?user=mira", branch: BRANCH, commit, log, status: "/ci?status",
    history: `${BRANCH}&history=fs.ext4.basic.punch_hole`, crashes: `${BRANCH}&crashes`, flaky: `${BRANCH}&flaky`,
    push: `${PUSHED}&range-diff`,
    compare: "/ci?user=mira&compare=stable-6.1..ext4-testing", running: `/c/${running}/`, error: "/ci?user=nobody",
  };
};

fitsPhone(views, ["branch", "commit", "log", "status", "compare", "history", "push", "unbuilt", "build"]);
accessible(views);

test("hostile names are text and run nothing", () => on({}, async (page) => {
  const seen = new Set();
  const todo = ["/ci?user=evil"];
  while (todo.length) {
    const target = todo.pop();
    if (seen.has(target) || seen.size > 20) continue;
    seen.add(target);
    await go(page, target);
    await page.waitForTimeout(50);
    assert.equal(await page.evaluate(() => window.hit), undefined, target);
    assert.equal(await page.locator("main img, main script").count(), 0, target);
    const links = await page.locator("main a[href]").evaluateAll((all) => all.map((a) => a.getAttribute("href")));
    for (const link of links) {
      if (link.startsWith("/c") && !/\.br$|format=|#L/.test(link)) todo.push(link);
    }
  }
  assert.ok(seen.size >= 5, [...seen].join("\n"));
  assert.match(await page.evaluate(async () => (await fetch("/ci?user=evil")).text()), /&#60;script&#62;/);
}));
