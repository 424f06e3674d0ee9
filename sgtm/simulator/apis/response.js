// @ts-check
/** APIs that write the response; it leaves when the client calls returnResponse. */

import { effectiveTldPlusOne } from "./language.js";

const PIXEL = Buffer.from("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7", "base64");

/** @param {import("../runtime.js").Runtime} runtime */
export function responseApis({ permissions, exchange, copyOut }) {
  return {
    returnResponse: () => (permissions.need("return_response"), exchange.returnResponse()),
    setResponseStatus: (/** @type {number} */ status) => {
      permissions.needResponse("status");
      exchange.response.setStatus(status);
    },
    setResponseBody: (
      /** @type {string} */ body,
      /** @type {BufferEncoding} */ encoding = "utf8",
    ) => {
      permissions.needResponse("body");
      exchange.response.setBody(Buffer.from(body, encoding));
    },
    setResponseHeader: (/** @type {string} */ name, /** @type {string} */ value) => {
      permissions.needResponse("headers", name);
      exchange.response.setHeader(name, value);
    },
    setPixelResponse: () => {
      permissions.needResponse("body");
      exchange.response.setHeader("content-type", "image/gif");
      exchange.response.setHeader("cache-control", "no-cache, no-store, must-revalidate");
      exchange.response.setBody(PIXEL);
      exchange.response.setStatus(200);
    },
    setCookie: (
      /** @type {string} */ name,
      /** @type {string} */ value,
      /** @type {any} */ options = {},
      /** @type {boolean} */ noEncode = false,
    ) => {
      const wanted = copyOut(options);
      permissions.needCookieWrite(name, wanted);
      const host = exchange.request.headers.host ?? "localhost";
      const text = noEncode ? value : encodeURIComponent(value);
      exchange.response.addCookie(cookieText(name, text, wanted, host));
    },
  };
}

/**
 * @param {string} name
 * @param {string} value
 * @param {Record<string, any>} options
 * @param {string} host
 */
function cookieText(name, value, options, host) {
  const domain = options.domain === "auto" ? effectiveTldPlusOne(host) : options.domain;
  return [
    `${name}=${value}`,
    domain && `Domain=${domain}`,
    options.path && `Path=${options.path}`,
    options["max-age"] !== undefined && `Max-Age=${options["max-age"]}`,
    options.sameSite && `SameSite=${options.sameSite}`,
    options.secure && "Secure",
    options.httpOnly && "HttpOnly",
  ]
    .filter(Boolean)
    .join("; ");
}
