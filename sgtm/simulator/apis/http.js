// @ts-check
/** APIs that call other servers, over the real network. */

import { SandboxPromise } from "../sandbox_promise.js";

const TIMEOUT_MS_DEFAULT = 15_000;

/** @param {import("../runtime.js").Runtime} runtime */
export function httpApis({ copyIn, copyOut, permissions, report }) {
  const send = (
    /** @type {string} */ url,
    /** @type {any} */ options,
    /** @type {string | undefined} */ body,
  ) => {
    permissions.needHttp(url);
    const answer = request(url, copyOut(options ?? {}), body).then(copyIn, (reason) => {
      throw copyIn(reason);
    });
    return new SandboxPromise(answer, report.error);
  };
  return {
    sendHttpRequest: send,
    sendHttpGet: (/** @type {string} */ url, /** @type {any} */ options) =>
      send(url, options, undefined),
  };
}

/**
 * @param {string} url
 * @param {{method?: string, headers?: Record<string, string>, timeout?: number}} options
 * @param {string | undefined} body
 */
async function request(url, { method = "GET", headers = {}, timeout = TIMEOUT_MS_DEFAULT }, body) {
  const signal = AbortSignal.timeout(timeout);
  try {
    const answer = await fetch(url, { method, headers, body, signal, redirect: "manual" });
    const text = await answer.text();
    return { statusCode: answer.status, headers: Object.fromEntries(answer.headers), body: text };
  } catch {
    throw { reason: signal.aborted ? "timed_out" : "failed" }; // every status resolves
  }
}
