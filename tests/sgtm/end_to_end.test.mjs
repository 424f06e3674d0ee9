// @ts-check
/** A browser's hit enters the simulated container; the real local stack decides; GA4 is a stub. */

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, beforeEach, test } from "node:test";
import { encodeEvent, extractEvents } from "../../sgtm/simulator/container/mpv2.js";
import { PYTHON, startStack, until } from "./running_stack.mjs";
import {
  BROWSER,
  CALLBACK_KEY,
  hitQuery,
  incoming,
  makeContainer,
  part,
  sentEvents,
  setParameter,
  startServer,
  startStub,
  useDecisionClient,
} from "./simulated.mjs";

const SHA256_SECRET = "whsec_c2VjcmV0IG9mIGEgc2VydmVyIHdpdGhvdXQga2V5cw==";
const ANONYMOUS_ID = "5f0c2a9e-3b1d-4c58-9a67-1e2d3c4b5a69";

/** @type {Awaited<ReturnType<typeof startStack>>} */
let stack;
/** @type {Awaited<ReturnType<typeof startServer>>} */
let sgtm;
/** @type {Awaited<ReturnType<typeof startStub>>} */
let ga4;
/** @type {Array<Record<string, any>>} */
let log;

const skip = PYTHON
  ? false
  : "needs the project's Python: make up installs it, or name it in PYTHON";

before(async () => {
  if (skip) return;
  sgtm = await startServer();
  ga4 = await startStub(() => 204);
  const endpoint = { attributes: ["*"], allow_private: true };
  stack = await startStack({
    TAGSTITCH_RETRY_SCALE: "0.01",
    TAGSTITCH_CALLBACKS: JSON.stringify([
      { id: "main", url: `${sgtm.url}/stitched`, secret: `whsec_${CALLBACK_KEY}`, ...endpoint },
      {
        id: "second",
        url: `${sgtm.url}/stitched-sha256`,
        secret: SHA256_SECRET,
        scheme: "sha256",
        ...endpoint,
      },
    ]),
  });
  const decide = /** @type {any} */ (await until(() => loadedRules(), "the rules in decide"));
  assert.equal(decide.rules.broken, 0);
  use();
});

after(async () => {
  await stack?.stop();
  await sgtm?.close();
  await ga4?.stop();
});

beforeEach(() => {
  if (skip) return;
  ga4.received.length = 0;
  sgtm.received.length = 0;
});

async function loadedRules() {
  const health = /** @type {any} */ (await (await fetch(`${stack.url}/decide/health`)).json());
  return health.rules.count ? health : undefined;
}

/** Let the server run the shipped container, changed as a test needs it. @param {any} [options] */
function use(options = {}) {
  const { change = () => {}, ...rest } = options;
  const made = makeContainer({
    decideUrl: `${stack.url}/decide/decide`,
    stitchUrl: `${stack.url}/stitch_sync`,
    ga4Url: ga4.url,
    ...rest,
    change: (/** @type {any} */ version) => {
      part(version, "tag", "GA4 - Visitor stitched").paused = false;
      addSecondCallbackClient(version);
      change(version);
    },
  });
  sgtm.holder.current = made.container;
  log = made.log;
}

/** As an operator without a key file adds one. @param {any} version */
function addSecondCallbackClient(version) {
  const client = structuredClone(part(version, "client", "Tagstitch - Stitch callback"));
  client.clientId = "900";
  client.name = "Tagstitch - Stitch callback without a key file";
  setParameter(client, "path", "/stitched-sha256");
  setParameter(client, "scheme", "sha256");
  setParameter(client, "secret", SHA256_SECRET);
  version.client.push(client);
}

/** @param {Record<string, string>} parameters @param {RequestInit} [options] */
const hit = (parameters, options) =>
  fetch(`${sgtm.url}/g/collect?${hitQuery(parameters)}`, {
    method: "POST",
    headers: BROWSER,
    ...options,
  });

/** @param {string} clientId @returns {Promise<Record<string, string>>} what GA4 got after its stitch */
const stitchedFor = (clientId) =>
  until(
    () => sentEvents(ga4).find(({ en, cid }) => en === "visitor_stitched" && cid === clientId),
    `the stitch of ${clientId}`,
  );

test("a purchase is renamed by the stack and leaves under its new name", { skip }, async () => {
  use();

  const answer = await hit({
    en: "purchase",
    "epn.value": "7.5",
    cu: "EUR",
    "ep.transaction_id": "T-1",
  });

  assert.equal(answer.status, 200);
  const [event] = sentEvents(ga4);
  assert.equal(ga4.received.length, 1);
  assert.equal(event.en, "micro_purchase");
  assert.equal(event["ep._original_event_name"], "purchase");
  assert.equal(event["epn.value"], "7.5");
});

test(
  "a purchase in the body of a POST is renamed too, beside another event",
  { skip },
  async () => {
    const body =
      "en=scroll&epn.percent_scrolled=90\r\nen=purchase&epn.value=7.5&ep.transaction_id=T-2&pr1=idSKU_1~nmTee~pr7.5~qt1";

    await hit({}, { body });

    assert.deepEqual(
      sentEvents(ga4)
        .map(({ en }) => en)
        .sort(),
      ["micro_purchase", "scroll"],
    );
  },
);

/** What gtag.js sends besides where a server container takes its hits; a broken timing among it. */
const OF_A_SERVER_CONTAINER = {
  ecid: "1548980841",
  tag_exp: "101509157~103116026",
  dma_cps: "syphamo",
  ec_mode: "a",
  _fplc: "0",
  _eu: "AAAAAAQ",
  uafvl: "Chromium;136.0.7103.114|Not.A%2FBrand;99.0.0.0",
  "sst.rnd": "506702095.1763700000",
  "sst.etld": "google.de",
  "sst.gcsub": "region1",
  "sst.us_privacy": "1YNY",
  "sst.ude": "0",
  _et: "NaN",
  richsstsse: "",
};

test("a hit as gtag.js sends it to a server container is decided like any other", { skip }, async () => {
  const purchase = { en: "purchase", "epn.value": "7.5", pr1: "idSKU_1~nmTee~pr7.5~qt1" };

  await hit({ ...OF_A_SERVER_CONTAINER, ...purchase });

  assert.deepEqual(
    sentEvents(ga4).map(({ en, pr1 }) => [en, pr1]),
    [["micro_purchase", purchase.pr1]],
  );
});

test("what is out of stock leaves the items of the cart", { skip }, async () => {
  const item = "nmTee~pr10~qt1~k0stock_status~v0";

  await hit({ en: "add_to_cart", pr1: `idA~${item}in_stock`, pr2: `idB~${item}out_of_stock` });

  const [event] = sentEvents(ga4);
  assert.match(event.pr1, /^idA~/);
  assert.equal(event.pr2, undefined);
});

test("an event that the rules drop leaves nothing", { skip }, async () => {
  const answer = await hit({ en: "view_item", "ep.item_id": "PROD_MAINT_001" });

  assert.equal(answer.status, 200);
  assert.deepEqual(ga4.received, []);
});

test(
  "a login is stitched, comes back signed and fires a tag; then the visitor gets a cookie",
  { skip },
  async () => {
    const visitor = { cid: "4711.1763700000", uid: "u-1001" };

    await hit({ ...visitor, en: "login" });
    const stitched = await stitchedFor("4711.1763700000");
    const answer = await hit({ ...visitor, en: "view_item", "ep.item_category": "Electronics" });

    assert.equal(JSON.parse(stitched["ep.visitor"]).user_loyalty_tier, "Gold");
    assert.deepEqual(answer.headers.getSetCookie(), [
      "show_discount_banner=electronics_10off; Domain=127.0.0.1; Path=/; Max-Age=3600; SameSite=lax; Secure",
    ]);
  },
);

test(
  "a day of the sample shop leaves as decide says, each event once or not at all",
  { skip },
  async () => {
    const lines = readFileSync(new URL("../../examples/events.jsonl", import.meta.url), "utf8")
      .trim()
      .split("\n");
    const events = lines
      .map((line) => JSON.parse(line))
      .filter(({ event_name }) => event_name !== "login");
    const renamed = new Set();
    let dropped = 0;

    for (const { user_data, event_location, ...sample } of events) {
      const query = `v=2&gcs=G111&${encodeEvent(sample, "G-TEST123")}`;
      const [event] = extractEvents(incoming({ query }), Date.now());
      ga4.received.length = 0;
      await fetch(`${sgtm.url}/g/collect?${query}`, { method: "POST", headers: BROWSER });
      const wanted = await decided(event);

      const sent = sentEvents(ga4);
      assert.equal(sent.length, wanted.drop ? 0 : 1);
      if (wanted.drop) dropped += 1;
      else assert.deepEqual(differing(sent[0], event, wanted), []);
      if (wanted.rename) renamed.add(wanted.rename);
    }

    assert.ok(dropped > 0);
    assert.deepEqual([...renamed], ["micro_purchase"]);
  },
);

/** @param {any} event @returns {Promise<any>} what decide says of it when asked directly */
async function decided(event) {
  const answer = await fetch(`${stack.url}/decide`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ event, include: ["event"] }),
  });
  return /** @type {any} */ (await answer.json()).event;
}

/** The parameters with which an event did not leave as it was decided. @param {Record<string, string>} sent @param {any} event @param {any} wanted */
function differing(sent, event, wanted) {
  const whole = { ...event, ...wanted.set, event_name: wanted.rename ?? event.event_name };
  for (const name of wanted.unset) delete whole[name];
  const expected = Object.fromEntries(new URLSearchParams(encodeEvent(whole, "G-TEST123")));
  const ofTheRequest = ["ep.user_agent", "ep.ip_override"];
  const names = new Set([...Object.keys(sent), ...Object.keys(expected)]);
  return [...names].filter((name) => sent[name] !== expected[name] && !ofTheRequest.includes(name));
}

test("a stitch that is started in preview comes back into the preview", { skip }, async () => {
  const headers = { ...BROWSER, "x-gtm-server-preview": "cHJldmlldw==" };

  await hit({ cid: "4713.1763700000", uid: "u-1002", en: "login" }, { headers });

  const callback = await until(
    () => sgtm.received.find(({ path }) => path === "/stitched"),
    "the callback",
  );
  assert.equal(callback.headers["x-gtm-server-preview"], "cHJldmlldw==");
  await stitchedFor("4713.1763700000");
});

test("the callback comes back by the sha256 scheme too", { skip }, async () => {
  const body = {
    identifiers: { user_id: "u-1003" },
    mode: "async",
    callback: "second",
    context: { client_id: "4712.1" },
  };
  const headers = { "content-type": "application/json" };

  await fetch(`${stack.url}/stitch_sync`, { method: "POST", headers, body: JSON.stringify(body) });

  await stitchedFor("4712.1");
});

test(
  "a callback that nobody signed, or somebody signed long ago, is refused",
  { skip },
  async () => {
    const body = JSON.stringify({
      type: "visitor.stitched",
      data: { found: true, attributes: { tier: "Platinum" } },
    });
    const signed = (/** @type {number} */ seconds, key = CALLBACK_KEY) => {
      const timestamp = String(Math.floor(Date.now() / 1000) + seconds);
      const content = `r-9.${timestamp}.${body}`;
      const signature = createHmac("sha256", Buffer.from(key, "base64"))
        .update(content)
        .digest("base64");
      return {
        "webhook-id": "r-9",
        "webhook-timestamp": timestamp,
        "webhook-signature": `v1,${signature}`,
      };
    };
    const post = async (/** @type {any} */ headers) =>
      (await fetch(`${sgtm.url}/stitched`, { method: "POST", headers, body })).status;

    assert.equal(await post({}), 401);
    assert.equal(await post(signed(-301)), 401);
    assert.equal(await post(signed(0, "YW5vdGhlciBrZXksIG9mIDI0IGJ5dGVz")), 401);
    assert.deepEqual(ga4.received, []);
    assert.equal(await post(signed(0)), 200);
  },
);

test(
  "a denied visitor's event is decided without her profile and sets no cookie",
  { skip },
  async () => {
    const denied = { gcs: "G100", gcd: "13p3p3p3p5l1", uid: "u-1001", cid: "4711.1763700000" };

    const answer = await hit({ ...denied, en: "view_item", "ep.item_category": "Electronics" });

    assert.deepEqual(answer.headers.getSetCookie(), []);
    assert.equal(sentEvents(ga4)[0].en, "view_item");
  },
);

test("a browser gets its own public view, and nobody else's", { skip }, async () => {
  const get = async (/** @type {string} */ path, /** @type {any} */ headers) =>
    (await fetch(`${sgtm.url}${path}`, { headers })).json();
  const own = { cookie: `anonymous_id=${ANONYMOUS_ID}; consent=granted` };

  assert.deepEqual(await get("/stitch", own), {
    attributes: { user_loyalty_tier: "Gold", preferred_category: "Electronics" },
  });
  assert.deepEqual(await get("/stitch?user_id=u-1001&id=u-1001", { cookie: "consent=granted" }), {
    attributes: {},
  });
  assert.deepEqual(await get("/stitch?view=default", { cookie: `anonymous_id=${ANONYMOUS_ID}` }), {
    attributes: {},
  });
  const unknown = await get("/stitch?user_id=u-1001", {
    cookie: "anonymous_id=00000000-0000; consent=granted",
  });
  assert.deepEqual(unknown, {
    attributes: { user_loyalty_tier: null, preferred_category: null },
  });
});

/** What an attacker sends to /stitch with a cookie of his own, to learn of u-1001. */
const ATTACKS = /** @type {Array<[string, string, RequestInit]>} */ ([
  ["a user id in the query", "?user_id=u-1001&id=u-1001", {}],
  ["an identifier of the view's type in the query", `?anonymous_id=${ANONYMOUS_ID}`, {}],
  ["another view in the query", "?view=default&fields=lifetime_value", {}],
  ["no view of its own", "?public=false", {}],
  [
    "an activation in the body",
    "",
    {
      method: "POST",
      body: JSON.stringify({
        entity: "user",
        id: { type: "anonymous_id", value: ANONYMOUS_ID },
        view: "default",
        public: false,
      }),
    },
  ],
  [
    "identifiers in the body",
    "",
    { method: "POST", body: JSON.stringify({ identifiers: { user_id: "u-1001" } }) },
  ],
  ["the secret of server callers", "?user_id=u-1001", { headers: { "x-stitcher-secret": "" } }],
  ["a key", "?user_id=u-1001", { headers: { "x-tagstitch-key": "browser-key" } }],
]);

for (const [what, query, options] of ATTACKS) {
  test(`a browser that sends ${what} learns nothing of somebody else`, { skip }, async () => {
    const cookie = "anonymous_id=9e107d9d-372b-4b82-8d1f-000000000000; consent=granted";

    const answer = await fetch(`${sgtm.url}/stitch${query}`, {
      ...options,
      headers: { ...options.headers, cookie },
    });

    assert.deepEqual(await answer.json(), {
      attributes: { user_loyalty_tier: null, preferred_category: null },
    });
    assert.equal(answer.headers.get("cache-control"), "private, no-store");
  });
}

const NO_IDENTIFIERS = [
  "u-1001",
  "5f0c2a9e%2F..%2Fu-1001",
  '{"type":"user_id","value":"u-1001"}',
  "%22%2C%22type%22%3A%22user_id",
  "undefined",
];

test("a cookie that names somebody in another way names nobody", { skip }, async () => {
  for (const value of NO_IDENTIFIERS) {
    const headers = { cookie: `anonymous_id=${value}; consent=granted` };
    const { attributes } = /** @type {any} */ (
      await (await fetch(`${sgtm.url}/stitch`, { headers })).json()
    );

    assert.deepEqual(Object.values(attributes).filter(Boolean), [], value);
  }
});

/** @param {string} view @returns {Promise<any>} what a server is told of the sample visitor */
async function activation(view) {
  const id = { type: "anonymous_id", value: ANONYMOUS_ID };
  const answer = await fetch(`${stack.url}/stitch_sync/activation`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ entity: "user", id, view, consent: { analytics_storage: true } }),
  });
  return answer.json();
}

test("a view that is not declared public shows a browser nothing", { skip }, async () => {
  const attributes = ["user_loyalty_tier", "lifetime_value"];
  await stack.putViews({ for_servers: { attributes }, nearly: { attributes, public: "true" } });
  await until(async () => (await activation("for_servers")).found, "the view in stitch_sync");
  for (const view of ["for_servers", "nearly", "default", "nobody_declared_this"]) {
    use({
      change: (/** @type {any} */ version) =>
        setParameter(part(version, "client", "Tagstitch - Stitcher"), "view", view),
    });
    const headers = { cookie: `anonymous_id=${ANONYMOUS_ID}; consent=granted` };

    const answer = await (await fetch(`${sgtm.url}/stitch`, { headers })).json();

    assert.deepEqual(answer, { attributes: {}, degraded: true }, view);
  }
  use();
});

test(
  "a server with the secret asks about whom it names; others are refused",
  { skip },
  async () => {
    const secret = "a secret of the shop's own server";
    use({
      change: (/** @type {any} */ version) => {
        const client = part(version, "client", "Tagstitch - Stitcher");
        setParameter(client, "callers", "servers");
        setParameter(client, "serverSecret", secret);
      },
    });
    const ask = async (/** @type {any} */ headers) =>
      fetch(`${sgtm.url}/stitch?user_id=u-1003`, { headers });

    assert.equal((await ask({})).status, 401);
    assert.equal(
      (await ask({ "x-stitcher-secret": "a guess of the same length, or so" })).status,
      401,
    );
    const answer = /** @type {any} */ (await (await ask({ "x-stitcher-secret": secret })).json());
    assert.equal(answer.attributes.user_loyalty_tier, "Silver");
    const fields = await fetch(`${sgtm.url}/stitch?id=u-1003&fields=user_loyalty_tier`, {
      headers: { "x-stitcher-secret": secret },
    });
    assert.deepEqual(/** @type {any} */ (await fields.json()).attributes, {
      user_loyalty_tier: "Silver",
    });
  },
);

test(
  "a browser starts a stitch that comes back by the callback, and learns nothing of it",
  { skip },
  async () => {
    use({
      change: (/** @type {any} */ version) => {
        const client = part(version, "client", "Tagstitch - Stitcher");
        setParameter(client, "mode", "async");
        setParameter(client, "callback", "main");
      },
    });
    const headers = { cookie: `anonymous_id=${ANONYMOUS_ID}; consent=granted` };

    const answer = await fetch(`${sgtm.url}/stitch`, { method: "POST", headers });

    assert.equal(answer.status, 202);
    assert.deepEqual(Object.keys(/** @type {any} */ (await answer.json())), [
      "request_id",
      "status",
    ]);
    const event = await until(
      () => sentEvents(ga4).find(({ en }) => en === "visitor_stitched"),
      "the callback",
    );
    assert.equal(JSON.parse(event["ep.visitor"]).user_loyalty_tier, "Gold");
  },
);

test(
  "what a browser may know of itself can be an event, for the tags that ask for its client",
  { skip },
  async () => {
    use({
      change: (/** @type {any} */ version) => {
        setParameter(part(version, "client", "Tagstitch - Stitcher"), "runsContainer", "true");
        const [isCallback] = part(version, "trigger", "Visitor stitched").filter;
        isCallback.parameter[1].value = "Tagstitch - Stitcher";
      },
    });
    const headers = { cookie: `anonymous_id=${ANONYMOUS_ID}; consent=granted` };

    const answer = await (await fetch(`${sgtm.url}/stitch`, { headers })).json();

    const attributes = { user_loyalty_tier: "Gold", preferred_category: "Electronics" };
    assert.deepEqual(answer, { attributes });
    const [event] = sentEvents(ga4);
    assert.equal(ga4.received.length, 1);
    assert.equal(event.en, "visitor_stitched");
    assert.deepEqual(JSON.parse(event["ep.visitor"]), attributes);
    assert.deepEqual(JSON.parse(event["ep.stitch"]), { found: true });
  },
);

test(
  "one call brings decision, cookie and attribute of an event together",
  { skip },
  async () => {
    let calls = 0;
    const counting = await startStub(async ({ body, headers }) => {
      calls += 1;
      const { "x-tagstitch-key": key, "content-type": type } = headers;
      const sent = { method: "POST", headers: { "x-tagstitch-key": key, "content-type": type }, body };
      return (await fetch(`${stack.url}/decide/decide`, sent)).text();
    });
    use({
      decideUrl: counting.url,
      change: (/** @type {any} */ version) =>
        part(version, "tag", "Tagstitch - Decide and re-run").parameter.push({
          type: "LIST",
          key: "profileAttributes",
          list: [
            {
              type: "MAP",
              map: [
                { type: "TEMPLATE", key: "attribute", value: "user_loyalty_tier" },
                { type: "TEMPLATE", key: "parameter", value: "loyalty" },
              ],
            },
          ],
        }),
    });

    const answer = await hit({
      cid: "4711.1763700000",
      en: "view_item",
      "ep.item_category": "Electronics",
    });
    await counting.stop();

    assert.equal(calls, 1);
    assert.equal(answer.headers.getSetCookie().length, 1);
    assert.deepEqual(
      sentEvents(ga4).map((event) => event["ep.loyalty"]),
      ["Gold"],
    );
  },
);

test("the personalize tag asks decide itself where nothing is decided", { skip }, async () => {
  use({
    change: (/** @type {any} */ version) => {
      const tag = part(version, "tag", "Tagstitch - Personalize");
      setParameter(tag, "source", "request");
      setParameter(tag, "serviceUrl", "{{Tagstitch - Decide URL}}");
      setParameter(tag, "apiKey", "{{Tagstitch - Key}}");
      tag.firingTriggerId = ["2147479574"];
      version.tag = [tag];
    },
  });

  const view = { en: "view_item", "ep.item_category": "Electronics" };
  const gold = await hit({ ...view, cid: "4711.1763700000" });
  const unknown = await hit({ ...view, cid: "4714.1763700000" });

  assert.equal(gold.headers.getSetCookie().length, 1);
  assert.deepEqual(unknown.headers.getSetCookie(), []);
});

test("the stack is down: the original event leaves", { skip }, async () => {
  use({ decideUrl: "http://127.0.0.1:9/decide" });

  await hit({ en: "purchase", "epn.value": "7.5" });

  assert.deepEqual(
    sentEvents(ga4).map(({ en }) => en),
    ["purchase"],
  );
  assert.ok(
    log.some(
      ({ kind, name, status }) => kind === "tag" && name.includes("Decide") && status === "failure",
    ),
  );
});

test("nothing that leaves, to anybody, carries the mark", { skip }, async () => {
  use();
  for (const en of ["purchase", "view_item", "scroll", "page_view"])
    await hit({ en, uid: "u-1001", "ep.x-tagstitch": "forged" });

  assert.equal(ga4.received.length, 4);
  assert.ok(!JSON.stringify(ga4.received).includes("tagstitch"));
});

test("with the transformation instead, each tag gets the visitor's tier", { skip }, async () => {
  use({
    change: (/** @type {any} */ version) => {
      version.transformation.push({
        transformationId: "901",
        name: "Add the tier",
        type: "tf_augment_event",
        parameter: [
          {
            type: "LIST",
            key: "augmentEventTable",
            list: [
              {
                type: "MAP",
                map: [
                  { type: "TEMPLATE", key: "paramName", value: "loyalty" },
                  { type: "TEMPLATE", key: "paramValue", value: "{{Tagstitch - Loyalty tier}}" },
                ],
              },
            ],
          },
        ],
      });
    },
  });

  await hit({ cid: "4711.1763700000", en: "page_view" });

  assert.equal(sentEvents(ga4)[0]["ep.loyalty"], "Gold");
});

test("with the trigger condition instead, one tag is held back", { skip }, async () => {
  use({
    change: (/** @type {any} */ version) => {
      part(version, "trigger", "Decided events").filter.push({
        type: "EQUALS",
        parameter: [
          { type: "TEMPLATE", key: "arg0", value: "{{Tagstitch - Loyalty tier}}" },
          { type: "TEMPLATE", key: "arg1", value: "Gold" },
        ],
      });
    },
  });

  await hit({ cid: "9999.1", en: "page_view" });
  await hit({ cid: "4711.1763700000", en: "page_view" });

  assert.deepEqual(
    sentEvents(ga4).map(({ cid }) => cid),
    ["4711.1763700000"],
  );
});

test(
  "the decision client renames, drops and answers a hit of several events",
  { skip },
  async () => {
    use({ change: useDecisionClient });
    const body = [
      "en=purchase&epn.value=7.5",
      "en=view_item&ep.item_id=PROD_MAINT_001",
      "en=scroll",
    ].join("\r\n");

    const answer = await hit({}, { body });

    assert.equal(answer.status, 204);
    assert.equal(answer.headers.get("access-control-allow-origin"), "https://shop.example.com");
    assert.deepEqual(
      sentEvents(ga4)
        .map(({ en }) => en)
        .sort(),
      ["micro_purchase", "scroll"],
    );
  },
);
