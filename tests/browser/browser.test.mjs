// @ts-check
/** The sample page in a real browser: its hits enter the simulated container, the stack decides. */

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { startStack, until } from "../sgtm/running_stack.mjs";
import {
  CALLBACK_KEY,
  makeContainer,
  part,
  sentEvents,
  setParameter,
  startServer,
  startStub,
  useDecisionClient,
} from "../sgtm/simulated.mjs";
import { startChromium } from "./chromium.mjs";

const BANNER = '[data-personalization="show_discount_banner"]';
const TEXT = "10 % off electronics, for you, today";
const COOKIE = "show_discount_banner=electronics_10off";

/** Rules beside those of the samples: a token for each page, messages for purchases. */
const MESSAGE_RULES = {
  personalization_rules: {
    give_token: {
      event_name_trigger: "page_view",
      match_all: true,
      action_type: "return_value",
      action_details: { key: "push_token", value: true },
    },
    thank: message("order_thanks", "7.5"),
    attack: message("<img src=x onerror=alert(1)>", "8"),
    attack_by_name: message("__proto__", "9"),
  },
};

/** @param {string} code @param {string} value of the purchase that sends it */
function message(code, value) {
  return {
    event_name_trigger: "purchase",
    conditions: { value: { equals: Number(value) } },
    action_type: "push_message",
    action_details: { channel: "shop", payload: { code } },
  };
}

/** @type {Awaited<ReturnType<typeof startStack>>} */
let stack;
/** @type {Awaited<ReturnType<typeof startServer>>} */
let sgtm;
/** @type {Awaited<ReturnType<typeof startStub>>} */
let ga4;
/** @type {Awaited<ReturnType<typeof startChromium>>} */
let chromium;
/** @type {Awaited<ReturnType<typeof chromium.newPage>>} */
let page;

before(async () => {
  chromium = await startChromium();
  sgtm = await startServer();
  ga4 = await startStub(() => 204);
  const main = {
    id: "main",
    url: `${sgtm.url}/stitched`,
    secret: `whsec_${CALLBACK_KEY}`,
    attributes: ["*"],
    allow_private: true,
  };
  stack = await startStack({
    TAGSTITCH_RETRY_SCALE: "0.01",
    TAGSTITCH_CALLBACKS: JSON.stringify([main]),
  });
  await stack.pushRules(MESSAGE_RULES);
  await until(hasToken, "the rules of this test in decide");
});

/** @param {string} url of a stack @returns {Promise<any>} what decide says of a page view */
async function decided(url) {
  const answer = await fetch(`${url}/decide`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: '{"event": {"event_name": "page_view", "client_id": "1.2"}}',
  });
  return answer.json();
}

async function hasToken() {
  const { personalization } = await decided(stack.url);
  return personalization.actions.some((/** @type {any} */ { key }) => key === "push_token");
}

after(async () => {
  await chromium?.stop();
  await stack?.stop();
  await sgtm?.close();
  await ga4?.stop();
});

beforeEach(async () => {
  use();
  ga4.received.length = 0;
  sgtm.received.length = 0;
  page = await chromium.newPage();
});

/** @param {(version: any) => void} [change] */
function use(change = () => {}) {
  sgtm.holder.current = makeContainer({
    decideUrl: `${stack.url}/decide/decide`,
    stitchUrl: `${stack.url}/stitch_sync`,
    ga4Url: ga4.url,
    change: (version) => {
      part(version, "tag", "GA4 - Visitor stitched").paused = false;
      change(version);
    },
  }).container;
}

/** @param {Record<string, string>} [parameters] */
const shop = (parameters = {}) =>
  `${stack.url}/_local/shop/?${new URLSearchParams({ container: sgtm.url, ...parameters })}`;

/** @param {string} name @param {number} [count] */
const sent = (name, count = 1) =>
  until(() => {
    const events = sentEvents(ga4).filter(({ en }) => en === name);
    return events.length >= count ? events : undefined;
  }, `${name} at GA4`);

const banner = () =>
  page.run(`(({hidden, innerHTML}) => ({hidden, innerHTML}))(document.querySelector('${BANNER}'))`);
const displayed = () =>
  page.run("dataLayer.filter(({event}) => event === 'personalization_displayed')");
const cookieNames = async () => (await page.cookies()).map(({ name }) => name);

/** Two frames: what a listener was told is in the page by then. */
const settled = () =>
  page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");

async function logIn() {
  await page.click("[data-event=login]");
  await sent("visitor_stitched");
}

test("the decision's cookie comes with the answer to a hit, and its banner appears", async () => {
  await page.open(shop());
  await page.click("[data-consent=granted]");
  await logIn();
  assert.deepEqual(await banner(), { hidden: true, innerHTML: "" });

  await page.click("[data-event=view_item]");
  await page.until(`!document.querySelector('${BANNER}').hidden`);

  assert.deepEqual(await banner(), { hidden: false, innerHTML: TEXT });
  assert.deepEqual(await displayed(), [
    {
      event: "personalization_displayed",
      personalization_name: "show_discount_banner",
      personalization_code: "electronics_10off",
    },
  ]);
  const [hit] = await sent("personalization_displayed");
  assert.equal(hit["ep.personalization_code"], "electronics_10off");
  assert.deepEqual(page.errors, []);
});

test("the next page shows the banner at once, and tells of it once", async () => {
  await page.open(shop());
  await page.click("[data-consent=granted]");
  await page.run(`document.cookie = "${COOKIE}; Path=/"`);

  await page.open(shop({ page: "2" }));
  await page.click("[data-event=view_item]");
  await sent("view_item");
  await page.run("document.dispatchEvent(new Event('visibilitychange'))");

  assert.equal((await banner()).innerHTML, TEXT);
  assert.equal((await displayed()).length, 1);
});

test("without a cookie store the banner appears when the page is seen again", async () => {
  await page.prepare("delete globalThis.cookieStore; delete Window.prototype.cookieStore");
  await page.open(shop());
  assert.equal(await page.run("typeof cookieStore"), "undefined");
  await page.click("[data-consent=granted]");
  await page.run(`document.cookie = "${COOKIE}; Path=/"`);
  await settled();
  assert.deepEqual(await banner(), { hidden: true, innerHTML: "" });

  await page.run("document.dispatchEvent(new Event('visibilitychange'))");

  assert.deepEqual(await banner(), { hidden: false, innerHTML: TEXT });
});

const HARMFUL = [
  "<img src=x onerror=alert(1)>",
  "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
  "electronics_10off<script>alert(1)</script>",
  "electronics_10off%00",
  "javascript:alert(1)",
  "some_other_code",
  "__proto__",
  "constructor",
  "toString",
  "%",
  "%E0%A4%A",
  "",
];

test("a cookie shows nothing but the page's own texts, whatever it says", async () => {
  await page.open(shop());
  await page.click("[data-consent=granted]");
  for (const [number, value] of HARMFUL.entries()) {
    await page.run(`document.cookie = ${JSON.stringify(`show_discount_banner=${value}; Path=/`)}`);

    await page.open(shop({ page: String(number) }));
    await settled();

    assert.deepEqual(await banner(), { hidden: true, innerHTML: "" }, value);
    assert.deepEqual(await displayed(), [], value);
    assert.deepEqual([page.dialogs, page.errors], [[], []], value);
    assert.equal(await page.run("document.images.length"), 0, value);
  }
});

test("whoever denies gets no cookie, and sees no banner of a cookie from before", async () => {
  await page.open(shop());
  await page.click("[data-consent=granted]");
  await logIn();
  await page.click("[data-consent=denied]");
  await page.click("[data-event=view_item]");
  await sent("view_item");
  await settled();
  assert.ok(!(await cookieNames()).includes("show_discount_banner"));

  await page.run(`document.cookie = "${COOKIE}; Path=/"`);
  await page.open(shop({ page: "2" }));
  await settled();

  assert.deepEqual(await banner(), { hidden: true, innerHTML: "" });
  assert.deepEqual(await displayed(), []);
});

test("whoever withdraws consent loses the banner in the same moment", async () => {
  await page.open(shop());
  await page.click("[data-consent=granted]");
  await page.run(`document.cookie = "${COOKIE}; Path=/"`);
  await page.until(`!document.querySelector('${BANNER}').hidden`);

  await page.click("[data-consent=denied]");

  assert.deepEqual(await banner(), { hidden: true, innerHTML: "" });
});

test("before anybody was asked, nothing is shown and no identifier is kept", async () => {
  await page.open(shop());
  await page.click("[data-event=view_item]");
  await sent("view_item");

  assert.deepEqual(await cookieNames(), []);
  assert.deepEqual(await banner(), { hidden: true, innerHTML: "" });
});

test("a link cannot make the page send its hits elsewhere", async () => {
  const elsewhere = await startStub(() => 204);
  const url = elsewhere.url.replace("127.0.0.1", "localhost");

  await page.open(`${stack.url}/_local/shop/?container=${encodeURIComponent(url)}`);
  await page.click("[data-event=view_item]");
  await page.until("dataLayer.length === 2");
  await settled();
  await elsewhere.stop();

  assert.deepEqual(elsewhere.received, []);
});

/** The page may read what the decision client answers. @param {any} version */
function answerValues(version) {
  useDecisionClient(version);
  const client = part(version, "client", "Tagstitch - Decision");
  setParameter(client, "allowedOrigins", stack.url);
  client.parameter.push(
    { type: "BOOLEAN", key: "personalization", value: "true" },
    { type: "BOOLEAN", key: "returnValues", value: "true" },
  );
}

const heard = () =>
  page.run("(({hidden, innerHTML}) => ({hidden, innerHTML}))(document.querySelector('#message'))");

/** The last message that the page has heard of, whatever it did with it. */
const lastHeard = () => page.run("sessionStorage.getItem('lastPush')");

/** @param {string} value */
async function buy(value) {
  const before = await lastHeard();
  await page.run(`dataLayer.push({event: "purchase", value: ${value}})`);
  await until(async () => (await lastHeard()) !== before, "a message");
}

test("a message comes while the page is open, and its text is the page's", async () => {
  use(answerValues);
  await page.open(shop({ values: "json" }));
  await page.click("[data-consent=granted]");
  await page.open(shop({ values: "json", page: "2" }));
  await sent("page_view", 2);

  await buy("7.5");

  assert.deepEqual(await heard(), {
    hidden: false,
    innerHTML: "Thank you: your sticker is being packed",
  });
});

test("a message with HTML or a name of the language in it shows nothing", async () => {
  use(answerValues);
  await page.open(shop({ values: "json" }));
  await page.click("[data-consent=granted]");
  await page.open(shop({ values: "json", page: "2" }));
  await sent("page_view", 2);

  await buy("8");
  await buy("9");

  assert.deepEqual(await heard(), { hidden: true, innerHTML: "" });
  assert.deepEqual([page.dialogs, page.errors], [[], []]);
});

test("whoever has not allowed it listens to nothing", async () => {
  use(answerValues);
  await page.open(shop({ values: "json" }));
  const asked = await page.until(
    "(names => names.some(name => name.includes('/g/collect')) && names)(performance.getEntriesByType('resource').map(({name}) => name))",
  );
  await settled();

  assert.ok(!asked.some((/** @type {string} */ url) => url.includes("/_local/push")));
});

test("the page that `tagstitch up` names works as it is, with the container beside it", async () => {
  const own = await startStack({}, ["--container-port", "0"]);
  try {
    await decided(own.url); // a busy machine takes longer for the first than the tags wait
    await page.open(own.document.sample_page);
    await page.click("[data-consent=granted]");
    await page.click("[data-event=login]");
    await until(async () => {
      const answer = await fetch(`${own.url}/_local/callbacks`);
      return /** @type {any} */ (await answer.json()).count;
    }, "the callback of the login");

    await page.click("[data-event=view_item]");
    await page.until(`!document.querySelector('${BANNER}').hidden`);

    assert.equal((await banner()).innerHTML, TEXT);
  } finally {
    await own.stop();
  }
});

const ANONYMOUS_ID = "5f0c2a9e-3b1d-4c58-9a67-1e2d3c4b5a69";

/** The cookies of a visitor of the shop, as open to other sites as a cookie can be. */
async function haveCookies() {
  const open = { url: sgtm.url, sameSite: "None", secure: true };
  await page.setCookie({ ...open, name: "anonymous_id", value: ANONYMOUS_ID, httpOnly: true });
  await page.setCookie({ ...open, name: "consent", value: "granted" });
}

/** What the page's scripts can read of an answer. @param {string} mode */
const read = (mode) =>
  page.run(
    `fetch("${sgtm.url}/stitch", {credentials: "include", mode: "${mode}"}).then(answer => answer.text(), ({name}) => name)`,
  );

test("the shop's own page reads what a browser may know of itself", async () => {
  use((version) =>
    setParameter(part(version, "client", "Tagstitch - Stitcher"), "allowedOrigins", stack.url),
  );
  await haveCookies();
  await page.open(shop());

  assert.deepEqual(JSON.parse(await read("cors")), {
    attributes: { user_loyalty_tier: "Gold", preferred_category: "Electronics" },
  });
});

/** Of another port with the visitor's cookies; of another site without, and refused besides. */
const STRANGERS = [
  { host: "127.0.0.1", sendsCookies: true, statuses: [403, 200, 200] },
  { host: "localhost", sendsCookies: false, statuses: [403, 403, 403] },
];

for (const { host, sendsCookies, statuses } of STRANGERS) {
  test(`a stranger's page on ${host} reads nothing of it, by whatever way it asks`, async () => {
    const stranger = await startStub(() => "<!doctype html><title>stranger</title>");
    await haveCookies();
    await page.open(`${stranger.url.replace("127.0.0.1", host)}/`);

    const texts = [await read("cors"), await read("no-cors")];
    const script = `Object.assign(document.createElement("script"), {src: "${sgtm.url}/stitch"})`;
    await page.run(
      `new Promise(done => document.head.append(Object.assign(${script}, {onload: done, onerror: done})))`,
    );
    await stranger.stop();

    assert.deepEqual(texts, ["TypeError", ""]);
    const asked = sgtm.received.filter(({ path }) => path === "/stitch");
    const container = /** @type {any} */ (sgtm.holder.current);
    const answers = await Promise.all(asked.map((each) => container.handle(each)));
    assert.deepEqual(
      answers.map(({ status }) => status),
      statuses,
    );
    assert.equal(
      asked.every(({ headers }) => headers.cookie?.includes(ANONYMOUS_ID)),
      sendsCookies,
    );
  });
}
