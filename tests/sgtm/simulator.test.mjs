// @ts-check
/** What the sandbox and the container do, and the true effect of what is wrong. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseContainer } from "../../sgtm/simulator/container/export.js";
import { runScenarios } from "../../sgtm/simulator/template_tests.js";
import { until } from "./running_stack.mjs";
import { incoming, startStub } from "./simulated.mjs";
import { smallContainer, smallTemplate } from "./small_template.mjs";

const EVENT = `const event = require('getAllEventData')();`;
const LOG = `const log = require('logToConsole');`;
const consoled = (/** @type {any[]} */ log) =>
  log.filter(({ kind }) => kind === "console").map(({ values }) => values[0]);
const statuses = (/** @type {any[]} */ log) =>
  Object.fromEntries(
    log.filter(({ kind }) => kind === "tag").map(({ name, status }) => [name, status]),
  );
const cookies = (/** @type {any} */ answer) =>
  answer.headers
    .filter((/** @type {any} */ [name]) => name === "set-cookie")
    .map((/** @type {any} */ [, value]) => value);

test("a tag that changes its event changes nothing for another", async () => {
  const { container, log } = smallContainer({
    tags: {
      first: `${EVENT} event.value = 99; event.more = 1; data.gtmOnSuccess();`,
      second: `${EVENT} ${LOG} log(event); data.gtmOnSuccess();`,
    },
  });

  await container.handle(incoming({}));

  assert.deepEqual(consoled(log), [{ event_name: "page_view", value: 1 }]);
});

test("a tag that fails stops no other, whatever its priority", async () => {
  const { container, log } = smallContainer({
    tags: { first: "data.gtmOnFailure();", second: "data.gtmOnSuccess();", third: "undefined.x;" },
  });

  await container.handle(incoming({}));

  assert.deepEqual(statuses(log), { first: "failure", second: "success", third: "failure" });
});

test("tags start without waiting for each other, and the client waits for all", async () => {
  const slow = await startStub(() => new Promise((resolve) => setTimeout(resolve, 30, 200)));
  const { container, log } = smallContainer({
    tags: {
      slow: `${LOG} log('slow starts'); require('sendHttpRequest')('${slow.url}').then(() => { log('slow ends'); data.gtmOnSuccess(); });`,
      fast: `${LOG} log('fast'); data.gtmOnSuccess();`,
    },
  });

  await container.handle(incoming({}));
  await slow.stop();

  assert.deepEqual(consoled(log), ["slow starts", "fast", "slow ends"]);
  assert.equal(log[log.length - 1].kind, "response");
});

test("a second Set-Cookie header loses the first, setCookie loses none", async () => {
  const header = `const set = require('setResponseHeader'); set('Set-Cookie', 'a=1'); set('Set-Cookie', 'b=2'); data.gtmOnSuccess();`;
  const api = `const set = require('setCookie'); set('a', '1 2', {path: '/', 'max-age': 60}); set('b', '2', {httpOnly: true}); data.gtmOnSuccess();`;

  assert.deepEqual(
    cookies(await smallContainer({ tags: { header } }).container.handle(incoming({}))),
    ["b=2"],
  );
  assert.deepEqual(
    cookies(await smallContainer({ tags: { api } }).container.handle(incoming({}))),
    ["a=1%202; Path=/; Max-Age=60", "b=2; HttpOnly"],
  );
});

test("a cookie that a tag sets after the response has left is lost, and said to be", async () => {
  const { container, log } = smallContainer({
    client: `require('claimRequest')(); require('runContainer')({event_name: 'a'}); require('returnResponse')();`,
    tags: {
      late: `require('callLater')(() => { require('setCookie')('a', '1'); data.gtmOnSuccess(); });`,
    },
  });

  const answer = await container.handle(incoming({}));
  const late = await until(() => log.find(({ kind }) => kind === "too_late"), "the late cookie");

  assert.deepEqual(cookies(answer), []);
  assert.equal(late.what, "cookie");
});

test("a client that claims later than synchronously is refused", async () => {
  const { container, log } = smallContainer({
    client: `require('callLater')(() => { require('claimRequest')(); require('returnResponse')(); });`,
  });

  const answer = await container.handle(incoming({}));
  const error = await until(() => log.find(({ kind }) => kind === "error"), "the refusal");

  assert.equal(answer.status, 400);
  assert.match(error.message, /synchronously/);
});

test("a client that claims and never answers leaves the browser waiting", async () => {
  const { container } = smallContainer({ client: `require('claimRequest')();` });
  const waiting = new Promise((resolve) => setTimeout(resolve, 100, "waiting"));

  assert.equal(await Promise.race([container.handle(incoming({})), waiting]), "waiting");
});

test("a permission that is missing stops the call", async () => {
  const template = smallTemplate({
    code: `require('getEventData')('user_id'); data.gtmOnSuccess();`,
    permissions: [
      [
        "read_event_data",
        [
          { key: "eventDataAccess", value: { type: 1, string: "specific" } },
          { key: "keyPatterns", value: { type: 2, listItem: [{ type: 1, string: "client_*" }] } },
        ],
      ],
    ],
    tests: "scenarios:\n- name: a\n  code: runCode({});",
  });

  const [{ error }] = await runScenarios(template);

  assert.match(String(error), /read_event_data does not list user_id/);
});

for (const [call, id] of [
  ["require('setCookie')('other', 'a', {})", "set_cookies"],
  ["require('sendHttpRequest')('https://evil.example.net/')", "send_http"],
  ["require('hmacSha256')('a', 'other')", "use_custom_private_keys"],
  ["require('getCookieValues')('other')", "get_cookies"],
  ["require('sendMessage')('other', {})", "use_message"],
  ["require('getRequestHeader')('other')", "read_request"],
  ["require('setResponseHeader')('other', 'a')", "access_response"],
]) {
  test(`${call} is refused when the permission lists something else`, async () => {
    const one = (/** @type {string} */ string) => ({ type: 2, listItem: [{ type: 1, string }] });
    const row = (/** @type {Record<string, string>} */ fields) => ({
      type: 2,
      listItem: [
        {
          type: 3,
          mapKey: Object.keys(fields).map((string) => ({ type: 1, string })),
          mapValue: Object.values(fields).map((string) => ({ type: 1, string })),
        },
      ],
    });
    /** @type {Record<string, any[]>} */
    const listed = {
      set_cookies: [
        {
          key: "allowedCookies",
          value: row({ name: "mine", domain: "*", path: "*", secure: "any", session: "any" }),
        },
      ],
      send_http: [
        { key: "allowedUrls", value: { type: 1, string: "specific" } },
        { key: "urls", value: one("https://api.example.com/*") },
      ],
      use_custom_private_keys: [{ key: "keyIds", value: one("mine") }],
      get_cookies: [
        { key: "cookieAccess", value: { type: 1, string: "specific" } },
        { key: "cookieNames", value: one("mine") },
      ],
      use_message: [
        { key: "allowedActions", value: { type: 1, string: "specific" } },
        { key: "messageTypes", value: row({ type: "mine", action: "send" }) },
      ],
      read_request: [
        { key: "requestAccess", value: { type: 1, string: "specific" } },
        { key: "headersAllowed", value: { type: 8, boolean: true } },
        { key: "headerAccess", value: { type: 1, string: "specific" } },
        { key: "headerWhitelist", value: row({ headerName: "mine" }) },
      ],
      access_response: [
        { key: "writeResponseAccess", value: { type: 1, string: "specific" } },
        { key: "writeHeadersAllowed", value: { type: 8, boolean: true } },
        { key: "writeHeaderAccess", value: { type: 1, string: "specific" } },
        { key: "writeHeaderWhitelist", value: row({ headerName: "mine" }) },
      ],
    };
    const { Runtime } = await import("../../sgtm/simulator/runtime.js");
    const run = (/** @type {string} */ code) =>
      new Runtime(smallTemplate({ code, permissions: [[id, listed[id]]] }), {
        name: "small",
        exchange: { request: { headers: {} }, response: { setHeader() {}, addCookie() {} } },
        credentials: { keys: { mine: "YQ==" } },
      }).run({});

    assert.throws(() => run(call), { name: "Error", message: /does not (list|allow)/ });
    if (id !== "send_http") run(call.replace("'other'", "'mine'"));
  });
}

test("what the language lacks is not there when the code runs either", async () => {
  for (const name of [
    "Date",
    "Math",
    "JSON",
    "Promise",
    "globalThis",
    "Array",
    "Object",
    "eval",
    "Function",
    "console",
    "process",
  ]) {
    const [{ error }] = await runScenarios(
      smallTemplate({
        code: `return ${name};`,
        tests: "scenarios:\n- name: a\n  code: runCode({});",
      }),
    );
    assert.match(String(error), /is not defined/, name);
  }
});

test("a promise of a variable is awaited by conditions and fields, once for one view of an event", async () => {
  const { container, log } = smallContainer({
    variables: {
      Slow: `${LOG} log('asked'); return require('Promise').create((resolve) => resolve('yes'));`,
    },
    tags: { only: `${LOG} log(data.text); data.gtmOnSuccess();` },
    parts: {
      trigger: [
        {
          triggerId: "50",
          type: "CUSTOM_EVENT",
          customEventFilter: [],
          filter: [
            {
              type: "EQUALS",
              parameter: [
                { type: "TEMPLATE", key: "arg0", value: "{{Slow}}" },
                { type: "TEMPLATE", key: "arg1", value: "yes" },
              ],
            },
          ],
        },
      ],
    },
  });
  container.tags[0].firingTriggerId = ["50"];
  container.tags[0].parameter = [{ type: "TEMPLATE", key: "text", value: "it is {{Slow}}" }];

  await container.handle(incoming({}));

  assert.deepEqual(consoled(log), ["asked", "it is yes"]);
});

test("a transformation lets variables be asked anew for each tag", async () => {
  const { container, log } = smallContainer({
    variables: { Slow: `${LOG} log('asked'); return 1;` },
    tags: { first: "data.gtmOnSuccess();", second: "data.gtmOnSuccess();" },
    parts: {
      transformation: [
        {
          transformationId: "60",
          name: "add",
          type: "tf_augment_event",
          parameter: [
            {
              type: "LIST",
              key: "augmentEventTable",
              list: [
                {
                  type: "MAP",
                  map: [
                    { type: "TEMPLATE", key: "paramName", value: "added" },
                    { type: "TEMPLATE", key: "paramValue", value: "{{Slow}}" },
                  ],
                },
              ],
            },
          ],
        },
      ],
    },
  });

  await container.handle(incoming({}));

  assert.deepEqual(consoled(log), ["asked", "asked"]);
});

test("transformations allow first, then add, then exclude; all tags but the named ones", async () => {
  const table = (/** @type {string} */ key, /** @type {Record<string, string>} */ fields) => ({
    type: "LIST",
    key,
    list: [
      {
        type: "MAP",
        map: Object.entries(fields).map(([name, value]) => ({
          type: "TEMPLATE",
          key: name,
          value,
        })),
      },
    ],
  });
  const { container, log } = smallContainer({
    tags: {
      seen: `${EVENT} ${LOG} log(event); data.gtmOnSuccess();`,
      spared: `${EVENT} ${LOG} log(event); data.gtmOnSuccess();`,
    },
    parts: {
      transformation: [
        {
          transformationId: "61",
          name: "exclude",
          type: "tf_exclude_params",
          parameter: [
            table("excludedParamsTable", { excludedParams: "value" }),
            { type: "BOOLEAN", key: "allTagsExcept", value: "true" },
            table("affectedTags", { tagReference: "spared" }),
          ],
        },
        {
          transformationId: "62",
          name: "add",
          type: "tf_augment_event",
          parameter: [table("augmentEventTable", { paramName: "more", paramValue: "1" })],
        },
        {
          transformationId: "63",
          name: "allow",
          type: "tf_allow_params",
          parameter: [table("allowedParamsTable", { allowedParams: "value" })],
        },
      ],
    },
  });

  await container.handle(incoming({}));

  assert.deepEqual(consoled(log), [{ more: "1" }, { value: 1, more: "1" }]);
});

test("clients of a higher priority are asked first, and one claims", async () => {
  const { container } = smallContainer({});
  const answer = `require('claimRequest')(); require('setResponseBody')('second'); require('returnResponse')();`;
  const other = smallContainer({ client: answer });
  container.parts.templates.set("cvt_2_other", [...other.container.parts.templates.values()][0]);
  container.clients.unshift({ name: "Other", type: "cvt_2_other", parameter: [], priority: 5 });

  assert.equal((await container.handle(incoming({}))).body.toString(), "second");
});

test("messages reach the client that listened on the start of that event", async () => {
  const { container } = smallContainer({
    client: `
require('claimRequest')();
let heard = '';
const listen = (bind) => bind(require('addMessageListener'))('hello', (type, message) => { heard = heard + message.to; });
require('runContainer')({event_name: 'a'}, () => { require('setResponseBody')(heard); require('returnResponse')(); }, listen);`,
    tags: {
      says: `if (require('hasMessageListener')('hello')) require('sendMessage')('hello', {to: 'you'}); data.gtmOnSuccess();`,
    },
  });

  assert.equal((await container.handle(incoming({}))).body.toString(), "you");
});

test("a container that runs itself without end is stopped", async () => {
  const { container, log } = smallContainer({
    tags: { again: `${EVENT} require('runContainer')(event, data.gtmOnSuccess);` },
  });

  await container.handle(incoming({}));

  assert.match(log.find(({ message }) => message).message, /without end/);
});

test("HTTP: every status resolves, what is silent or closed rejects with its reason", async () => {
  const stub = await startStub(({ url }) =>
    url.pathname === "/silent" ? new Promise(() => {}) : 503,
  );
  const { container, log } = smallContainer({
    tags: {
      calls: `
${LOG}
const send = require('sendHttpRequest');
const Promise = require('Promise');
const tell = (what) => log(what.statusCode || what.reason);
Promise.all([
  send('${stub.url}/error', {timeout: 15000}).then(tell),
  send('${stub.url}/silent', {timeout: 50}).catch(tell),
  send('http://127.0.0.1:9/closed').catch(tell)
]).then(data.gtmOnSuccess);`,
    },
  });

  await container.handle(incoming({}));
  await stub.stop();

  assert.deepEqual(consoled(log).sort(), [503, "failed", "timed_out"]);
});

test("what a server keeps, it keeps as copies and for one template alone", async () => {
  const { container, log } = smallContainer({
    tags: {
      keeps: `
const storage = require('templateDataStorage');
const kept = storage.getItemCopy('a') || {count: 0};
kept.count = kept.count + 1;
if (kept.count === 1) storage.setItemCopy('a', kept);
kept.count = 99;
${LOG} log(storage.getItemCopy('a').count);
data.gtmOnSuccess();`,
      other: `${LOG} log(require('templateDataStorage').getItemCopy('a')); data.gtmOnSuccess();`,
    },
  });

  await container.handle(incoming({}));
  await container.handle(incoming({}));

  assert.deepEqual(consoled(log), [1, null, 1, null]);
});

test("a scenario that fails, throws or breaks later fails", async () => {
  const tests = `
scenarios:
- name: holds
  code: |-
    runCode({});
    assertApi('gtmOnSuccess').wasCalled();
- name: does not hold
  code: assertThat(1).isEqualTo(2);
- name: breaks later
  code: "require('callLater')(() => assertApi('gtmOnSuccess').wasCalled());"
- name: breaks in a promise
  code: "return require('Promise').create((resolve) => resolve(1)).then(() => fail('here'));"
- name: mocks what does not exist
  code: mock('setInEventData', 1);`;

  const results = await runScenarios(smallTemplate({ code: "data.gtmOnSuccess();", tests }));

  assert.deepEqual(
    results.map(({ name, error }) => [name, Boolean(error)]),
    [
      ["holds", false],
      ["does not hold", true],
      ["breaks later", true],
      ["breaks in a promise", true],
      ["mocks what does not exist", true],
    ],
  );
});

test("an export with what the simulator lacks, or with loose ends, is refused", () => {
  const version = (/** @type {any} */ parts) => ({
    exportFormatVersion: 2,
    containerVersion: { container: { usageContext: ["SERVER"] }, ...parts },
  });
  const named = (/** @type {any} */ part) => ({ name: "A", ...part });

  assert.throws(() => parseContainer({}), /not a container export/);
  assert.throws(
    () =>
      parseContainer({
        exportFormatVersion: 2,
        containerVersion: { container: { usageContext: ["WEB"] } },
      }),
    /not a server container/,
  );
  for (const [parts, message] of /** @type {Array<[any, RegExp]>} */ ([
    [{ tag: [named({ tagId: "1", type: "sgtmadsct" })] }, /the simulator has no tag sgtmadsct/],
    [{ variable: [named({ variableId: "1", type: "smm" })] }, /the simulator has no variable smm/],
    [{ trigger: [named({ triggerId: "1", type: "TIMER" })] }, /the simulator has no trigger TIMER/],
    [{ client: [named({ clientId: "1", type: "cvt_1_2" })] }, /no template cvt_1_2/],
    [{ tag: [named({ tagId: "1", type: "sgtmgaaw", firingTriggerId: ["9"] })] }, /no trigger 9/],
    [
      { tag: [named({ tagId: "1", type: "sgtmgaaw", notes: "{{Unknown}}" })] },
      /no variable \{\{Unknown\}\}/,
    ],
    [
      {
        tag: [named({ tagId: "1", type: "sgtmgaaw" })],
        variable: [named({ variableId: "1", type: "c" })],
      },
      /the same id/,
    ],
    [
      { variable: ["1", "2"].map((id) => named({ variableId: id, type: "c" })) },
      /A: two of the kind variable have this name/,
    ],
  ])) {
    assert.throws(() => parseContainer(version(parts)), message);
  }
});
