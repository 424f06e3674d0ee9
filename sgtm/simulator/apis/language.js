// @ts-check
/** APIs that only compute: types, JSON, Object, Math, text, URLs, time. */

/** @param {import("../runtime.js").Runtime} runtime */
export function languageApis({ copyIn, clock, report }) {
  return {
    callLater: (/** @type {() => void} */ callback) => {
      setImmediate(() => report.run(callback)); // a macrotask: every promise that can, settles before
    },
    createRegex: (/** @type {string} */ pattern, /** @type {string} */ flags = "") =>
      createRegex(pattern, flags),
    testRegex: (/** @type {RegExp} */ regex, /** @type {string} */ text) => regex.test(text),
    decodeUri: (/** @type {string} */ text) => decoded(decodeURI, text),
    decodeUriComponent: (/** @type {string} */ text) => decoded(decodeURIComponent, text),
    encodeUri: encodeURI,
    encodeUriComponent: encodeURIComponent,
    fromBase64: (/** @type {string} */ text) => Buffer.from(text, "base64").toString("utf8"),
    toBase64: (/** @type {string} */ text) => Buffer.from(text, "utf8").toString("base64"),
    generateRandom: (/** @type {number} */ low, /** @type {number} */ high) =>
      low + Math.floor(Math.random() * (high - low + 1)),
    getTimestamp: () => Math.floor(clock() / 1000),
    getTimestampMillis: clock,
    getType,
    JSON: {
      parse: (/** @type {string} */ text) => {
        try {
          return copyIn(JSON.parse(text));
        } catch {
          return undefined;
        }
      },
      stringify: (/** @type {any} */ value) => JSON.stringify(value),
    },
    makeInteger: (/** @type {any} */ value) => Number.parseInt(value, 10),
    makeNumber: (/** @type {any} */ value) => Number(value),
    makeString: (/** @type {any} */ value) => String(value),
    makeTableMap: (
      /** @type {any[]} */ table,
      /** @type {string} */ key,
      /** @type {string} */ value,
    ) => (table ? copyIn(Object.fromEntries(table.map((row) => [row[key], row[value]]))) : null),
    Math: pick(Math, ["abs", "ceil", "floor", "max", "min", "pow", "round", "sqrt"]),
    Object: {
      keys: (/** @type {object} */ value) => copyIn(Object.keys(value)),
      values: (/** @type {object} */ value) => copyIn(Object.values(value)),
      entries: (/** @type {object} */ value) => copyIn(Object.entries(value)),
      freeze: Object.freeze,
      delete: (/** @type {any} */ value, /** @type {string} */ key) => delete value[key],
    },
    parseUrl: (/** @type {string} */ text) => copyIn(parseUrl(text)),
    computeEffectiveTldPlusOne: effectiveTldPlusOne,
  };
}

/** @param {any} source @param {string[]} names */
function pick(source, names) {
  return Object.fromEntries(names.map((name) => [name, source[name]]));
}

/** @param {any} value @returns {string} */
function getType(value) {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}

/** @param {string} pattern @param {string} flags @returns {RegExp | null} */
function createRegex(pattern, flags) {
  try {
    return new RegExp(pattern, flags);
  } catch {
    return null;
  }
}

/** @param {(text: string) => string} decode @param {string} text */
function decoded(decode, text) {
  try {
    return decode(text);
  } catch {
    return undefined;
  }
}

/** @param {string} text */
function parseUrl(text) {
  try {
    const url = new URL(text);
    const { href, origin, protocol, username, password, hostname, port, pathname, search, hash } =
      url;
    const searchParams = Object.fromEntries(url.searchParams);
    return {
      href,
      origin,
      protocol,
      username,
      password,
      hostname,
      port,
      pathname,
      search,
      searchParams,
      hash,
    };
  } catch {
    return undefined;
  }
}

/**
 * The domain under which a cookie with `domain: 'auto'` is set.
 *
 * Without the public suffix list: two labels, or three below a short second level ("co.uk").
 *
 * @param {string} text a host or a URL
 */
export function effectiveTldPlusOne(text) {
  const host = parseUrl(text)?.hostname ?? text.split(":")[0];
  if (/^[\d.]+$/.test(host)) return host;
  const labels = host.split(".");
  const hasSecondLevel =
    labels.length > 2 && /^(ac|co|com|gov|net|org)$/.test(labels[labels.length - 2]);
  return labels.slice(hasSecondLevel ? -3 : -2).join(".");
}
