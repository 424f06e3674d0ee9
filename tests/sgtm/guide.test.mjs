// @ts-check
/** The check of a live container in ten minutes, as docs/sgtm.md has it, in the simulated one. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, beforeEach, test } from "node:test";
import { PYTHON, startStack, until } from "./running_stack.mjs";
import {
  CALLBACK_KEY,
  makeContainer,
  part,
  sentEvents,
  setParameter,
  startServer,
  startStub,
} from "./simulated.mjs";

const GUIDE = readFileSync(new URL("../../docs/sgtm.md", import.meta.url), "utf8");
const STEPS = new Map(
  [...GUIDE.matchAll(/^\| ([A-Z]) \| (.+) \| \d \|$/gm)].map(([, letter, text]) => [letter, text]),
);
const PREVIEW = "cHJldmlldw==";
const SECRET = `whsec_${CALLBACK_KEY}`;
const KEY = "a key for the container, made at random";
const BROWSER_KEY = "a key for browsers, made at random too";

/** With the scopes that the guide asks for, and no more. */
const KEYS = [
  { id: "sgtm", secret: KEY, scopes: ["decide", "lookup", "stitch"] },
  { id: "browser", secret: BROWSER_KEY, scopes: ["lookup"], views: ["features_by_anonymous_id"] },
];

const PROFILE = {
  identifiers: { client_id: ["1234567890.1763700000"] },
  attributes: { user_loyalty_tier: "Gold", city: "Orléans" },
};

const skip = PYTHON
  ? false
  : "needs the project's Python: make up installs it, or name it in PYTHON";

/** @type {Awaited<ReturnType<typeof startStack>>} */
let stack;
/** @type {Awaited<ReturnType<typeof startServer>>} */
let sgtm;
/** @type {Awaited<ReturnType<typeof startStub>>} */
let ga4;
/** @type {Array<Record<string, any>>} */
let log;

before(async () => {
  if (skip) return;
  sgtm = await startServer();
  ga4 = await startStub(() => 204);
  const endpoint = { id: "main", url: `${sgtm.url}/stitched`, secret: SECRET, scheme: "sha256" };
  stack = await startStack({
    TAGSTITCH_AUTH: "key",
    TAGSTITCH_KEYS: JSON.stringify(KEYS),
    TAGSTITCH_CONSENT_DEFAULT: "denied",
    TAGSTITCH_CALLBACKS: JSON.stringify([
      { ...endpoint, attributes: ["*"], acknowledges: true, allow_private: true },
    ]),
  });
  await stack.importProfiles([PROFILE]);
  await until(async () => {
    const health = await (await fetch(`${stack.url}/decide/health`)).json();
    return /** @type {any} */ (health).rules.count;
  }, "the rules in decide");
});

after(async () => {
  await stack?.stop();
  await sgtm?.close();
  await ga4?.stop();
});

beforeEach(() => {
  if (skip) return;
  use();
  ga4.received.length = 0;
  sgtm.received.length = 0;
});

/** @param {(version: any) => void} [change] */
function use(change) {
  const made = makeContainer({
    decideUrl: `${stack.url}/decide/decide`,
    stitchUrl: `${stack.url}/stitch_sync`,
    ga4Url: ga4.url,
    constants: [`Tagstitch - Key=${KEY}`, `Tagstitch - Browser key=${BROWSER_KEY}`],
    change,
  });
  sgtm.holder.current = made.container;
  log = made.log;
}

/** The command of a step; of "the same with …", that of step B with other parameters. @param {string} letter @returns {string} */
function commandOf(letter) {
  const text = STEPS.get(letter) ?? "";
  const own = /^`curl -i (.+)`$/.exec(text);
  if (own) return own[1];
  const [, parameters] = /^The same with `([^`]+)`$/.exec(text) ?? [];
  assert.ok(parameters, `step ${letter} has a command`);
  return commandOf("B").replace(/en=purchase[^"]*/, parameters);
}

/** Send what curl would. @param {string} command */
function send(command) {
  const [, url] = /^"\$SGTM([^"]*)"/.exec(command) ?? [];
  const headers = [...command.matchAll(/-H "([^:]+): ([^"]*)"/g)].map(
    ([, name, value]) =>
      /** @type {[string, string]} */ ([name, value.replace("$PREVIEW", PREVIEW)]),
  );
  return fetch(`${sgtm.url}${url}`, { headers });
}

const names = () => sentEvents(ga4).map(({ en }) => en);
const answered = () =>
  until(
    () =>
      log.find(
        ({ kind, client }) => kind === "response" && client === "Tagstitch - Stitch callback",
      ),
    "the answer to the callback",
  );

test("B: the purchase runs twice, leaves as micro_purchase and without the mark", { skip }, async () => {
  await send(commandOf("B"));

  assert.deepEqual(names(), ["micro_purchase"]);
  assert.equal(log.filter(({ kind }) => kind === "event").length, 2);
  assert.ok(!JSON.stringify(ga4.received).includes("tagstitch"));
});

test("C: the login's stitch comes back into the preview and is answered 200", { skip }, async () => {
  await send(commandOf("C"));

  assert.equal((await answered()).status, 200);
  const callback = sgtm.received.find(({ path }) => path === "/stitched");
  assert.equal(callback?.headers["x-gtm-server-preview"], PREVIEW);
});

test("D: the banner's cookie is in the answer", { skip }, async () => {
  const answer = await send(commandOf("D"));

  assert.match(answer.headers.getSetCookie().join(), /^show_discount_banner=electronics_10off;/);
});

test("E: the stitcher answers with attributes", { skip }, async () => {
  const answer = await send(commandOf("E"));

  assert.deepEqual(await answer.json(), {
    attributes: { user_loyalty_tier: "Gold", preferred_category: "Electronics" },
  });
});

test("F: a condition on the tier lets the tag fire for one visitor alone", { skip }, async () => {
  use((version) =>
    part(version, "trigger", "Decided events").filter.push({
      type: "EQUALS",
      parameter: [
        { type: "TEMPLATE", key: "arg0", value: "{{Tagstitch - Loyalty tier}}" },
        { type: "TEMPLATE", key: "arg1", value: "Gold" },
      ],
    }),
  );

  await send(commandOf("D").replace("1234567890.1763700000", "987.1763700000"));
  await send(commandOf("D"));

  assert.deepEqual(
    sentEvents(ga4).map(({ cid }) => cid),
    ["1234567890.1763700000"],
  );
});

test("G: with the sha256 scheme the callback is answered 200, accents and all", { skip }, async () => {
  use((version) => {
    const client = part(version, "client", "Tagstitch - Stitch callback");
    setParameter(client, "scheme", "sha256");
    setParameter(client, "secret", SECRET);
  });

  await send(commandOf("C"));

  assert.equal((await answered()).status, 200);
  const { event } = log.find(({ event }) => event?.event_name === "visitor_stitched") ?? {};
  assert.equal(event.visitor.city, "Orléans");
});

test("the commands for this machine do what the guide says of them", { skip }, async () => {
  const commands = [
    ...GUIDE.matchAll(
      /^curl -\w '?http:\/\/127\.0\.0\.1:8090([^' \n]*)'?(?: -H '([^:]+): ([^']*)')?$/gm,
    ),
  ];
  const [, shown] = /-H 'Cookie: .*\n```\n```json\n(.*)\n```/.exec(GUIDE) ?? [];
  const sendOne = (/** @type {string[]} */ [, path, name, value]) =>
    fetch(`${sgtm.url}${path}`, { headers: name ? { [name]: value } : {} });

  await sendOne(commands[0]);
  assert.deepEqual(names(), ["micro_purchase"]);
  await sendOne(commands[1]);
  assert.deepEqual(names(), ["micro_purchase"]);
  const own = await sendOne(commands[2]);

  assert.equal(commands.length, 3);
  assert.equal(await own.text(), shown);
});
