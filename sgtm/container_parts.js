// @ts-check
/** The parts of the container export: what is wired to what. */

const text = (/** @type {string} */ key, /** @type {string} */ value) => ({
  type: "TEMPLATE",
  key,
  value,
});
const flag = (/** @type {string} */ key, /** @type {boolean} */ value) => ({
  type: "BOOLEAN",
  key,
  value: String(value),
});
const map = (/** @type {Record<string, string>} */ fields) => ({
  type: "MAP",
  map: Object.entries(fields).map(([key, value]) => text(key, value)),
});
const table = (/** @type {string} */ key, /** @type {Array<Record<string, string>>} */ rows) => ({
  type: "LIST",
  key,
  list: rows.map(map),
});
const tagList = (/** @type {string} */ key, /** @type {string[]} */ names) => ({
  type: "LIST",
  key,
  list: names.map((value) => ({
    type: "MAP",
    map: [{ type: "TAG_REFERENCE", key: "tagReference", value }],
  })),
});
const compare = (
  /** @type {string} */ type,
  /** @type {string} */ left,
  /** @type {string} */ right,
) => ({
  type,
  parameter: [text("arg0", left), text("arg1", right)],
});
/** @param {ReturnType<typeof compare>} condition */
const not = ({ type, parameter }) => ({
  type,
  parameter: [...parameter, { type: "BOOLEAN", key: "negate", value: "true" }],
});
const constant = (
  /** @type {string} */ name,
  /** @type {string} */ value,
  /** @type {string} */ notes,
) => ({
  name,
  type: "c",
  parameter: [text("value", value)],
  notes,
});
const eventData = (/** @type {string} */ name, /** @type {string} */ keyPath) => ({
  name,
  type: "ed",
  parameter: [flag("setDefaultValue", false), text("keyPath", keyPath)],
});

const anyEvent = [compare("MATCH_REGEX", "{{_event}}", ".*")];
const isDecided = compare("EQUALS", "{{Tagstitch - Decided}}", "true");
/** Events of the stitch clients are no hits: they go to the tags that ask for their client alone. */
const isHit = not(compare("STARTS_WITH", "{{Client Name}}", "Tagstitch - Stitch"));
/** The client's name is the proof: an import or a second client adds to it, and a browser has no say. */
const isCallback = compare("STARTS_WITH", "{{Client Name}}", "Tagstitch - Stitch callback");
const isNotSentAgain = compare("MATCH_REGEX", "{{Event - x-ga-gcu}}", "^(undefined|null|)$");
const decide = [
  text("serviceUrl", "{{Tagstitch - Decide URL}}"),
  text("apiKey", "{{Tagstitch - Key}}"),
  text("timeoutMs", "500"),
];
const stitch = [
  text("serviceUrl", "{{Tagstitch - Stitch URL}}"),
  text("apiKey", "{{Tagstitch - Key}}"),
  text("timeoutMs", "500"),
];

export const VARIABLES = [
  constant(
    "Tagstitch - Decide URL",
    "https://decide-REPLACE.a.run.app/decide",
    "The function decide, with /decide.",
  ),
  constant(
    "Tagstitch - Stitch URL",
    "https://stitch-sync-REPLACE.a.run.app",
    "The function stitch_sync.",
  ),
  constant(
    "Tagstitch - Key",
    "REPLACE with the secret of a key",
    "One of TAGSTITCH_KEYS: scopes decide, lookup, stitch.",
  ),
  constant(
    "Tagstitch - Browser key",
    "REPLACE with the secret of a key",
    "One of TAGSTITCH_KEYS: scope lookup, one view.",
  ),
  constant(
    "Tagstitch - Guard secret",
    "REPLACE with 24 or more random characters",
    "Marks decided events. Until it is replaced no event leaves.",
  ),
  constant(
    "Tagstitch - Switch",
    "on",
    "off: every event leaves as it came, nothing is decided or stitched.",
  ),
  constant(
    "GA4 - Measurement ID",
    "G-REPLACE",
    "For the event after a stitch alone: hits bring their own.",
  ),
  eventData("Event - client_id", "client_id"),
  eventData("Event - user_id", "user_id"),
  eventData("Event - x-ga-gcu", "x-ga-gcu"),
  {
    name: "Tagstitch - Decided",
    template: "decided-event-variable",
    parameter: [
      text("guardSecret", "{{Tagstitch - Guard secret}}"),
      text("power", "{{Tagstitch - Switch}}"),
    ],
  },
  {
    name: "Tagstitch - Loyalty tier",
    template: "visitor-profile-variable",
    parameter: [
      ...stitch,
      table("identifiers", [{ type: "client_id", value: "{{Event - client_id}}" }]),
      text("view", ""),
      text("attribute", "user_loyalty_tier"),
      text("fallback", "unknown"),
      text("cacheSeconds", "60"),
    ],
  },
];

export const TRIGGERS = [
  {
    name: "Events that are not decided",
    type: "CUSTOM_EVENT",
    customEventFilter: anyEvent,
    filter: [isHit, compare("EQUALS", "{{Tagstitch - Decided}}", "false")],
  },
  {
    name: "Decided events",
    type: "CUSTOM_EVENT",
    customEventFilter: anyEvent,
    filter: [isHit, isDecided],
  },
  {
    name: "Decided events, not sent again after consent",
    type: "CUSTOM_EVENT",
    customEventFilter: anyEvent,
    filter: [isHit, isDecided, isNotSentAgain],
  },
  {
    name: "Decided logins",
    type: "CUSTOM_EVENT",
    customEventFilter: [compare("EQUALS", "{{_event}}", "login")],
    filter: [isHit, isDecided, isNotSentAgain],
  },
  {
    name: "Tagstitch is switched off",
    type: "CUSTOM_EVENT",
    customEventFilter: anyEvent,
    filter: [compare("EQUALS", "{{Tagstitch - Switch}}", "off")],
    notes: "The exception of Tagstitch's own tags: every event counts as decided then.",
  },
  {
    name: "Visitor stitched",
    type: "CUSTOM_EVENT",
    customEventFilter: [compare("EQUALS", "{{_event}}", "visitor_stitched")],
    filter: [isCallback],
    notes: "The client's name is the proof: a browser can send an event of this name too.",
  },
];

export const TAGS = [
  {
    name: "Tagstitch - Decide and re-run",
    template: "decide-tag",
    trigger: "Events that are not decided",
    parameter: [
      ...decide,
      text("guardSecret", "{{Tagstitch - Guard secret}}"),
      text("onFailure", "open"),
      text("forwardedParameters", ""),
      flag("personalization", true),
    ],
  },
  {
    name: "GA4 - Decided events",
    type: "sgtmgaaw",
    trigger: "Decided events",
    parameter: [
      flag("redactVisitorIp", false),
      text("epToIncludeDropdown", "all"),
      text("upToIncludeDropdown", "all"),
    ],
  },
  {
    name: "Tagstitch - Personalize",
    template: "personalize-tag",
    trigger: "Decided events, not sent again after consent",
    exception: "Tagstitch is switched off",
    parameter: [
      text("source", "decision"),
      text("cookieNames", "show_*"),
      flag("httpOnly", false),
      text("purpose", "ad_personalization"),
    ],
  },
  {
    name: "Tagstitch - Start stitching",
    template: "start-stitching-tag",
    trigger: "Decided logins",
    exception: "Tagstitch is switched off",
    parameter: [
      ...stitch,
      table("identifiers", [
        { type: "client_id", value: "{{Event - client_id}}" },
        { type: "user_id", value: "{{Event - user_id}}" },
      ]),
      text("callback", "main"),
      text("view", ""),
      table("context", [
        { key: "client_id", value: "{{Event - client_id}}" },
        { key: "user_id", value: "{{Event - user_id}}" },
      ]),
      flag("includeEvent", false),
    ],
  },
  {
    name: "GA4 - Visitor stitched",
    type: "sgtmgaaw",
    trigger: "Visitor stitched",
    paused: true,
    parameter: [
      text("measurementId", "{{GA4 - Measurement ID}}"),
      flag("redactVisitorIp", false),
      text("epToIncludeDropdown", "all"),
      text("upToIncludeDropdown", "all"),
    ],
    notes: "An example of what may happen after a stitch.",
  },
];

export const CLIENTS = [
  {
    name: "GA4",
    type: "gaaw_client",
    priority: 0,
    parameter: [flag("activateDefaultPaths", true), text("cookieManagement", "js")],
  },
  {
    name: "Tagstitch - Stitcher",
    template: "stitcher-client",
    priority: 10,
    parameter: [
      text("path", "/stitch"),
      text("serviceUrl", "{{Tagstitch - Stitch URL}}"),
      text("apiKey", "{{Tagstitch - Browser key}}"),
      text("timeoutMs", "500"),
      text("callers", "browsers"),
      text("mode", "sync"),
      flag("runsContainer", false),
      text("view", "features_by_anonymous_id"),
      text("cookieName", "anonymous_id"),
      text("cookieType", "anonymous_id"),
      text("allowedOrigins", ""),
      text("consentCookie", "consent"),
      text("consentValue", "granted"),
    ],
  },
  {
    name: "Tagstitch - Stitch callback",
    template: "stitch-callback-client",
    priority: 10,
    parameter: [text("path", "/stitched"), text("scheme", "standard"), flag("isRotating", false)],
  },
];

export const TRANSFORMATIONS = [
  {
    name: "Tagstitch - The mark stays inside",
    type: "tf_exclude_params",
    parameter: [
      table("excludedParamsTable", [{ excludedParams: "x-tagstitch" }]),
      flag("matchingConditionsEnabled", false),
      flag("allTagsExcept", true),
      tagList("affectedTags", ["Tagstitch - Decide and re-run", "Tagstitch - Personalize"]),
      table("affectedTagTypes", []),
    ],
    notes: "Every tag but these two gets the event without the mark of a decision.",
  },
];
