// @ts-check
/** The permissions of a template: what its section says, and what may be done under it. */

/** An API was called without the permission for it; the real sandbox refuses likewise. */
export class PermissionDenied extends Error {}

/**
 * @param {Array<Record<string, any>>} entries the section SERVER_PERMISSIONS
 * @returns {Map<string, Record<string, any>>} permission id → its parameters as plain values
 */
export function parsePermissions(entries) {
  return new Map(
    entries.map((entry) => [
      entry.instance.key.publicId,
      Object.fromEntries(
        (entry.instance.param ?? []).map((/** @type {any} */ param) => [
          param.key,
          plainValue(param.value),
        ]),
      ),
    ]),
  );
}

/**
 * @param {any} value in the format's own types: 1 string, 2 list, 3 map, 8 boolean
 * @returns {any}
 */
function plainValue(value) {
  if (value.type === 1) return value.string;
  if (value.type === 2) return (value.listItem ?? []).map(plainValue);
  if (value.type === 8) return value.boolean;
  if (value.type === 3) {
    const names = value.mapKey.map(plainValue);
    return Object.fromEntries(
      value.mapValue.map((/** @type {any} */ each, /** @type {number} */ i) => [
        names[i],
        plainValue(each),
      ]),
    );
  }
  throw new TypeError(`unknown value type ${value.type}`);
}

/** Says whether one call may be made; every method throws PermissionDenied when not. */
export class Permissions {
  /** @param {Array<Record<string, any>>} entries */
  constructor(entries) {
    this.granted = parsePermissions(entries);
  }

  /**
   * @param {string} id
   * @returns {Record<string, any>} the permission's parameters
   */
  need(id) {
    const parameters = this.granted.get(id);
    if (!parameters) throw new PermissionDenied(`the permission ${id} is missing`);
    return parameters;
  }

  /** @param {string} [path] an event data key; without one, all of them */
  needEventData(path) {
    const { eventDataAccess, keyPatterns = [] } = this.need("read_event_data");
    if (eventDataAccess === "any") return;
    const isListed =
      path !== undefined && keyPatterns.some((/** @type {string} */ p) => matches(p, path));
    if (!isListed)
      throw new PermissionDenied(`read_event_data does not list ${path ?? "all keys"}`);
  }

  /**
   * @param {"body" | "headers" | "path" | "query_parameters" | "remote_address"} part
   * @param {string} [name] of a header or query parameter
   */
  needRequest(part, name) {
    const parameters = this.need("read_request");
    if (parameters.requestAccess === "any") return;
    const listed = {
      body: parameters.bodyAllowed,
      headers: parameters.headersAllowed,
      path: parameters.pathAllowed,
      query_parameters: parameters.queryParametersAllowed,
      remote_address: parameters.remoteAddressAllowed,
    }[part];
    const names = {
      headers: [parameters.headerAccess, parameters.headerWhitelist, "headerName"],
      query_parameters: [
        parameters.queryParameterAccess,
        parameters.queryParameterWhitelist,
        "queryParameter",
      ],
    }[/** @type {string} */ (part)];
    const isAllowed =
      listed &&
      (!names ||
        names[0] === "any" ||
        (names[1] ?? []).some(
          (/** @type {any} */ row) =>
            String(row[names[2]]).toLowerCase() === String(name).toLowerCase(),
        ));
    if (!isAllowed)
      throw new PermissionDenied(`read_request does not allow ${part} ${name ?? ""}`.trim());
  }

  /** @param {string} url */
  needHttp(url) {
    const { allowedUrls, urls = [] } = this.need("send_http");
    const isListed = urls.some((/** @type {string} */ pattern) => matches(pattern, url));
    if (allowedUrls !== "any" && !isListed)
      throw new PermissionDenied("send_http does not list this URL");
  }

  /** @param {string} name */
  needCookieRead(name) {
    const { cookieAccess, cookieNames = [] } = this.need("get_cookies");
    const isListed = cookieNames.some((/** @type {string} */ pattern) => matches(pattern, name));
    if (cookieAccess !== "any" && !isListed)
      throw new PermissionDenied(`get_cookies does not list ${name}`);
  }

  /**
   * @param {string} name
   * @param {Record<string, any>} options
   */
  needCookieWrite(name, options) {
    const rows = this.need("set_cookies").allowedCookies ?? [];
    const isAllowed = rows.some(
      (/** @type {any} */ row) =>
        matches(row.name, name) &&
        matches(row.domain, options.domain ?? "") &&
        matches(row.path, options.path ?? "/") &&
        (row.secure === "any" || (row.secure === "secure") === Boolean(options.secure)) &&
        (row.session === "any" ||
          (row.session === "session") === (options["max-age"] === undefined)),
    );
    if (!isAllowed)
      throw new PermissionDenied(`set_cookies does not allow ${name} with these options`);
  }

  /** @param {"body" | "headers" | "status"} part @param {string} [header] */
  needResponse(part, header) {
    const parameters = this.need("access_response");
    if (parameters.writeResponseAccess === "any") return;
    const listed = {
      body: parameters.writeBodyAllowed,
      headers:
        parameters.writeHeadersAllowed &&
        (parameters.writeHeaderAccess === "any" ||
          (parameters.writeHeaderWhitelist ?? []).some(
            (/** @type {any} */ row) =>
              row.headerName.toLowerCase() === String(header).toLowerCase(),
          )),
      status: parameters.writeStatusAllowed,
    }[part];
    if (!listed)
      throw new PermissionDenied(`access_response does not allow ${part} ${header ?? ""}`.trim());
  }

  /** @param {string} messageType @param {"listen" | "send"} action */
  needMessage(messageType, action) {
    const { allowedActions, messageTypes = [] } = this.need("use_message");
    if (allowedActions === "any") return;
    const isListed = messageTypes.some(
      (/** @type {any} */ row) =>
        matches(row.type, messageType) &&
        (row.action === action || row.action === "listen_and_send"),
    );
    if (!isListed)
      throw new PermissionDenied(`use_message does not allow to ${action} ${messageType}`);
  }

  /** @param {string} keyId */
  needKey(keyId) {
    const { keyIds = [] } = this.need("use_custom_private_keys");
    if (!keyIds.includes(keyId))
      throw new PermissionDenied(`use_custom_private_keys does not list ${keyId}`);
  }
}

/**
 * @param {string} pattern in which `*` stands for any text
 * @param {string} text
 */
function matches(pattern, text) {
  const escaped = pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
  return new RegExp(`^${escaped}$`).test(text);
}
