// @ts-check
/** The shipped container, simulated; a stand-in for GA4's servers; hits as a browser sends them. */

import { createServer } from "node:http";
import { buildContainer } from "../../sgtm/build_container.js";
import { setConstants, setTimeouts } from "../../sgtm/simulator/cli.js";
import { Container } from "../../sgtm/simulator/container/container.js";
import { parseContainer } from "../../sgtm/simulator/container/export.js";
import { serve } from "../../sgtm/simulator/server.js";

export const GUARD_SECRET = "a guard secret of the tests, at random";
export const CALLBACK_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/** A busy test machine may take longer than a live server. */
const TIMEOUT_MS = "4000";

/**
 * @param {(request: {method: string, url: URL, headers: any, body: string}) => any} answer
 *   a status, or a value that is sent as JSON; a promise of one
 */
export async function startStub(answer) {
  /** @type {Array<{method: string, url: URL, headers: any, body: string}>} */
  const received = [];
  const server = createServer(async (incoming, outgoing) => {
    let body = "";
    for await (const chunk of incoming) body += chunk;
    const url = new URL(incoming.url ?? "/", "http://stub");
    const request = { method: incoming.method ?? "", url, headers: incoming.headers, body };
    received.push(request);
    const wanted = await answer(request);
    outgoing.statusCode = typeof wanted === "number" ? wanted : 200;
    outgoing.end(typeof wanted === "string" ? wanted : JSON.stringify(wanted));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  const stop = () =>
    new Promise((resolve) => (server.closeAllConnections(), server.close(resolve)));
  return { url: `http://127.0.0.1:${port}`, received, stop };
}

/**
 * @param {{
 *   decideUrl: string, stitchUrl?: string, ga4Url: string, clock?: () => number,
 *   change?: (version: any) => void, constants?: string[],
 * }} options
 */
export function makeContainer({
  decideUrl,
  stitchUrl = "http://127.0.0.1:9",
  ga4Url,
  clock,
  change = () => {},
  constants = [],
}) {
  const document = setConstants(buildContainer(), [
    `Tagstitch - Decide URL=${decideUrl}`,
    `Tagstitch - Stitch URL=${stitchUrl}`,
    "Tagstitch - Key=key",
    "Tagstitch - Browser key=browser-key",
    `Tagstitch - Guard secret=${GUARD_SECRET}`,
    "GA4 - Measurement ID=G-STITCHED",
    ...constants,
  ]);
  setTimeouts(document, TIMEOUT_MS);
  change(document.containerVersion);
  /** @type {Array<Record<string, any>>} */
  const log = [];
  const container = new Container(parseContainer(document), {
    ga4Endpoint: ga4Url,
    credentials: { keys: { tagstitch_callback: CALLBACK_KEY } },
    clock,
    log: (entry) => log.push(entry),
  });
  return { container, log };
}

/** A server whose container may come later, because the container wants to know other URLs. */
export async function startServer() {
  /** @type {{current: Container | undefined}} */
  const holder = { current: undefined };
  /** @type {Array<import("../../sgtm/simulator/container/exchange.js").IncomingRequest>} */
  const received = [];
  const late = /** @type {any} */ ({
    log: () => {},
    handle: (/** @type {any} */ request) => {
      received.push(request);
      return /** @type {Container} */ (holder.current).handle(request);
    },
  });
  const server = await serve(late);
  return { ...server, holder, received };
}

/** @param {any} version @param {string} kind @param {string} name */
export function part(version, kind, name) {
  return version[kind].find((/** @type {any} */ each) => each.name === name);
}

/** @param {any} part @param {string} key @param {string} value */
export function setParameter(part, key, value) {
  const found = part.parameter.find((/** @type {any} */ each) => each.key === key);
  if (found) found.value = value;
  else part.parameter.push({ type: "TEMPLATE", key, value });
}

/** In place of the GA4 client and the decide tag. @param {any} version */
export function useDecisionClient(version) {
  const template = version.customTemplate.find((/** @type {any} */ each) =>
    each.name.includes("decision client"),
  );
  version.client = version.client.filter((/** @type {any} */ each) => each.name !== "GA4");
  version.client.push({
    clientId: "902",
    name: "Tagstitch - Decision",
    priority: 5,
    type: `cvt_${template.containerId}_${template.templateId}`,
    parameter: [
      { type: "TEMPLATE", key: "serviceUrl", value: "{{Tagstitch - Decide URL}}" },
      { type: "TEMPLATE", key: "apiKey", value: "{{Tagstitch - Key}}" },
      { type: "TEMPLATE", key: "timeoutMs", value: "4000" },
      { type: "TEMPLATE", key: "guardSecret", value: "{{Tagstitch - Guard secret}}" },
      { type: "TEMPLATE", key: "onFailure", value: "open" },
      { type: "TEMPLATE", key: "allowedOrigins", value: "https://shop.example.com" },
    ],
  });
}

/** What every hit of gtag.js carries. @param {Record<string, string>} parameters */
export function hitQuery(parameters) {
  const common = {
    v: "2",
    tid: "G-TEST123",
    gtm: "45he5641v9184715813za204",
    _p: "1763700000000",
    gcs: "G111",
    gcd: "13r3r3r3r5l1",
    npa: "0",
    dma: "1",
    cid: "1294673677.1747154479",
    ul: "en-us",
    sr: "1728x1117",
    ur: "DE",
    uaa: "arm",
    uamb: "0",
    frm: "0",
    pscdl: "noapi",
    _s: "2",
    sid: "1763700000",
    sct: "3",
    seg: "1",
    dl: "https://shop.example.com/thanks",
    dr: "https://shop.example.com/cart",
    dt: "Thank you",
    _et: "3110",
    tfd: "4880",
  };
  return new URLSearchParams({ ...common, ...parameters }).toString();
}

/** @param {import("node:http").IncomingHttpHeaders | Headers | any} headers */
export const BROWSER = {
  "user-agent": "Mozilla/5.0 (Macintosh)",
  origin: "https://shop.example.com",
};

/** A request for `container.handle`. @param {Partial<import("../../sgtm/simulator/container/exchange.js").IncomingRequest>} given */
export function incoming(given) {
  return {
    method: "GET",
    path: "/g/collect",
    query: "",
    body: "",
    remoteAddress: "203.0.113.7",
    ...given,
    headers: { host: "sgtm.shop.example.com", ...BROWSER, ...given.headers },
  };
}

/** The event names and parameters that GA4 got. @param {{received: Array<{url: URL}>}} ga4 */
export function sentEvents(ga4) {
  return ga4.received.map(({ url }) => Object.fromEntries(url.searchParams));
}
