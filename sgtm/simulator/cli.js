#!/usr/bin/env node
// @ts-check
/** `cli.js lint PATH…`, `cli.js test PATH…`, `cli.js serve CONTAINER`. */

import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Container } from "./container/container.js";
import { ContainerError, parseContainer } from "./container/export.js";
import { lintTemplate } from "./lint.js";
import { serve } from "./server.js";
import { TemplateError, parseTemplate } from "./template.js";
import { runScenarios } from "./template_tests.js";

const USAGE = `usage: cli.js lint PATH…       judge templates and container exports
       cli.js test PATH…       run the tests of templates
       cli.js serve CONTAINER  [--port 8090] [--ga4 URL] [--set "VARIABLE=VALUE"]… [--credentials FILE]
                               [--timeout MS] [--until-stdin-ends]`;

/** What cannot be done as it was asked for. */
class UsageError extends Error {}

/** @param {string[]} paths @returns {string[]} every template and container export at or below them */
function filesAt(paths) {
  return paths.flatMap((path) => {
    if (!statSync(path).isDirectory()) return [path];
    const names = readdirSync(path, { recursive: true }).map(String).sort();
    return names.filter((name) => name.endsWith(".tpl")).map((name) => join(path, name));
  });
}

/** @param {string} path @returns {string[]} */
function lintFile(path) {
  const text = readFileSync(path, "utf8");
  try {
    if (path.endsWith(".tpl")) return lintTemplate(parseTemplate(text));
    const { templates } = parseContainer(JSON.parse(text));
    return [...templates.values()].flatMap((each) =>
      lintTemplate(each).map((message) => `${each.name}: ${message}`),
    );
  } catch (error) {
    return [/** @type {Error} */ (error).message];
  }
}

/** @param {string[]} paths @returns {number} how many files have faults */
function lint(paths) {
  const faulty = filesAt(paths).filter((path) => {
    const messages = lintFile(path);
    messages.forEach((message) => console.error(`${path}: ${message}`));
    return messages.length > 0;
  });
  return faulty.length;
}

/** @param {string[]} paths @returns {Promise<number>} how many scenarios failed */
async function test(paths) {
  let [passed, failed] = [0, 0];
  const templates = filesAt(paths).filter((each) => each.endsWith(".tpl"));
  if (templates.length === 0) throw new UsageError(`no template (.tpl) in ${paths.join(", ")}`);
  for (const path of templates) {
    for (const { name, error } of await runScenarios(parseTemplate(readFileSync(path, "utf8")))) {
      if (error) console.error(`${path}: ${name}: ${error}`);
      if (error) failed += 1;
      else passed += 1;
    }
  }
  console.log(`${passed} scenarios passed, ${failed} failed`);
  return failed;
}

/**
 * Put values into constant variables of an export, as one does after importing it.
 *
 * @param {any} document
 * @param {string[]} settings `VARIABLE=VALUE`
 */
export function setConstants(document, settings) {
  for (const setting of settings) {
    const [name, ...rest] = setting.split("=");
    const variable = document.containerVersion.variable.find(
      (/** @type {any} */ each) => each.name === name && each.type === "c",
    );
    if (!variable) throw new UsageError(`no constant variable is called ${name}`);
    variable.parameter.find((/** @type {any} */ each) => each.key === "value").value =
      rest.join("=");
  }
  return document;
}

/**
 * Let tags, clients and variables wait longer than the shipped 500 ms, which are for live servers.
 *
 * @param {any} document
 * @param {string} timeoutMs
 */
export function setTimeouts(document, timeoutMs) {
  const { tag, client, variable } = document.containerVersion;
  for (const { parameter = [] } of [...tag, ...client, ...variable]) {
    const timeout = parameter.find((/** @type {any} */ each) => each.key === "timeoutMs");
    if (timeout) timeout.value = timeoutMs;
  }
  return document;
}

/** @param {any} document @returns {string[]} the constant variables that say REPLACE still */
function unreplaced(document) {
  return document.containerVersion.variable
    .filter(
      (/** @type {any} */ each) =>
        each.type === "c" && JSON.stringify(each.parameter).includes("REPLACE"),
    )
    .map((/** @type {any} */ each) => each.name);
}

/** @param {string} path @param {Record<string, any>} values */
async function serveFile(path, values) {
  const document = setConstants(JSON.parse(readFileSync(path, "utf8")), values.set ?? []);
  if (values.timeout) setTimeouts(document, values.timeout);
  const container = new Container(parseContainer(document), {
    ga4Endpoint: values.ga4,
    credentials: values.credentials && JSON.parse(readFileSync(values.credentials, "utf8")),
    log: (entry) => console.log(JSON.stringify(entry)),
  });
  const { url } = await serve(container, { port: Number(values.port ?? 8090) });
  // Whoever started this has ended, in whatever way: so does this.
  if (values["until-stdin-ends"]) process.stdin.resume().once("close", () => process.exit(0));
  console.log(JSON.stringify({ kind: "ready", url, to_replace: unreplaced(document) }));
}

/** @param {string[]} words @returns {Promise<number>} the exit code */
async function main(words) {
  const { positionals, values } = parseArgs({
    args: words,
    allowPositionals: true,
    options: {
      port: { type: "string" },
      ga4: { type: "string" },
      set: { type: "string", multiple: true },
      credentials: { type: "string" },
      timeout: { type: "string" },
      "until-stdin-ends": { type: "boolean" },
    },
  });
  const [command, ...paths] = positionals;
  if (command === "lint" && paths.length) return lint(paths) ? 1 : 0;
  if (command === "test" && paths.length) return (await test(paths)) ? 1 : 0;
  if (command === "serve" && paths.length === 1) return serveFile(paths[0], values).then(() => 0);
  console.error(USAGE);
  return 2;
}

/** Say in one line what a caller can mend; a fault of the simulator keeps its stack. @param {any} error @returns {number} the exit code */
function explain(error) {
  const known = [UsageError, ContainerError, TemplateError, SyntaxError];
  if (!error.code && !known.some((kind) => error instanceof kind)) throw error;
  console.error(error.message);
  return String(error.code).startsWith("ERR_PARSE_ARGS") ? 2 : 1;
}

if (import.meta.url === `file://${process.argv[1]}`)
  process.exitCode = await main(process.argv.slice(2)).catch(explain);
