// @ts-check
/** APIs that read the incoming request. */

import { extractEvents, isMpv2 } from "../container/mpv2.js";

/** @param {import("../runtime.js").Runtime} runtime */
export function requestApis({ copyIn, permissions, exchange, clock }) {
  const request = () => exchange.request;
  const needAll = () => {
    for (const part of /** @type {const} */ ([
      "body",
      "headers",
      "path",
      "query_parameters",
      "remote_address",
    ])) {
      permissions.needRequest(part, "*");
    }
  };
  return {
    getRemoteAddress: () => (permissions.needRequest("remote_address"), request().remoteAddress),
    getRequestBody: () => (permissions.needRequest("body"), request().body || undefined),
    getRequestHeader: (/** @type {string} */ name) => {
      permissions.needRequest("headers", name);
      return request().headers[name.toLowerCase()];
    },
    getRequestMethod: () => request().method,
    getRequestPath: () => (permissions.needRequest("path"), request().path),
    getRequestQueryParameter: (/** @type {string} */ name) => {
      permissions.needRequest("query_parameters", name);
      return queryParameters(request().query)[name];
    },
    getRequestQueryParameters: () => {
      permissions.needRequest("query_parameters", "*");
      return copyIn(queryParameters(request().query));
    },
    getRequestQueryString: () => (
      permissions.needRequest("query_parameters", "*"),
      request().query
    ),
    getCookieValues: (/** @type {string} */ name, /** @type {boolean} */ noDecode = false) => {
      permissions.needCookieRead(name);
      return copyIn(cookieValues(request().headers.cookie ?? "", name, noDecode));
    },
    isRequestMpv2: () => (permissions.needRequest("path"), isMpv2(request())),
    extractEventsFromMpv2: () => (needAll(), copyIn(extractEvents(request(), clock()))),
  };
}

/** The first value of each name wins. @param {string} query @returns {Record<string, string>} */
function queryParameters(query) {
  /** @type {Record<string, string>} */
  const parameters = Object.create(null);
  for (const [name, value] of new URLSearchParams(query)) parameters[name] ??= value;
  return parameters;
}

/** @param {string} header @param {string} name @param {boolean} noDecode @returns {string[]} */
function cookieValues(header, name, noDecode) {
  return header.split(";").flatMap((pair) => {
    const [key, ...rest] = pair.trim().split("=");
    if (key !== name) return [];
    const value = rest.join("=");
    try {
      return [noDecode ? value : decodeURIComponent(value)];
    } catch {
      return [value];
    }
  });
}
