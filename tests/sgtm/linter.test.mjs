// @ts-check
/** Templates that are wrong on purpose: each is refused, with the reason. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { lintTemplate } from "../../sgtm/simulator/lint.js";
import { parseTemplate } from "../../sgtm/simulator/template.js";
import { smallTemplate, templateText } from "./small_template.mjs";

const DONE = "data.gtmOnSuccess(); data.gtmOnFailure();";
const lint = (/** @type {any} */ parts) => lintTemplate(smallTemplate(parts));

test("a template of the language alone is fine", () => {
  const code = `
const getType = require('getType');
const keys = [];
for (const each of [1, 2]) { if (getType(each) === 'number') keys.push(each); }
for (let i = 0; i < 3; i++) { switch (i) { case 1: break; default: continue; } }
function first(list) { return list.length > 0 ? list[0] : undefined; }
const done = () => data.gtmOnSuccess();
if (first(keys)) return done();
data.gtmOnFailure();`;

  assert.deepEqual(lint({ code }), []);
});

const SYNTAX = {
  "a template literal": "const a = `b`;",
  "destructuring an object": "const {a} = data;",
  "destructuring a list": "const [a] = [1];",
  "spreading a list": "const a = [...[1]];",
  "spreading an object": "const a = {...{}};",
  "a default parameter": "function a(b = 1) {}",
  "a rest parameter": "function a(...b) {}",
  "a shorthand property": "const a = 1; const b = {a};",
  "a computed property": "const a = {['b']: 1};",
  "a method": "const a = {b() {}};",
  "a class": "class A {}",
  new: "function A() {} const a = new A();",
  this: "const a = this;",
  "try and catch": "try { const a = 1; } catch (error) {}",
  throw: "throw 'a';",
  delete: "const a = {}; delete a.b;",
  in: "const a = 'b' in {};",
  instanceof: "function A() {} const a = {} instanceof A;",
  "a regex literal": "const a = /b/;",
  "an async function": "async function a() {}",
  "a generator": "function* a() {}",
  "optional chaining": "const a = {}; const b = a?.b;",
  "nullish coalescing": "const a = 1 ?? 2;",
  "a power": "const a = 2 ** 3;",
  "Array.isArray": "const a = []; const b = a.isArray;",
  includes: "const a = [].includes(1);",
  find: "const a = [].find(() => true);",
  startsWith: "const a = 'a'.startsWith('b');",
  "the constructor of a function": "const a = data.gtmOnSuccess.constructor;",
};

for (const [what, code] of Object.entries(SYNTAX)) {
  test(`${what} is refused`, () => {
    assert.notDeepEqual(lint({ code: `${code}\n${DONE}` }), []);
  });
}

/** @type {Array<[string, any, RegExp]>} */
const FAULTS = [
  ["what is no JavaScript", { code: "const = 1;" }, /line 15: Unexpected token/],
  [
    "Date, which the sandbox lacks",
    { code: `const now = Date.now(); ${DONE}` },
    /line 15: Date is not declared: use getTimestampMillis/,
  ],
  [
    "JSON that nobody required",
    { code: `JSON.stringify({}); ${DONE}` },
    /JSON is not declared: an API needs require\('JSON'\)/,
  ],
  [
    "an API that does not exist",
    { code: `require('getEverything')(); ${DONE}` },
    /there is no API getEverything/,
  ],
  [
    "setInEventData, as blog posts print it",
    { code: `require('setInEventData')('a', 1); ${DONE}` },
    /a tag cannot change event data for other tags/,
  ],
  [
    "log, as blog posts print it",
    { code: `require('log')('a'); ${DONE}` },
    /there is no API log: use logToConsole/,
  ],
  [
    "require of what is not a literal",
    { code: `require('a' + 'b'); ${DONE}` },
    /require takes one literal name/,
  ],
  [
    "a missing permission",
    { code: `require('sendHttpRequest')('https://a'); ${DONE}` },
    /the permission send_http is missing/,
  ],
  [
    "a permission too many",
    { code: DONE, permissions: ["send_http"] },
    /the permission send_http is not needed/,
  ],
  [
    "a permission for more of the request than is read",
    { code: `require('getRequestPath')(); ${DONE}`, permissions: ["read_request"] },
    /read_request: body is allowed and not read/,
  ],
  [
    "a permission for less of the request than is read",
    {
      code: `require('getRequestPath')(); require('getRequestBody')(); ${DONE}`,
      permissions: [["read_request", [{ key: "pathAllowed", value: { type: 8, boolean: true } }]]],
    },
    /^read_request: body is read and not allowed$/,
  ],
  [
    "a tag that claims requests",
    { code: `require('claimRequest')(); ${DONE}` },
    /a TAG has no claimRequest/,
  ],
  [
    "a variable that runs the container",
    { type: "MACRO", code: "require('runContainer')({});", permissions: ["run_container"] },
    /a MACRO has no runContainer/,
  ],
  [
    "a client that reads event data",
    { type: "CLIENT", code: "require('claimRequest')(); require('getAllEventData')();" },
    /a CLIENT has no getAllEventData/,
  ],
  [
    "a client that cannot answer",
    { type: "CLIENT", code: "require('claimRequest')();" },
    /a client must require returnResponse/,
  ],
  [
    "a client that never answers",
    {
      type: "CLIENT",
      code: "require('claimRequest')(); const returnResponse = require('returnResponse');",
      permissions: ["return_response"],
    },
    /returnResponse is never called/,
  ],
  ["a tag that never fails", { code: "data.gtmOnSuccess();" }, /data.gtmOnFailure is never called/],
  ["a field that does not exist", { code: `data.url; ${DONE}` }, /data.url is no field/],
  [
    "a field that nobody reads",
    { code: DONE, fields: [{ type: "TEXT", name: "url", simpleValueType: true }] },
    /the field url is never read/,
  ],
  [
    "a field without simpleValueType",
    { code: `data.url; ${DONE}`, fields: [{ type: "TEXT", name: "url" }] },
    /simpleValueType is missing/,
  ],
  ["an id of one's own", { code: DONE, info: { id: "mine" } }, /id must be cvt_temp_public_id/],
  [
    "a template for web containers",
    { code: DONE, info: { containerContexts: ["WEB"] } },
    /containerContexts/,
  ],
  [
    "a test outside the language",
    { code: DONE, tests: "scenarios:\n- name: a\n  code: const a = `b`;" },
    /test "a": TemplateLiteral/,
  ],
];

for (const [what, parts, message] of FAULTS) {
  test(`the linter refuses ${what}`, () => {
    assert.match(lint(parts).join("\n"), message);
  });
}

test("the sections stand in their order, each followed by a blank line", () => {
  const good = templateText({ code: DONE });
  const lines = good.split("\n");
  const swapped = good
    .replace("___INFO___", "___X___")
    .replace("___NOTES___", "___INFO___")
    .replace("___X___", "___NOTES___");

  assert.throws(() => parseTemplate(swapped), /in this order/);
  assert.throws(
    () => parseTemplate([lines[0], ...lines.slice(2)].join("\n")),
    /a blank line must follow/,
  );
  assert.throws(() => parseTemplate(`\uFEFF${good}`), /in this order|before the first section/);
  assert.throws(() => parseTemplate(good.replace("___INFO___\n\n{", "___INFO___\n\n[")), /INFO: /);
  assert.throws(() => parseTemplate(good.replace('"TAG"', '"TRIGGER"')), /type must be/);
});
