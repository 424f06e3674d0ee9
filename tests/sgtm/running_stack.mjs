// @ts-check
/** `tagstitch up` on a free port, with a data folder of its own. */

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const START_MS = 90_000;
const OWN_PYTHON = join(ROOT, ".venv/bin/python");

/** As an operator writes documents of the collection views. */
const PUT_VIEWS = `
import asyncio, json, sys
from tagstitch.cli.opened_backend import opened_backend
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline

async def put():
    async with opened_backend() as opened:
        puts = [Put(f"views/{name}", view) for name, view in json.loads(sys.argv[1]).items()]
        await opened.backend.documents.commit(puts, deadline=Deadline.after(10))

asyncio.run(put())
`;

/** The Python that has the project's requirements; undefined where none is installed. */
export const PYTHON = process.env.PYTHON ?? (existsSync(OWN_PYTHON) ? OWN_PYTHON : undefined);

/**
 * @param {Record<string, string>} settings
 * @param {string[]} [options] of the command
 * @returns {Promise<{
 *   url: string, document: any, stop: () => Promise<void>,
 *   pushRules: (definitions: object) => Promise<void>,
 *   putViews: (definitions: object) => Promise<void>,
 *   importProfiles: (profiles: object[]) => Promise<void>,
 * }>}
 */
export async function startStack(settings, options = ["--no-container"]) {
  const folder = mkdtempSync(join(tmpdir(), "tagstitch-sgtm-"));
  const words = [
    "-m",
    "tagstitch.cli",
    "up",
    "--port",
    "0",
    "--json",
    ...options,
    "--data-dir",
    join(folder, "data"),
  ];
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(TAGSTITCH_|FIRESTORE_|PUBSUB_|BIGQUERY_|GOOGLE_)/.test(name),
  );
  const env = { ...Object.fromEntries(inherited), PYTHONPATH: ROOT, ...settings };
  const stack = spawn(/** @type {string} */ (PYTHON), words, {
    cwd: ROOT,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const runBeside = async (/** @type {string[]} */ ...given) => {
    const ran = spawn(/** @type {string} */ (PYTHON), given, {
      cwd: ROOT,
      env: { ...env, TAGSTITCH_DATA_DIR: join(folder, "data") },
      stdio: ["ignore", "ignore", "inherit"],
    });
    const status = await new Promise((resolve) => ran.once("exit", resolve));
    if (status !== 0) throw new Error(`${given[1]} failed with ${status}`);
  };
  /** Add rules to those of the samples. @param {object} definitions */
  const pushRules = async (definitions) => {
    const file = join(folder, "rules.json");
    writeFileSync(file, JSON.stringify(definitions));
    await runBeside("-m", "tagstitch.cli", "rules", "push", file);
  };
  /** @param {object[]} profiles */
  const importProfiles = async (profiles) => {
    const file = join(folder, "profiles.jsonl");
    writeFileSync(file, profiles.map((each) => JSON.stringify(each)).join("\n"));
    await runBeside("-m", "tagstitch.cli", "profiles", "import", file);
  };
  const putViews = (/** @type {object} */ definitions) =>
    runBeside("-c", PUT_VIEWS, JSON.stringify(definitions));
  const ended = new Promise((resolve) => stack.once("exit", resolve));
  const stop = async () => {
    stack.kill("SIGTERM");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const document = await announced(stack);
    return { url: document.url, document, stop, pushRules, putViews, importProfiles };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** @param {import("node:child_process").ChildProcessByStdio<null, import("node:stream").Readable, import("node:stream").Readable>} stack @returns {Promise<any>} what it says of itself */
function announced(stack) {
  return new Promise((resolve, reject) => {
    let [output, errors] = ["", ""];
    const timer = setTimeout(
      () => reject(new Error(`no stack within ${START_MS} ms: ${errors}`)),
      START_MS,
    );
    stack.stderr.on("data", (chunk) => (errors += chunk));
    stack.once("exit", (status) => reject(new Error(`the stack ended with ${status}: ${errors}`)));
    stack.stdout.on("data", (chunk) => {
      output += chunk;
      const line = output.split("\n")[0];
      if (!output.includes("\n")) return;
      clearTimeout(timer);
      resolve(JSON.parse(line));
    });
  });
}

/**
 * @template T
 * @param {() => Promise<T | undefined> | T | undefined} look
 * @param {string} what
 * @returns {Promise<T>} the first result that is something
 */
export async function until(look, what) {
  const end = Date.now() + 20_000;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
