// @ts-check
/** Runs the section TESTS of a template, each scenario in a realm of its own. */

import { API_CATALOGUE } from "./api_catalogue.js";
import { AssertionFailed, assertApi, assertThat } from "./assertions.js";
import { Exchange } from "./container/exchange.js";
import { Runtime } from "./runtime.js";

const SETTLE_ROUNDS = 5;

/** What acts on the world does nothing in a test unless it is mocked. */
const SILENT = new Set([
  "claimRequest",
  "logToConsole",
  "returnResponse",
  "runContainer",
  "sendMessage",
  "setCookie",
  "setPixelResponse",
  "setResponseBody",
  "setResponseHeader",
  "setResponseStatus",
]);
const NETWORK = new Set(["sendHttpGet", "sendHttpRequest"]);

/**
 * @typedef {{name: string, error?: string}} ScenarioResult
 * @param {import("./template.js").Template} template
 * @returns {Promise<ScenarioResult[]>}
 */
export async function runScenarios(template) {
  const results = [];
  for (const scenario of template.scenarios) results.push(await runScenario(template, scenario));
  return results;
}

/**
 * @param {import("./template.js").Template} template
 * @param {import("./template.js").Scenario} scenario
 * @returns {Promise<ScenarioResult>}
 */
async function runScenario(template, scenario) {
  /** @type {string[]} */
  const errors = [];
  const noteError = (/** @type {Error} */ error) => errors.push(error.message);
  const request = {
    method: "GET",
    path: "/",
    query: "",
    headers: {},
    body: "",
    remoteAddress: "203.0.113.7",
  };
  const exchange = new Exchange(request, () => {});
  const runtime = new Runtime(template, {
    name: template.name,
    exchange,
    event: {},
    onError: noteError,
  });
  const bench = new TestBench(runtime);
  try {
    const outcome = runtime.realm.run(`${template.setup}\n${scenario.code}`, bench.names(), {
      filename: `${template.name}: ${scenario.name}`,
    });
    for (let round = 0; round < SETTLE_ROUNDS; round += 1)
      await new Promise((resolve) => setImmediate(resolve));
    await outcome;
  } catch (error) {
    noteError(/** @type {Error} */ (error));
  }
  return errors.length
    ? { name: scenario.name, error: errors.join("; ") }
    : { name: scenario.name };
}

class TestBench {
  /** @type {Map<string, any>} */
  #mocks = new Map();
  /** @type {Map<string, any[][]>} */
  #calls = new Map();

  /** @param {Runtime} runtime */
  constructor(runtime) {
    this.runtime = runtime;
  }

  /** What the code of a scenario can name. */
  names() {
    return {
      require: (/** @type {string} */ name) => this.runtime.require(name),
      mock: (/** @type {string} */ name, /** @type {any} */ value) => {
        if (!Object.hasOwn(API_CATALOGUE, name)) throw new Error(`there is no API ${name} to mock`);
        this.#mocks.set(name, typeof value === "function" ? value : () => value);
      },
      mockObject: (/** @type {string} */ name, /** @type {any} */ members) =>
        this.#mocks.set(name, members),
      runCode: (/** @type {any} */ data) => this.#runCode(data ?? {}),
      assertApi: (/** @type {string} */ name) => assertApi(name, this.#calls.get(name) ?? []),
      assertThat,
      fail: (/** @type {string} */ message) => {
        throw new AssertionFailed(message ?? "the test failed itself");
      },
    };
  }

  /** @param {Record<string, any>} data */
  #runCode(data) {
    const fields = { ...data };
    for (const name of ["gtmOnSuccess", "gtmOnFailure"])
      fields[name] = this.#recorded(name, data[name] ?? (() => {}));
    const { template, realm } = this.runtime;
    const names = { require: (/** @type {string} */ name) => this.#required(name), data: fields };
    return realm.run(template.code, names, { filename: template.name, line: template.codeLine });
  }

  /** @param {string} name */
  #required(name) {
    const real = this.runtime.require(name);
    const mocked = this.#mocks.get(name);
    if (typeof real !== "function") return mocked ? { ...real, ...mocked } : real;
    if (mocked) return this.#recorded(name, mocked);
    if (NETWORK.has(name))
      return this.#recorded(name, () => this.runtime.require("Promise").create(() => {}));
    return this.#recorded(name, SILENT.has(name) ? () => {} : real);
  }

  /** @param {string} name @param {(...values: any[]) => any} act */
  #recorded(name, act) {
    return (/** @type {any[]} */ ...values) => {
      this.#calls.set(name, [...(this.#calls.get(name) ?? []), values]);
      return act(...values);
    };
  }
}
