// @ts-check
/** The shipped container, with a stand-in for decide: what the mark of a decision is worth. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { afterEach, beforeEach, test } from "node:test";
import {
  GUARD_SECRET,
  hitQuery,
  incoming,
  makeContainer,
  part,
  sentEvents,
  setParameter,
  startStub,
  useDecisionClient,
} from "./simulated.mjs";

/** @type {Awaited<ReturnType<typeof startStub>>} */
let decide;
/** @type {Awaited<ReturnType<typeof startStub>>} */
let ga4;
/** @type {(event: any) => any} */
let decision;
let now = 1763700000000;

const UNCHANGED = { drop: false, rename: null, set: {}, unset: [] };
const sha256 = (/** @type {string} */ text) => createHash("sha256").update(text).digest("hex");

beforeEach(async () => {
  now = 1763700000000;
  decision = () => ({ ...UNCHANGED, rename: "decided" });
  decide = await startStub(({ body }) => {
    const event = decision(JSON.parse(body).event);
    return typeof event === "object" ? { decision_id: "d-1", degraded: [], event } : event;
  });
  ga4 = await startStub(() => 204);
});

afterEach(async () => {
  await decide.stop();
  await ga4.stop();
});

const started = (/** @type {any} */ options = {}) =>
  makeContainer({ decideUrl: decide.url, ga4Url: ga4.url, clock: () => now, ...options });

const purchase = (/** @type {Record<string, string>} */ parameters = {}) =>
  hitQuery({ en: "purchase", "epn.value": "7.5", "ep.transaction_id": "T-1", ...parameters });

/** The guard that the container makes for a GET hit, as one finds it who knows the secret. */
function guard(
  query = purchase(),
  {
    id = "d-1",
    expiry = now + 30_000,
    clientId = "1294673677.1747154479",
    name = "decided",
    secret = GUARD_SECRET,
  } = {},
) {
  const request = sha256(JSON.stringify(["GET", "/g/collect", query, null]));
  const signed = JSON.stringify([id, expiry, clientId, name, request]);
  return `${id}.${expiry}.${sha256(secret + sha256(secret + signed))}`;
}

test("a hit leaves once, as it was decided, without the mark", async () => {
  const { container, log } = started();

  const answer = await container.handle(incoming({ query: purchase() }));

  assert.equal(answer.status, 200);
  assert.equal(decide.received.length, 1);
  assert.deepEqual(
    sentEvents(ga4).map(({ en }) => en),
    ["decided"],
  );
  assert.deepEqual(
    log.filter(({ kind }) => kind === "error"),
    [],
  );
  assert.ok(!ga4.received[0].url.search.includes("tagstitch"));
  const [first, second] = log.filter(({ kind }) => kind === "event");
  assert.equal(first.event["x-tagstitch"], undefined);
  assert.equal(second.event["x-tagstitch"].guard, guard());
});

test("each event of one POST is decided and leaves once", async () => {
  const { container } = started();
  const body = "en=page_view&_et=1\r\nen=scroll&epn.percent_scrolled=90\r\n";

  await container.handle(incoming({ method: "POST", query: hitQuery({}), body }));

  assert.equal(decide.received.length, 2);
  assert.equal(ga4.received.length, 2);
});

test("a dropped event leaves nothing and the browser is answered", async () => {
  decision = () => ({ ...UNCHANGED, drop: true });
  const { container } = started();

  const answer = await container.handle(incoming({ query: purchase() }));

  assert.equal(answer.status, 200);
  assert.equal(ga4.received.length, 0);
});

const FORGERIES = {
  "made up": () => "d-1.1763700020000.00",
  "right but for the secret": () =>
    guard(purchase(), { secret: "another secret of 24 characters" }),
  "made with the secret that the export holds": () =>
    guard(purchase(), { secret: "REPLACE with 24 or more random characters" }),
  "right, and copied from the hit it was made for": () => guard(purchase({})),
  "right for the query without it": () => guard(purchase({ en: "purchase" }), { name: "purchase" }),
  "of another visitor": () => guard(purchase(), { clientId: "9.9" }),
  expired: () => guard(purchase(), { expiry: now - 1 }),
  "of the far future": () => guard(purchase(), { expiry: now + 31_000_000 }),
};

for (const [what, forge] of Object.entries(FORGERIES)) {
  for (const name of ["ep.x-tagstitch", "ep.x-tagstitch.guard", "x-tagstitch", "sst.x-tagstitch"]) {
    for (const value of [forge(), JSON.stringify({ guard: forge() })]) {
      const kind = value.startsWith("{") ? "as JSON" : "as text";
      test(`a guard ${what}, ${kind} in ${name}, does not skip the decision`, async () => {
        const { container } = started();

        await container.handle(incoming({ query: purchase({ [name]: value }) }));

        assert.equal(decide.received.length, 1);
        const events = sentEvents(ga4);
        assert.deepEqual(
          events.map(({ en }) => en),
          ["decided"],
        );
        assert.equal(JSON.parse(decide.received[0].body).event["x-tagstitch"], undefined);
      });
    }
  }
}

test("a forged mark that really is an object does not skip the decision either", async () => {
  const { container } = started();
  for (const [, forge] of Object.entries(FORGERIES)) {
    const event = {
      event_name: "decided",
      client_id: "1294673677.1747154479",
      "x-tagstitch": { guard: forge() },
    };
    const query = `${purchase()}&ep.x=${forge()}`;
    const { Exchange } = await import("../../sgtm/simulator/container/exchange.js");
    const exchange = new Exchange(incoming({ query }), () => {});
    exchange.clientName = "GA4";
    decide.received.length = 0;
    await new Promise((resolve) => {
      container.run(exchange, event, { onComplete: () => resolve(undefined), onStart: () => {} });
    });
    assert.equal(decide.received.length, 1);
  }
});

test("actions that a browser sends set no cookie", async () => {
  const { container } = started();
  const actions = [{ type: "set_cookie", name: "show_x", value: "y", expiry_minutes: 60 }];

  const answer = await container.handle(
    incoming({
      query: purchase({
        "ep.x-tagstitch": JSON.stringify({ actions }),
        "ep.x-tagstitch.actions": JSON.stringify(actions),
      }),
    }),
  );

  assert.deepEqual(
    answer.headers.filter(([name]) => name === "set-cookie"),
    [],
  );
});

test("a browser's visitor_stitched fires nothing that waits for a stitch", async () => {
  const { container, log } = started({
    change: (/** @type {any} */ version) =>
      (part(version, "tag", "GA4 - Visitor stitched").paused = false),
  });
  decision = () => UNCHANGED;

  await container.handle(
    incoming({ query: hitQuery({ en: "visitor_stitched", "ep.visitor": "Gold" }) }),
  );

  assert.deepEqual(
    log.filter(({ kind, name }) => kind === "tag" && name === "GA4 - Visitor stitched"),
    [],
  );
});

for (const [what, answer] of /** @type {Array<[string, any]>} */ ([
  ["an error", 503],
  ["bad JSON", "<html>"],
  ["a refusal", 401],
])) {
  test(`with ${what} in place of a decision the event leaves as it came`, async () => {
    decision = () => answer;
    const { container } = started();

    await container.handle(incoming({ query: purchase() }));

    assert.deepEqual(
      sentEvents(ga4).map(({ en }) => en),
      ["purchase"],
    );
  });
}

test("when decide is silent the event leaves within the timeout of the tag", async () => {
  decision = () => new Promise(() => {});
  const { container } = started({
    change: (/** @type {any} */ version) =>
      setParameter(part(version, "tag", "Tagstitch - Decide and re-run"), "timeoutMs", "100"),
  });

  await container.handle(incoming({ query: purchase() }));

  assert.deepEqual(
    sentEvents(ga4).map(({ en }) => en),
    ["purchase"],
  );
});

test("when decide is down and the field says drop, nothing leaves", async () => {
  await decide.stop();
  const { container } = started({
    change: (/** @type {any} */ version) =>
      setParameter(part(version, "tag", "Tagstitch - Decide and re-run"), "onFailure", "drop"),
  });

  const answer = await container.handle(incoming({ query: purchase() }));

  assert.equal(answer.status, 200);
  assert.equal(ga4.received.length, 0);
});

test("until the guard secret is replaced no event leaves, and the log says why", async () => {
  const { container, log } = started({
    constants: ["Tagstitch - Guard secret=REPLACE with 24 or more random characters"],
  });

  await container.handle(incoming({ query: purchase() }));

  assert.equal(ga4.received.length, 0);
  assert.ok(
    log.some(({ kind, values }) => kind === "console" && values[0].includes("guard secret")),
  );
});

test("switched off, every event leaves once as it came, and nobody is asked", async () => {
  const { container } = started({ constants: ["Tagstitch - Switch=off"] });

  await container.handle(incoming({ query: purchase() }));

  assert.equal(decide.received.length, 0);
  assert.deepEqual(
    sentEvents(ga4).map(({ en }) => en),
    ["purchase"],
  );
});

test("switched off, no tag of Tagstitch asks anybody, and a result is for its own tags", async () => {
  const stitch = await startStub(() => ({ status: "accepted" }));
  const { container, log } = started({
    stitchUrl: stitch.url,
    constants: ["Tagstitch - Switch=off"],
    change: (/** @type {any} */ version) => {
      const tag = part(version, "tag", "Tagstitch - Personalize");
      setParameter(tag, "source", "request");
      setParameter(tag, "serviceUrl", "{{Tagstitch - Decide URL}}");
      const ofTheShop = part(version, "trigger", "Decided events");
      ofTheShop.filter = ofTheShop.filter.slice(-1); // a trigger that was there, with the condition
      callBackWithSecret(part(version, "client", "Tagstitch - Stitch callback"));
    },
  });

  await container.handle(incoming({ query: hitQuery({ en: "login", uid: "u-1001" }) }));
  const answer = await container.handle(callback());
  await stitch.stop();

  assert.equal(answer.status, 200);
  assert.deepEqual([decide.received, stitch.received], [[], []]);
  assert.deepEqual(
    sentEvents(ga4).map(({ en }) => en),
    ["login"],
  );
  const names = log.filter(({ kind }) => kind === "tag").map(({ name }) => name);
  assert.deepEqual(names, ["GA4 - Decided events"]);
});

const CALLBACK_SECRET = "whsec_c2VjcmV0IG9mIGEgc2VydmVyIHdpdGhvdXQga2V5cw==";

/** @param {any} client */
function callBackWithSecret(client) {
  setParameter(client, "scheme", "sha256");
  setParameter(client, "secret", CALLBACK_SECRET);
}

/** The result of a stitch, signed. */
function callback() {
  const body = JSON.stringify({
    type: "visitor.stitched",
    data: { request_id: "r-1", found: true, attributes: { tier: "Gold" }, context: {} },
  });
  const timestamp = String(Math.floor(now / 1000));
  const inner = sha256(`${CALLBACK_SECRET}r-1.${timestamp}.${body}`);
  const headers = {
    "webhook-id": "r-1",
    "webhook-timestamp": timestamp,
    "x-tagstitch-signature": `s1=${sha256(CALLBACK_SECRET + inner)}`,
  };
  return incoming({ method: "POST", path: "/stitched", body, headers });
}

test("the client of callbacks may have a longer name, as an import gives it", async () => {
  const { container } = started({
    change: (/** @type {any} */ version) => {
      const client = part(version, "client", "Tagstitch - Stitch callback");
      client.name += "_imported";
      callBackWithSecret(client);
      part(version, "tag", "GA4 - Visitor stitched").paused = false;
    },
  });

  await container.handle(callback());

  assert.equal(decide.received.length, 0);
  assert.deepEqual(
    sentEvents(ga4).map(({ en }) => en),
    ["visitor_stitched"],
  );
});

test("tags that start side by side each ask for an attribute, the next event's ask nobody", async () => {
  const stitch = await startStub(() => ({ found: true, attributes: {}, degraded: [] }));
  decision = () => UNCHANGED;
  const { container } = started({
    stitchUrl: stitch.url,
    change: (/** @type {any} */ version) => {
      const tag = part(version, "tag", "GA4 - Decided events");
      setParameter(tag, "eventName", "{{Tagstitch - Loyalty tier}}");
      version.tag.push({ ...tag, tagId: "990", name: "GA4 - Second" });
    },
  });

  await container.handle(incoming({ query: purchase() }));
  const first = stitch.received.length;
  await container.handle(incoming({ query: purchase() }));
  await stitch.stop();

  assert.equal(first, 2);
  assert.equal(stitch.received.length, first);
});

test("the client of hits may have any name", async () => {
  const { container } = started({
    change: (/** @type {any} */ version) =>
      (part(version, "client", "GA4").name = "The shop's own GA4 client"),
  });

  await container.handle(incoming({ query: purchase() }));

  assert.deepEqual(
    sentEvents(ga4).map(({ en }) => en),
    ["decided"],
  );
});

test("without the trigger condition the tag's own check still ends the loop", async () => {
  const { container } = started({
    change: (/** @type {any} */ version) =>
      part(version, "trigger", "Events that are not decided").filter.pop(),
  });

  await container.handle(incoming({ query: purchase() }));

  assert.equal(decide.received.length, 1);
  assert.equal(ga4.received.length, 1);
});

for (const [how, change] of /** @type {Array<[string, (version: any) => void]>} */ ([
  ["the decide tag", () => {}],
  ["the decision client", useDecisionClient],
])) {
  test(`with ${how} no request that leaves, to anybody, carries a guard`, async () => {
    const stitch = await startStub(() => ({ found: true, attributes: {}, status: "accepted" }));
    decision = () => UNCHANGED;
    const { container, log } = started({
      stitchUrl: stitch.url,
      change: (/** @type {any} */ version) => {
        change(version);
        setParameter(part(version, "tag", "Tagstitch - Start stitching"), "includeEvent", "true");
        const tag = part(version, "tag", "Tagstitch - Personalize");
        setParameter(tag, "source", "request");
        setParameter(tag, "serviceUrl", "{{Tagstitch - Decide URL}}");
      },
    });
    const login = { en: "login", uid: "u-1001", "ep.x-tagstitch": `{"guard":"${guard()}"}` };

    await container.handle(incoming({ query: hitQuery(login) }));
    await container.handle(incoming({ method: "POST", query: hitQuery({}), body: "en=login&uid=u-1" }));
    await stitch.stop();

    const guards = log
      .map(({ event }) => event?.["x-tagstitch"]?.guard)
      .filter((found) => typeof found === "string");
    assert.ok(guards.length >= 2);
    assert.equal(stitch.received.length, 2);
    assert.equal(ga4.received.length, 2);
    const left = [...decide.received, ...stitch.received, ...ga4.received].map(
      ({ url, headers, body }) => [url.href, headers, body],
    );
    for (const made of guards) assert.ok(!JSON.stringify(left).includes(made.split(".")[2]));
    assert.ok(!left.some(([, , body]) => String(body).includes("x-tagstitch")));
  });
}

test("an event that is sent again after consent sets no cookie and starts no stitch", async () => {
  const { container, log } = started();
  decision = () => UNCHANGED;

  await container.handle(incoming({ query: hitQuery({ en: "login", uid: "u-1", gcu: "1" }) }));

  const names = log.filter(({ kind }) => kind === "tag").map(({ name }) => name);
  assert.deepEqual(names.sort(), ["GA4 - Decided events", "Tagstitch - Decide and re-run"]);
});

test("several cookies of one decision reach the response", async () => {
  await decide.stop();
  const cookie = (/** @type {string} */ name) => ({
    type: "set_cookie",
    name,
    value: "on",
    expiry_minutes: 60,
  });
  decide = await startStub(() => ({
    decision_id: "d-1",
    event: UNCHANGED,
    personalization: { actions: [cookie("show_a"), cookie("show_b"), cookie("FPID")] },
  }));
  const { container } = started();

  const { headers } = await container.handle(incoming({ query: purchase() }));

  assert.deepEqual(
    headers.filter(([name]) => name === "set-cookie").map(([, value]) => value),
    [
      "show_a=on; Domain=example.com; Path=/; Max-Age=3600; SameSite=lax; Secure",
      "show_b=on; Domain=example.com; Path=/; Max-Age=3600; SameSite=lax; Secure",
    ],
  );
});
