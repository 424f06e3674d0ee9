// `node --test`: the middleware's own part against a server that answers as /activation does.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, beforeEach, describe, test } from "node:test";

import { decodeFeatures, encodeFeatures, personalize, settingsOf } from "./personalization.js";

const ID = "5f0c2a9e-3b1d-4c58-9a67-1e2d3c4b5a69";
const VIEW = "features_by_anonymous_id";
const KEY = "a secret that no browser may see";
const GOLD = { user_loyalty_tier: "Gold", preferred_category: null };
const KNOWN = { data: { [VIEW]: GOLD }, found: true, reason: "KNOWN_PROFILE", degraded: [] };
const NOBODY = { data: { [VIEW]: {} }, found: false, reason: "UNKNOWN_PROFILE", degraded: [] };
const COOKIES = `theme=dark; anonymous_id=${ID}`;
const OLD = `${COOKIES}; personalization=old`;

/** @typedef {{ status?: number, body?: unknown, text?: string, location?: string }} Reply */

/** Generous, so that a busy machine makes no difference. */
const PATIENCE_MS = 20_000;

/** @type {Reply} */
let reply = {};
/** @type {{ url: string | undefined, key: unknown, body: any }[]} */
let received = [];
/** @type {string[]} */
let warnings = [];
let url = "";

const server = createServer(async (request, response) => {
  let text = "";
  for await (const chunk of request) text += chunk;
  received.push({
    url: request.url,
    key: request.headers["x-tagstitch-key"],
    body: text && JSON.parse(text),
  });
  const { status = 200, body = KNOWN, text: raw, location } = reply;
  response.writeHead(status, location ? { location } : {});
  response.end(raw ?? JSON.stringify(body));
});

before(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  url = typeof address === "object" && address ? `http://127.0.0.1:${address.port}` : "";
});

after(() => {
  server.closeAllConnections();
  server.close();
});

beforeEach(() => {
  reply = {};
  received = [];
  warnings = [];
});

/** @param {Partial<import("./personalization.js").Settings>} changes */
function settings(changes = {}) {
  const usual = { url, key: KEY, view: VIEW, timeoutMs: PATIENCE_MS };
  return { ...usual, consentCookie: undefined, isSecure: true, ...changes };
}

/**
 * @param {string} cookies
 * @param {Partial<import("./personalization.js").Settings>} changes
 */
function visit(cookies, changes = {}) {
  const world = {
    ask: fetch,
    newId: () => "a-new-identifier",
    warn: (/** @type {string} */ message) => void warnings.push(message),
  };
  return personalize(cookies, settings(changes), world);
}

describe("a browser that is known", () => {
  test("gets its features as a cookie, for the page as for the browser", async () => {
    const { requestCookies, setCookies } = await visit(OLD);

    const value = encodeFeatures(GOLD);
    assert.deepEqual(setCookies, [
      `personalization=${value}; Path=/; Max-Age=1800; SameSite=Lax; Secure`,
    ]);
    assert.equal(requestCookies, `${COOKIES}; personalization=${value}`);
    assert.deepEqual(warnings, []);
  });

  test("is asked about by its identifier and nothing else", async () => {
    await visit(COOKIES);

    assert.deepEqual(received, [
      {
        url: "/activation",
        key: KEY,
        body: {
          entity: "user",
          id: { type: "anonymous_id", value: ID },
          view: VIEW,
          public: true,
          deadline_ms: 16_000,
        },
      },
    ]);
  });

  test("sees nothing of the key", async () => {
    assert.ok(!JSON.stringify(await visit(COOKIES)).includes("secret"));
  });

  test("gets a cookie without Secure while the site is developed", async () => {
    const { setCookies } = await visit(COOKIES, { isSecure: false });

    assert.match(setCookies[0] ?? "", /; Max-Age=1800; SameSite=Lax$/);
  });

  test("gets any text through the cookie as it is", async () => {
    const features = { text: 'a;b,c="d" é 🙂\r\nSet-Cookie: x=y', list: [1, null], deep: { a: true } };
    reply = { body: { ...KNOWN, data: { [VIEW]: features } } };

    const { setCookies } = await visit(COOKIES);

    const value = setCookies[0]?.match(/^personalization=([^;,\s"]*);/)?.[1];
    assert.deepEqual(decodeFeatures(value), features);
  });

  test("gets no cookie that browsers would drop, and loses the old one", async () => {
    reply = { body: { ...KNOWN, data: { [VIEW]: { text: "x".repeat(5000) } } } };

    const { requestCookies, setCookies } = await visit(OLD);

    assert.deepEqual(setCookies, ["personalization=; Path=/; Max-Age=0; SameSite=Lax; Secure"]);
    assert.equal(requestCookies, COOKIES);
    assert.deepEqual(warnings, ["personalization skipped: CookieTooLarge"]);
  });
});

describe("a browser that is not known", () => {
  test("gets an identifier that scripts cannot read, and nobody is asked", async () => {
    const { requestCookies, setCookies } = await visit("theme=dark; personalization=forged");

    assert.deepEqual(setCookies, [
      "anonymous_id=a-new-identifier; Path=/; Max-Age=31536000; SameSite=Lax; Secure; HttpOnly",
      "personalization=; Path=/; Max-Age=0; SameSite=Lax; Secure",
    ]);
    assert.equal(requestCookies, "theme=dark; anonymous_id=a-new-identifier");
    assert.deepEqual(received, []);
  });

  test("gets a new identifier for one that was tampered with", async () => {
    for (const value of ["", "short", "a b c d e f g", "x".repeat(65), '{"$ne": null}']) {
      const { setCookies } = await visit(`anonymous_id=${value}`);

      assert.match(setCookies[0] ?? "", /^anonymous_id=a-new-identifier;/, value);
    }
  });

  test("gets an identifier of its own from the real world", async () => {
    const seen = await Promise.all(
      [1, 2].map(() => personalize("", settings())),
    );

    assert.equal(new Set(seen.map(({ requestCookies }) => requestCookies)).size, 2);
  });

  test("loses the features of whoever it was before", async () => {
    for (const reason of ["UNKNOWN_PROFILE", "CONSENT_DENIED", "BLOCKED_IDENTIFIER"]) {
      reply = { body: { ...NOBODY, reason } };

      const { requestCookies, setCookies } = await visit(OLD);

      assert.deepEqual(setCookies, ["personalization=; Path=/; Max-Age=0; SameSite=Lax; Secure"]);
      assert.equal(requestCookies, COOKIES);
    }
  });
});

describe("when something is wrong, the page is served as it was asked for", () => {
  /** @type {[string, Reply][]} */
  const failures = [
    ["an error", { status: 503 }],
    ["a refusal", { status: 401 }],
    ["a redirect", { status: 302, location: "/elsewhere" }],
    ["no JSON", { text: "<html>" }],
    ["null", { text: "null" }],
    ["another view", { body: { ...KNOWN, data: { other: GOLD } } }],
    ["a store that is silent", { body: { ...NOBODY, reason: "ERROR", degraded: ["profile"] } }],
  ];
  for (const [name, failure] of failures) {
    test(name, async () => {
      reply = failure;

      assert.deepEqual(await visit(OLD), { requestCookies: OLD, setCookies: [] });
      assert.equal(received.length, 1); // a redirect is not followed: the key would go with it
      assert.equal(warnings.length, 1);
    });
  }

  test("an answer that does not come", async () => {
    // A server of its own: what it is asked may arrive after the answer was given up.
    const silent = createServer(() => {});
    silent.listen(0, "127.0.0.1");
    await once(silent, "listening");
    const { port } = /** @type {import("node:net").AddressInfo} */ (silent.address());
    const changes = { url: `http://127.0.0.1:${port}`, timeoutMs: 30 };

    const outcome = await visit(OLD, changes);
    silent.closeAllConnections();
    silent.close();

    assert.deepEqual(outcome, { requestCookies: OLD, setCookies: [] });
    assert.deepEqual(warnings, ["personalization skipped: TimeoutError"]);
  });

  test("a server that is not there", async () => {
    const gone = { url: "http://127.0.0.1:9" };

    assert.deepEqual(await visit(OLD, gone), { requestCookies: OLD, setCookies: [] });
    assert.ok(!warnings.join().includes("127.0.0.1"));
  });

  test("no settings", async () => {
    assert.deepEqual(await personalize(OLD, null), { requestCookies: OLD, setCookies: [] });
  });
});

describe("where a consent cookie is named", () => {
  const consentCookie = "analytics_consent";

  test("nothing is set and nobody asked before it says granted", async () => {
    for (const said of ["", "; analytics_consent=denied", "; analytics_consent=GRANTED?"]) {
      const outcome = await visit(`theme=dark${said}`, { consentCookie });

      assert.deepEqual(outcome, { requestCookies: `theme=dark${said}`, setCookies: [] });
    }
    assert.deepEqual(received, []);
  });

  test("a withdrawal takes both cookies away", async () => {
    const { requestCookies, setCookies } = await visit(OLD, { consentCookie });

    assert.deepEqual(setCookies, [
      "anonymous_id=; Path=/; Max-Age=0; SameSite=Lax; Secure; HttpOnly",
      "personalization=; Path=/; Max-Age=0; SameSite=Lax; Secure",
    ]);
    assert.equal(requestCookies, "theme=dark");
  });

  test("a grant is passed on", async () => {
    await visit(`${COOKIES}; analytics_consent=granted`, { consentCookie });

    assert.deepEqual(received[0]?.body.consent, { analytics_storage: true });
  });
});

describe("settings", () => {
  const none = {
    view: undefined,
    timeoutMs: undefined,
    consentCookie: undefined,
    nodeEnv: "production",
  };

  test("have defaults, and no slash at the end of the URL", () => {
    assert.deepEqual(settingsOf({ ...none, url: "https://sync.example.com/", key: KEY }), {
      url: "https://sync.example.com",
      key: KEY,
      view: VIEW,
      timeoutMs: 150,
      consentCookie: undefined,
      isSecure: true,
    });
  });

  test("leave Secure out in development only", () => {
    const flags = ["production", "development", "test", undefined].map(
      (nodeEnv) => settingsOf({ ...none, url, key: KEY, nodeEnv })?.isSecure,
    );

    assert.deepEqual(flags, [true, false, true, true]);
  });

  test("are none without URL or key", () => {
    assert.equal(settingsOf({ ...none, url: "https://sync.example.com", key: undefined }), null);
    assert.equal(settingsOf({ ...none, url: "", key: KEY }), null);
  });

  test("let no page wait for long", () => {
    const waits = ["90000", "soon", "-5", "0", ""].map(
      (timeoutMs) => settingsOf({ ...none, url, key: KEY, timeoutMs })?.timeoutMs,
    );

    assert.deepEqual(waits, [1000, 150, 150, 150, 150]);
  });
});

test("what is no features cookie is null", () => {
  for (const value of [undefined, "", "%", "old", "[1]", "null", "5", "%E0%A4%A"]) {
    assert.equal(decodeFeatures(value), null, value);
  }
});
