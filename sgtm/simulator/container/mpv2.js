// @ts-check
/** GA4's protocol: a collect request becomes event data, and event data becomes a request. */

const PATHS = /^\/g\/collect$/;

/** Request parameter → event data key. @type {Record<string, string>} */
const KEYS = {
  v: "x-ga-protocol_version",
  tid: "x-ga-measurement_id",
  gtm: "x-ga-gtm_version",
  _p: "x-ga-page_id",
  _s: "x-ga-request_count",
  gcs: "x-ga-gcs",
  gcd: "x-ga-gcd",
  gcu: "x-ga-gcu",
  cid: "client_id",
  uid: "user_id",
  ul: "language",
  sr: "screen_resolution",
  sid: "ga_session_id",
  sct: "ga_session_number",
  _et: "engagement_time_msec",
  dl: "page_location",
  dr: "page_referrer",
  dt: "page_title",
  en: "event_name",
  cu: "currency",
};
const NUMBERS = new Set(["_p", "sct", "_et"]);

/** Field of an item in `pr1`, two letters and the value, joined by `~`. @type {Record<string, string>} */
const ITEM_KEYS = {
  id: "item_id",
  nm: "item_name",
  af: "affiliation",
  br: "item_brand",
  ca: "item_category",
  c2: "item_category2",
  c3: "item_category3",
  c4: "item_category4",
  c5: "item_category5",
  cp: "coupon",
  ds: "discount",
  li: "item_list_id",
  ln: "item_list_name",
  lo: "location_id",
  lp: "index",
  pr: "price",
  qt: "quantity",
  va: "item_variant",
};
const ITEM_NUMBERS = new Set(["ds", "lp", "pr", "qt"]);

/** @param {import("./exchange.js").IncomingRequest} request */
export function isMpv2(request) {
  return PATHS.test(request.path) && new URLSearchParams(request.query).get("v") === "2";
}

/**
 * @param {import("./exchange.js").IncomingRequest} request
 * @param {number} now in milliseconds
 * @returns {Array<Record<string, any>>} one event for each line of the body, else one of the query
 */
export function extractEvents(request, now) {
  const lines = request.body
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
  return (lines.length ? lines : [""]).map((line) => {
    /** @type {Record<string, any>} */
    const event = {};
    for (const [name, value] of new URLSearchParams(request.query))
      readParameter(event, name, value);
    for (const [name, value] of new URLSearchParams(line)) readParameter(event, name, value);
    return { ...event, ...ofTheRequest(event, request, now) };
  });
}

/** @param {Record<string, any>} event @param {string} name @param {string} value */
function readParameter(event, name, value) {
  const [kind, ...rest] = name.split(".");
  const key = rest.join(".");
  if (kind === "ep" && key) event[key] = value;
  else if (kind === "epn" && key) event[key] = Number(value);
  else if (kind === "up" && key) inside(event, "x-ga-mp2-user_properties")[key] = value;
  else if (kind === "upn" && key) inside(event, "x-ga-mp2-user_properties")[key] = Number(value);
  else if (kind === "sst" && key) inside(event, "x-sst-system_properties")[key] = value;
  else if (/^pr\d+$/.test(name)) (event.items ??= []).push(readItem(value));
  else if (Object.hasOwn(KEYS, name)) event[KEYS[name]] = NUMBERS.has(name) ? Number(value) : value;
  else event[`x-ga-mp2-${name}`] = value;
}

/** @param {Record<string, any>} event @param {string} key @returns {Record<string, any>} */
function inside(event, key) {
  if (typeof event[key] !== "object") event[key] = {};
  return event[key];
}

/** @param {string} text */
function readItem(text) {
  /** @type {Record<string, any>} */
  const item = {};
  const fields = text.split("~");
  for (let i = 0; i < fields.length; i += 1) {
    const [code, value] = [fields[i].slice(0, 2), fields[i].slice(2)];
    if (/^k\d$/.test(code))
      item[value] = fields[(i += 1)]?.slice(2); // a parameter of one's own: k0name~v0value
    else item[ITEM_KEYS[code] ?? code] = ITEM_NUMBERS.has(code) ? Number(value) : value;
  }
  return item;
}

/** @param {Record<string, any>} event @param {import("./exchange.js").IncomingRequest} request @param {number} now */
function ofTheRequest(event, request, now) {
  const consent = consentGranted(event["x-ga-gcs"]);
  return {
    ip_override: request.remoteAddress,
    user_agent: request.headers["user-agent"] ?? "",
    "x-sst-system_properties": {
      ...event["x-sst-system_properties"],
      request_start_time_ms: now,
      ...(consent && { consent: { consentGrantedState: consent } }),
    },
  };
}

/** `G1`, a digit for ads, a digit for analytics; the other purposes stand in `gcd` alone. @param {unknown} signal */
function consentGranted(signal) {
  const found = /^G1([01])([01])$/.exec(String(signal ?? ""));
  return found && { ad_storage: found[1] === "1", analytics_storage: found[2] === "1" };
}

/**
 * What a GA4 tag sends of an event.
 *
 * Everything but Google's own keys leaves, whatever it is called: the real tag may send less.
 *
 * @param {Record<string, any>} event
 * @param {string} measurementId
 * @returns {string} the query
 */
export function encodeEvent(event, measurementId) {
  const codes = new Map(Object.entries(KEYS).map(([code, key]) => [key, code]));
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries({ ...event, "x-ga-measurement_id": measurementId })) {
    const code = codes.get(key);
    if (code) query.set(code, String(value));
    else if (key === "items" && Array.isArray(value)) {
      value.forEach((item, i) => query.set(`pr${i + 1}`, itemText(item)));
    } else if (key.startsWith("x-ga-") || key.startsWith("x-sst-")) continue;
    else if (typeof value === "number") query.set(`epn.${key}`, String(value));
    else query.set(`ep.${key}`, typeof value === "object" ? JSON.stringify(value) : String(value));
  }
  return query.toString();
}

/** @param {Record<string, any>} item @returns {string} the parameter of a `pr1` */
function itemText(item) {
  const codes = new Map(Object.entries(ITEM_KEYS).map(([code, key]) => [key, code]));
  let own = 0;
  return Object.entries(item)
    .map(([key, value]) => {
      const code = codes.get(key);
      if (code) return `${code}${value}`;
      own += 1;
      return `k${own - 1}${key}~v${own - 1}${value}`;
    })
    .join("~");
}
