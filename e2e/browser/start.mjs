// Starts the dashboard over results, and Debian's Chromium.
import { spawn } from "node:child_process";
import { mkdtemp, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

/** The source of axe-core, to be evaluated on a page. */
export const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** The dashboard, a child process, and its address. `options` are those of `serve`. */
export async function dashboard(program, options) {
  const server = spawn(program, ["serve", "--listen", "127.0.0.1:0", ...options], { stdio: ["ignore", "ignore", "pipe"] });
  const origin = await new Promise((resolve, reject) => {
    let output = "";
    server.stderr.on("data", (bytes) => {
      output += bytes;
      const found = output.match(/http:\/\/127\.0\.0\.1:\d+/);
      if (found) resolve(found[0]);
    });
    server.on("error", reject);
    server.on("exit", () => reject(new Error(`the dashboard ended: ${output}`)));
  });
  return { server, origin };
}

/** Chromium, with its profile in a new directory below `scratch`. */
export async function browserIn(scratch, executablePath) {
  const profile = await mkdtemp(join(scratch, "chromium-"));
  return chromium.launch({
    executablePath,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", `--disk-cache-dir=${profile}`,
    ],
  });
}
