// The sample shop's page. `sendHit` stands in for gtag.js, which a real page loads from Google with
// `gtag("config", "G-…", {server_container_url: "https://sgtm.example.com"})`; the hits are alike.

import { listenForMessages } from "./messages.js";
import { personalize } from "./personalization.js";

const TEXTS = {
  show_discount_banner: { electronics_10off: "10 % off electronics, for you, today" },
};

/** Texts of `push_message` payloads, by their `code`. @type {Record<string, string>} */
const MESSAGES = { order_thanks: "Thank you: your sticker is being packed" };

const YEAR_S = 365 * 24 * 3600;
const PUSH_URL = new URL("../push", location.href).href;

/** Of this machine alone: a link must not make the page send hits elsewhere. */
const CONTAINER = /^http:\/\/127\.0\.0\.1:\d+$/.test(parameter("container"))
  ? parameter("container")
  : "http://127.0.0.1:8090";

/** The decision client can answer with values; the GA4 client answers with nothing to read. */
const HAS_VALUES = parameter("values") === "json";

/** @type {Record<string, Record<string, string>>} */
const EVENTS = {
  page_view: {},
  login: { uid: "u-1001" },
  view_item: { "ep.item_category": "Electronics", pr1: "idSKU_2~nmHeadphones~caElectronics~pr89" },
  purchase: { "epn.value": "7.5", cu: "EUR", "ep.transaction_id": crypto.randomUUID() },
  personalization_displayed: {},
};

/** @param {string} name @returns {string} */
function parameter(name) {
  return new URLSearchParams(location.search).get(name) ?? "";
}

/** @param {string} name @returns {string} */
function cookie(name) {
  return new RegExp(`(?:^|; )${name}=([^;]*)`).exec(document.cookie)?.[1] ?? "";
}

/** @param {string} name @param {string} value */
function keepCookie(name, value) {
  document.cookie = `${name}=${value}; Path=/; Max-Age=${YEAR_S}; SameSite=Lax`;
}

const isAllowed = () => cookie("consent") === "granted";

/** As Google Analytics names a browser; of one page alone unless its visitor allows more. */
const freshClientId = `${crypto.getRandomValues(new Uint32Array(1))[0]}.${Date.now()}`;

/** @returns {string} */
function clientId() {
  if (!isAllowed()) return freshClientId;
  if (!cookie("shop_client_id")) keepCookie("shop_client_id", freshClientId);
  return cookie("shop_client_id");
}

/** @param {string} name @param {Record<string, string>} parameters */
async function sendHit(name, parameters) {
  const signals = isAllowed()
    ? { gcs: "G111", gcd: "13r3r3r3r5l1" }
    : { gcs: "G100", gcd: "13p3p3p3p5l1" };
  const common = { v: "2", tid: "G-SAMPLE", ...signals, dl: location.origin + location.pathname };
  const query = new URLSearchParams({ ...common, cid: clientId(), en: name, ...parameters });
  const answer = await fetch(`${CONTAINER}/g/collect?${query}`, {
    method: "POST",
    credentials: "include", // else the browser would not keep the cookies of the answer
    keepalive: true,
    mode: HAS_VALUES ? "cors" : "no-cors",
  });
  if (HAS_VALUES) listen((await answer.json()).values.push_token);
}

let stopListening = () => {};

/** @param {string | undefined} token */
function listen(token) {
  if (!token || !isAllowed()) return;
  stopListening();
  stopListening = listenForMessages({ url: PUSH_URL, token, onMessage: showMessage });
}

/** @param {{channel: string, payload: any}} message */
function showMessage({ payload }) {
  if (!Object.hasOwn(MESSAGES, payload.code)) return;
  const place = /** @type {HTMLElement} */ (document.querySelector("#message"));
  place.textContent = MESSAGES[payload.code];
  place.hidden = false;
}

/** What a web container does with the data layer: each event becomes a hit. */
class DataLayer extends Array {
  /** @param {...{event?: string}} entries */
  push(...entries) {
    for (const { event, ...parameters } of entries) {
      const line = document.createElement("li");
      line.textContent = JSON.stringify({ event, ...parameters });
      document.querySelector("#data-layer")?.append(line);
      const named = Object.entries(parameters).map(([key, value]) =>
        typeof value === "number" ? [`epn.${key}`, String(value)] : [`ep.${key}`, String(value)],
      );
      if (event && Object.hasOwn(EVENTS, event))
        sendHit(event, { ...EVENTS[event], ...Object.fromEntries(named) }).catch(console.warn);
    }
    return super.push(...entries);
  }
}

const dataLayer = new DataLayer();
Object.assign(globalThis, { dataLayer });

const look = personalize({ texts: TEXTS, isAllowed, dataLayer });

function showConsent() {
  const place = /** @type {HTMLOutputElement} */ (document.querySelector("#consent"));
  place.value = cookie("consent") || "nothing yet";
}

document.addEventListener("click", ({ target }) => {
  const { consent, event } = target instanceof HTMLElement ? target.dataset : {};
  if (event) dataLayer.push({ event });
  if (!consent) return;
  keepCookie("consent", consent);
  if (!isAllowed()) stopListening();
  showConsent();
  look();
});

showConsent();
dataLayer.push({ event: "page_view" });
