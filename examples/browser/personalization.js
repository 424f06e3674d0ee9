// Shows what the Personalize tag decided: it sets cookies whose values are codes, and this page has
// the texts. Nothing of a cookie is ever put into the page, so that a cookie that somebody else has
// written can choose one of the shop's own texts and do nothing more.

/**
 * @typedef {Record<string, Record<string, string>>} Texts cookie name → code → text
 *
 * @typedef {object} Options
 * @property {Texts} texts
 * @property {() => boolean} isAllowed whether the visitor allows personalization, asked each time
 * @property {Document} [page]
 * @property {object[]} [dataLayer]
 */

/**
 * Show the text of each cookie in `<element data-personalization="COOKIE" hidden>`, now and
 * whenever a cookie changes; tell the data layer once of each that is shown.
 *
 * @param {Options} options
 * @returns {() => void} looks again: to be called when consent changes
 */
export function personalize({ texts, isAllowed, page = document, dataLayer = ownDataLayer() }) {
  /** @type {Set<string>} */
  const told = new Set();
  const look = () => {
    const cookies = isAllowed() ? cookiesOf(page.cookie) : new Map();
    for (const name of Object.keys(texts)) {
      const code = cookies.get(name) ?? "";
      const text = Object.hasOwn(texts[name], code) ? texts[name][code] : undefined;
      const isShown = put(page, name, text);
      if (!isShown || told.has(`${name}=${code}`)) continue;
      told.add(`${name}=${code}`);
      dataLayer.push({
        event: "personalization_displayed",
        personalization_name: name,
        personalization_code: code,
      });
    }
  };
  look();
  // The tag's cookie comes with the answer to a hit, of which gtag.js tells nobody. Browsers without
  // a cookie store look when the page is seen again; until then the next page shows it.
  globalThis.cookieStore?.addEventListener("change", look);
  page.addEventListener("visibilitychange", look);
  return look;
}

/** @returns {object[]} */
function ownDataLayer() {
  const holder = /** @type {{dataLayer?: object[]}} */ (globalThis);
  holder.dataLayer ??= [];
  return holder.dataLayer;
}

/**
 * @param {Document} page
 * @param {string} name
 * @param {string | undefined} text none hides the place
 * @returns {boolean} whether the page shows it
 */
function put(page, name, text) {
  const place = page.querySelector(`[data-personalization="${name}"]`);
  if (!(place instanceof HTMLElement)) return false;
  place.textContent = text ?? "";
  place.hidden = text === undefined;
  return text !== undefined;
}

/**
 * @param {string} text as in `document.cookie`
 * @returns {Map<string, string>} of a name that comes twice, the first
 */
function cookiesOf(text) {
  const cookies = new Map();
  for (const pair of text.split(";")) {
    const [name, ...rest] = pair.split("=");
    if (!cookies.has(name.trim())) cookies.set(name.trim(), decoded(rest.join("=").trim()));
  }
  return cookies;
}

/** @param {string} value @returns {string} empty where it is not encoded as it should be */
function decoded(value) {
  try {
    return decodeURIComponent(value);
  } catch {
    return "";
  }
}
