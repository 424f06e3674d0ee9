// @ts-check
/** A headless Chromium, driven by the DevTools protocol over a pipe: nothing else is needed. */

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { until } from "../sgtm/running_stack.mjs";

const NAMES = ["chromium", "chromium-browser", "google-chrome"];
const ANSWER_MS = 30_000;

/** The browser's file; undefined where there is none. */
export const CHROMIUM =
  process.env.CHROMIUM ??
  (process.env.PATH ?? "")
    .split(delimiter)
    .flatMap((folder) => NAMES.map((name) => join(folder, name)))
    .find((path) => existsSync(path));

const FLAGS = [
  "--headless",
  "--no-sandbox", // of a container's root; it loads pages of this machine alone
  "--disable-dev-shm-usage",
  "--disable-gpu",
  "--no-first-run",
  "--no-proxy-server",
  "--disable-background-networking",
  "--disable-component-update",
  "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
  "--remote-debugging-pipe",
];

/** One connection: commands are numbered, events go to whoever listens. */
class DevTools {
  #last = 0;
  /** @type {Map<number, {resolve: (result: any) => void, reject: (error: Error) => void}>} */
  #waiting = new Map();
  /** @type {Array<(message: any) => void>} */
  listeners = [];

  /** @param {import("node:stream").Writable} to @param {import("node:stream").Readable} from */
  constructor(to, from) {
    this.to = to;
    let rest = Buffer.alloc(0);
    from.on("data", (/** @type {Buffer} */ chunk) => {
      rest = Buffer.concat([rest, chunk]);
      for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
        this.#receive(JSON.parse(rest.subarray(0, end).toString()));
        rest = rest.subarray(end + 1);
      }
    });
    to.on("error", () => {}); // the browser has ended: whoever waits is told by the timeout
  }

  /** @param {any} message */
  #receive(message) {
    if (!message.id) return this.listeners.forEach((listener) => listener(message));
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.error) waiting?.reject(new Error(message.error.message));
    else waiting?.resolve(message.result);
  }

  /** @param {string} method @param {any} [params] @param {string} [sessionId] @returns {Promise<any>} */
  send(method, params = {}, sessionId) {
    const id = (this.#last += 1);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer to ${method}`)), ANSWER_MS);
      const settle = (/** @type {(value: any) => void} */ done) => (/** @type {any} */ value) => (
        clearTimeout(timer), done(value)
      );
      this.#waiting.set(id, { resolve: settle(resolve), reject: settle(reject) });
      this.to.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }
}

/** One tab, with cookies of its own. */
class Page {
  /** What the page said and what went wrong in it. @type {string[]} */
  errors = [];
  /** Dialogs that scripts opened. @type {string[]} */
  dialogs = [];

  /** @param {DevTools} devtools @param {string} sessionId @param {string} browserContextId */
  constructor(devtools, sessionId, browserContextId) {
    this.devtools = devtools;
    this.sessionId = sessionId;
    this.browserContextId = browserContextId;
    devtools.listeners.push((message) => message.sessionId === sessionId && this.#hear(message));
  }

  /** @param {{method: string, params: any}} message */
  #hear({ method, params }) {
    if (method === "Runtime.exceptionThrown")
      this.errors.push(
        params.exceptionDetails.exception?.description ?? params.exceptionDetails.text,
      );
    if (method === "Page.javascriptDialogOpening") {
      this.dialogs.push(params.message);
      this.#send("Page.handleJavaScriptDialog", { accept: true });
    }
  }

  /** @param {string} method @param {any} [params] */
  #send(method, params) {
    return this.devtools.send(method, params, this.sessionId);
  }

  /** Run a script before those of every page from now on. @param {string} source */
  prepare(source) {
    return this.#send("Page.addScriptToEvaluateOnNewDocument", { source });
  }

  /** @param {string} url */
  async open(url) {
    const { errorText } = await this.#send("Page.navigate", { url });
    if (errorText) throw new Error(errorText);
    await until(
      () =>
        this.run("document.readyState === 'complete' && location.href").then((at) => at === url),
      `the page ${url}`,
    );
  }

  /** @param {string} script an expression; a promise of one is awaited @returns {Promise<any>} its value */
  async run(script) {
    const { result, exceptionDetails } = await this.#send("Runtime.evaluate", {
      expression: script,
      awaitPromise: true,
      returnByValue: true,
      userGesture: true,
    });
    if (exceptionDetails)
      throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** @param {string} script @returns {Promise<any>} the first value that is something */
  until(script) {
    return until(() => this.run(script), script);
  }

  /** @param {string} selector */
  click(selector) {
    return this.run(`document.querySelector(${JSON.stringify(selector)}).click()`);
  }

  /** Set a cookie as a response would. @param {Record<string, any>} cookie */
  async setCookie(cookie) {
    await this.devtools.send("Storage.setCookies", {
      browserContextId: this.browserContextId,
      cookies: [cookie],
    });
  }

  /** Every cookie of the tab, those that scripts cannot see too. @returns {Promise<any[]>} */
  async cookies() {
    const { browserContextId } = this;
    return (await this.devtools.send("Storage.getCookies", { browserContextId })).cookies;
  }

  enable() {
    return Promise.all([this.#send("Page.enable"), this.#send("Runtime.enable")]);
  }
}

/** @returns {Promise<{newPage: () => Promise<Page>, stop: () => Promise<void>}>} */
export async function startChromium() {
  const folder = mkdtempSync(join(tmpdir(), "tagstitch-chromium-"));
  const words = [...FLAGS, `--user-data-dir=${folder}`, "about:blank"];
  const browser = spawn(/** @type {string} */ (CHROMIUM), words, {
    stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
  });
  const ended = new Promise((resolve) => browser.once("exit", resolve));
  const [, , , to, from] = /** @type {any[]} */ (browser.stdio);
  const devtools = new DevTools(to, from);
  const newPage = async () => {
    const { browserContextId } = await devtools.send("Target.createBrowserContext");
    const { targetId } = await devtools.send("Target.createTarget", {
      url: "about:blank",
      browserContextId,
    });
    const { sessionId } = await devtools.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(devtools, sessionId, browserContextId);
    await page.enable();
    return page;
  };
  const stop = async () => {
    await devtools.send("Browser.close").catch(() => browser.kill());
    await ended;
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  return { newPage, stop };
}
