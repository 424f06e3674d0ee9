// What the middleware does, without a framework: cookies and one question in, cookies out.
// Plain JavaScript with types in comments (tsc checks them), so that Node runs its tests as it is.

export const ID_COOKIE = "anonymous_id";
export const FEATURES_COOKIE = "personalization";

/** A year; browsers keep no cookie longer than 400 days. */
const ID_MAX_AGE_S = 365 * 24 * 60 * 60;

/** Half an hour, the usual length of a session: what is known by then may have changed. */
const FEATURES_MAX_AGE_S = 30 * 60;

/** Browsers drop what is larger without a word: https://www.rfc-editor.org/rfc/rfc6265#section-6.1 */
const COOKIE_BYTES_MAX = 4096;

/** Share of the time that Tagstitch may take itself; the way there and back takes the rest. */
const DEADLINE_SHARE = 0.8;

const TIMEOUT_MS_DEFAULT = 150;
const TIMEOUT_MS_MAX = 1000;
const VIEW_DEFAULT = "features_by_anonymous_id";

const USABLE_ID = /^[A-Za-z0-9_-]{8,64}$/;

/**
 * @typedef {object} Settings
 * @property {string} url of stitch_sync, without a path of its own
 * @property {string} key the secret of a key with the scope `lookup`, limited to the view
 * @property {string} view
 * @property {number} timeoutMs how long a page may wait
 * @property {string | undefined} consentCookie the cookie that must say `granted`, if any
 * @property {boolean} isSecure whether cookies are for HTTPS only
 *
 * @typedef {object} Outcome
 * @property {string} requestCookies the Cookie header with which the request goes on
 * @property {string[]} setCookies the response's Set-Cookie headers
 *
 * @typedef {object} World
 * @property {typeof fetch} ask
 * @property {() => string} newId
 * @property {(message: string) => void} warn
 */

/** @type {World} */
const REAL_WORLD = {
  ask: (url, options) => fetch(url, options),
  newId: () => crypto.randomUUID(),
  warn: (message) => console.warn(message),
};

/**
 * Return the settings, or null where the URL or the key is missing: then every request passes.
 *
 * @typedef {"url" | "key" | "view" | "timeoutMs" | "consentCookie" | "nodeEnv"} SettingName
 * @param {Record<SettingName, string | undefined>} raw
 * @returns {Settings | null}
 */
export function settingsOf(raw) {
  if (!raw.url || !raw.key) return null;
  const timeoutMs = Number(raw.timeoutMs || TIMEOUT_MS_DEFAULT);
  return {
    url: raw.url.replace(/\/+$/, ""),
    key: raw.key,
    view: raw.view || VIEW_DEFAULT,
    timeoutMs: timeoutMs > 0 ? Math.min(timeoutMs, TIMEOUT_MS_MAX) : TIMEOUT_MS_DEFAULT,
    consentCookie: raw.consentCookie || undefined,
    isSecure: raw.nodeEnv !== "development", // not by the host's name: a proxy may hide it
  };
}

/**
 * Return the cookies with which a visit goes on. Never throws, and never waits longer than the
 * settings say: a page matters more than its banner.
 *
 * @param {string} cookies the request's Cookie header
 * @param {Settings | null} settings
 * @param {World} world
 * @returns {Promise<Outcome>}
 */
export async function personalize(cookies, settings, world = REAL_WORLD) {
  if (!settings) return { requestCookies: cookies, setCookies: [] };
  const jar = new CookieJar(cookies, settings.isSecure);
  try {
    await fill(jar, settings, world);
  } catch (error) {
    // The name alone: a message could hold the URL. The browser keeps the cookie that it has.
    world.warn(`personalization skipped: ${error instanceof Error ? error.name : "unknown"}`);
  }
  return { requestCookies: jar.requestCookies, setCookies: jar.setCookies };
}

/**
 * @param {CookieJar} jar
 * @param {Settings} settings
 * @param {World} world
 */
async function fill(jar, settings, world) {
  if (settings.consentCookie && jar.get(settings.consentCookie) !== "granted") {
    jar.remove(ID_COOKIE, { httpOnly: true });
    jar.remove(FEATURES_COOKIE);
    return;
  }
  const id = jar.get(ID_COOKIE);
  if (id === undefined || !USABLE_ID.test(id)) {
    jar.set(ID_COOKIE, world.newId(), { maxAge: ID_MAX_AGE_S, httpOnly: true });
    jar.remove(FEATURES_COOKIE); // somebody else's
    return; // a new identifier is known to nobody: there is nothing to ask
  }
  const features = await featuresOf(id, settings, world);
  if (features === null) {
    jar.remove(FEATURES_COOKIE);
  } else {
    jar.set(FEATURES_COOKIE, encodeFeatures(features), { maxAge: FEATURES_MAX_AGE_S });
  }
}

/**
 * Return what is known, or null for nobody (unknown, blocked or without consent).
 *
 * @param {string} id
 * @param {Settings} settings
 * @param {World} world
 * @returns {Promise<Record<string, unknown> | null>}
 */
async function featuresOf(id, settings, world) {
  const response = await world.ask(`${settings.url}/activation`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-tagstitch-key": settings.key },
    body: JSON.stringify({
      entity: "user",
      id: { type: "anonymous_id", value: id },
      view: settings.view,
      public: true, // the page's scripts can read the cookie: a view that is not public is refused
      deadline_ms: Math.round(settings.timeoutMs * DEADLINE_SHARE),
      ...(settings.consentCookie ? { consent: { analytics_storage: true } } : {}),
    }),
    signal: AbortSignal.timeout(settings.timeoutMs),
    redirect: "manual", // a redirect would take the key to another host
  });
  if (response.status !== 200) throw new BadAnswer();
  const answer = await response.json();
  const features = answer?.data?.[settings.view];
  if (answer?.reason === "ERROR" || typeof features !== "object" || features === null) {
    throw new BadAnswer();
  }
  return answer.found === true ? features : null;
}

class BadAnswer extends Error {
  name = "BadAnswer";
}

/**
 * Return features as a cookie's value: JSON, percent-encoded, because JSON's quotes, commas and
 * blanks have no place in a cookie. `decodeFeatures` reads it, in the page too.
 *
 * @param {Record<string, unknown>} features
 */
export function encodeFeatures(features) {
  return encodeURIComponent(JSON.stringify(features));
}

/**
 * Return the features of a cookie's value, or null for what is not one. Only a hint for what to
 * show: a visitor can write anything into a cookie, so no price and no right may hang on it.
 *
 * @param {string | undefined} value
 * @returns {Record<string, unknown> | null}
 */
export function decodeFeatures(value) {
  try {
    const features = JSON.parse(decodeURIComponent(value ?? ""));
    return typeof features === "object" && !Array.isArray(features) ? features : null;
  } catch {
    return null;
  }
}

class CookieTooLarge extends Error {
  name = "CookieTooLarge";
}

/** The cookies of one visit: what the browser sent, and what it is told to change. */
class CookieJar {
  /**
   * @param {string} cookies
   * @param {boolean} isSecure
   */
  constructor(cookies, isSecure) {
    /** @type {[string, string][]} */
    this.pairs = cookies.split(";").flatMap((part) => {
      const at = part.indexOf("=");
      return at < 1 ? [] : [[part.slice(0, at).trim(), part.slice(at + 1).trim()]];
    });
    this.isSecure = isSecure;
    /** @type {string[]} */
    this.setCookies = [];
  }

  get requestCookies() {
    return this.pairs.map(([name, value]) => `${name}=${value}`).join("; ");
  }

  /** @param {string} wanted */
  get(wanted) {
    return this.pairs.find(([name]) => name === wanted)?.[1];
  }

  /**
   * @param {string} name
   * @param {string} value
   * @param {{ maxAge: number, httpOnly?: boolean }} options
   */
  set(name, value, { maxAge, httpOnly = false }) {
    const line = this.#line(name, value, maxAge, httpOnly);
    if (line.length > COOKIE_BYTES_MAX) {
      this.remove(name, { httpOnly });
      throw new CookieTooLarge();
    }
    this.pairs = [...this.pairs.filter(([other]) => other !== name), [name, value]];
    this.setCookies.push(line);
  }

  /**
   * @param {string} name
   * @param {{ httpOnly?: boolean }} options
   */
  remove(name, { httpOnly = false } = {}) {
    if (this.get(name) === undefined) return;
    this.pairs = this.pairs.filter(([other]) => other !== name);
    this.setCookies.push(this.#line(name, "", 0, httpOnly));
  }

  /**
   * @param {string} name
   * @param {string} value
   * @param {number} maxAge seconds
   * @param {boolean} httpOnly
   */
  #line(name, value, maxAge, httpOnly) {
    const flags = (this.isSecure ? "; Secure" : "") + (httpOnly ? "; HttpOnly" : "");
    return `${name}=${value}; Path=/; Max-Age=${maxAge}; SameSite=Lax${flags}`;
  }
}
