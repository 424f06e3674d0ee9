// @ts-check
/** Each API of the server sandbox: the permission it needs and the template types that have it. */

/**
 * `part` is what an API reads of the request; one that needs `read_request` and names none reads all.
 *
 * @typedef {{permission?: string, types?: string[], part?: string}} ApiEntry
 */

const IN_EVENT = ["TAG", "MACRO"];
const IN_CLIENT = ["CLIENT"];
const RUNNERS = ["CLIENT", "TAG"];

/** @type {Record<string, ApiEntry>} */
export const API_CATALOGUE = {
  addMessageListener: { permission: "use_message", types: RUNNERS },
  callLater: {},
  claimRequest: { types: IN_CLIENT },
  computeEffectiveTldPlusOne: {},
  createRegex: {},
  decodeUri: {},
  decodeUriComponent: {},
  encodeUri: {},
  encodeUriComponent: {},
  extractEventsFromMpv2: { permission: "read_request", types: IN_CLIENT },
  fromBase64: {},
  generateRandom: {},
  getAllEventData: { permission: "read_event_data", types: IN_EVENT },
  getClientName: { permission: "read_container_data", types: IN_EVENT },
  getContainerVersion: { permission: "read_container_data" },
  getCookieValues: { permission: "get_cookies" },
  getEventData: { permission: "read_event_data", types: IN_EVENT },
  getRemoteAddress: { permission: "read_request", part: "remoteAddress" },
  getRequestBody: { permission: "read_request", part: "body" },
  getRequestHeader: { permission: "read_request", part: "headers" },
  getRequestMethod: {},
  getRequestPath: { permission: "read_request", part: "path" },
  getRequestQueryParameter: { permission: "read_request", part: "queryParameters" },
  getRequestQueryParameters: { permission: "read_request", part: "queryParameters" },
  getRequestQueryString: { permission: "read_request", part: "queryParameters" },
  getTimestamp: {},
  getTimestampMillis: {},
  getType: {},
  hasMessageListener: { permission: "use_message" },
  hmacSha256: { permission: "use_custom_private_keys" },
  isRequestMpv2: { permission: "read_request", types: IN_CLIENT },
  JSON: {},
  logToConsole: { permission: "logging" },
  makeInteger: {},
  makeNumber: {},
  makeString: {},
  makeTableMap: {},
  Math: {},
  Object: {},
  parseUrl: {},
  Promise: {},
  returnResponse: { permission: "return_response", types: IN_CLIENT },
  runContainer: { permission: "run_container", types: RUNNERS },
  sendHttpGet: { permission: "send_http" },
  sendHttpRequest: { permission: "send_http" },
  sendMessage: { permission: "use_message" },
  setCookie: { permission: "set_cookies", types: RUNNERS },
  setPixelResponse: { permission: "access_response", types: RUNNERS },
  setResponseBody: { permission: "access_response", types: RUNNERS },
  setResponseHeader: { permission: "access_response", types: RUNNERS },
  setResponseStatus: { permission: "access_response", types: RUNNERS },
  sha256: {},
  sha256Sync: {},
  templateDataStorage: { permission: "access_template_storage" },
  testRegex: {},
  toBase64: {},
};

/** Printed here and there, and not an API of the server sandbox. @type {Record<string, string>} */
export const NOT_AN_API = {
  setInEventData:
    "a tag cannot change event data for other tags: use runContainer with a new event",
  deleteFromEventData:
    "a tag cannot change event data for other tags: use runContainer with a new event",
  log: "use logToConsole",
  Date: "use getTimestampMillis",
  fetch: "use sendHttpRequest",
};
