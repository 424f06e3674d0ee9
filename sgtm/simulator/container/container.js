// @ts-check
/** A running container: a request comes in, a client claims it, tags fire, a response leaves. */

import { Runtime } from "../runtime.js";
import { Exchange } from "./exchange.js";
import { GA4_CLIENT, GA4_TAG, runGa4Client, runGa4Tag } from "./google_parts.js";
import { readParameters } from "./parameters.js";
import { transformEvent } from "./transformations.js";
import { fires } from "./triggers.js";
import { makeEvaluator } from "./variables.js";

const TAG_TIMEOUT_MS = 20_000;
const EVENTS_PER_REQUEST_MAX = 200;

/**
 * @typedef {{
 *   ga4Endpoint?: string,
 *   credentials?: import("../runtime.js").Credentials,
 *   clock?: () => number,
 *   log?: (entry: Record<string, any>) => void,
 * }} ContainerOptions
 * @typedef {{onComplete: () => void, onStart: (messages: Map<string, any>) => void}} RunCallbacks
 */

export class Container {
  /** @type {Map<string, Map<string, any>>} what each template keeps on this server */
  #storages = new Map();

  /**
   * @param {import("./export.js").ContainerParts} parts
   * @param {ContainerOptions} [options]
   */
  constructor(parts, { ga4Endpoint, credentials, clock = Date.now, log = () => {} } = {}) {
    this.parts = parts;
    this.ga4Endpoint = ga4Endpoint;
    this.credentials = credentials;
    this.clock = clock;
    this.log = log;
    /** Clients of a higher priority are asked first. */
    this.clients = [...parts.clients].sort(
      (a, b) => Number(b.priority ?? 0) - Number(a.priority ?? 0),
    );
    this.tags = parts.tags.filter((tag) => !tag.paused);
    /** @type {WeakMap<Exchange, number>} */
    this.runs = new WeakMap();
  }

  /**
   * @param {import("./exchange.js").IncomingRequest} request
   * @returns {Promise<import("./exchange.js").Response>}
   */
  async handle(request) {
    const exchange = new Exchange(request, this.log);
    for (const client of this.clients) {
      const data = await readParameters(client.parameter, makeEvaluator(this.#view(exchange, {})));
      if (exchange.offer(() => this.#runClient(client, exchange, data))) return exchange.answered;
    }
    this.log({ kind: "unclaimed", path: request.path });
    return { status: 400, headers: [], body: Buffer.alloc(0) };
  }

  /** @param {import("./export.js").Part} client @param {Exchange} exchange @param {Record<string, any>} data */
  #runClient(client, exchange, data) {
    if (client.type === GA4_CLIENT) {
      const run = (/** @type {any} */ event, /** @type {() => void} */ onComplete) =>
        this.run(exchange, event, { onComplete, onStart: () => {} });
      runGa4Client(exchange, { name: client.name, clock: this.clock, run });
      return;
    }
    const runtime = this.#runtime(client, { exchange }, (error) => {
      this.log({ kind: "error", name: client.name, message: error.message });
    });
    try {
      runtime.run(runtime.copyIn(data));
    } catch (error) {
      this.log({ kind: "error", name: client.name, message: /** @type {Error} */ (error).message });
    }
  }

  /**
   * Start the tags of an event; what `runContainer` does.
   *
   * @param {Exchange} exchange
   * @param {Record<string, any>} event
   * @param {RunCallbacks} callbacks
   */
  run(exchange, event, { onComplete, onStart }) {
    const runs = (this.runs.get(exchange) ?? 0) + 1;
    this.runs.set(exchange, runs);
    if (runs > EVENTS_PER_REQUEST_MAX)
      throw new Error("one request runs the container without end");
    /** @type {Map<string, any>} */
    const messages = new Map();
    onStart(messages);
    this.log({ kind: "event", client: exchange.clientName, event });
    const view = this.#view(exchange, event);
    const evaluate = makeEvaluator(view);
    const tags = this.tags.map((tag) => this.#runTagIfFired(tag, view, evaluate, messages));
    Promise.all(tags).then(onComplete);
  }

  /**
   * @param {import("./export.js").Part} tag
   * @param {Record<string, any>} view
   * @param {(name: string) => Promise<any>} evaluate
   * @param {Map<string, any>} messages
   */
  async #runTagIfFired(tag, view, evaluate, messages) {
    try {
      const anyFires = async (/** @type {string[]} */ ids = []) => {
        for (const id of ids) if (await fires(id, this.parts, evaluate)) return true;
        return false;
      };
      if (!(await anyFires(tag.firingTriggerId)) || (await anyFires(tag.blockingTriggerId))) return;
      const { exchange } = view;
      const seen = await transformEvent(view.event, tag, this.parts.transformations, (event) =>
        makeEvaluator(this.#view(exchange, event)),
      );
      const evaluator = seen === view.event ? evaluate : makeEvaluator(this.#view(exchange, seen));
      const data = await readParameters(tag.parameter, evaluator);
      const status = await this.#runTag(tag, exchange, seen, data, messages);
      this.log({ kind: "tag", name: tag.name, event: seen, status });
    } catch (error) {
      this.log({
        kind: "tag",
        name: tag.name,
        status: "failure",
        message: /** @type {Error} */ (error).message,
      });
    }
  }

  /**
   * @param {import("./export.js").Part} tag
   * @param {Exchange} exchange
   * @param {Record<string, any>} event
   * @param {Record<string, any>} data
   * @param {Map<string, any>} messages
   * @returns {Promise<"success" | "failure" | "timed out">}
   */
  async #runTag(tag, exchange, event, data, messages) {
    if (tag.type === GA4_TAG) {
      await runGa4Tag(event, data, { endpoint: this.ga4Endpoint, log: this.log });
      return "success";
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, TAG_TIMEOUT_MS, "timed out");
      const settle = (/** @type {any} */ status) => (clearTimeout(timer), resolve(status));
      const fail = (/** @type {Error} */ error) => (clearTimeout(timer), reject(error));
      const runtime = this.#runtime(tag, { exchange, event, messages }, fail);
      const fields = runtime.copyIn(data);
      fields.gtmOnSuccess = () => settle("success");
      fields.gtmOnFailure = () => settle("failure");
      try {
        runtime.run(fields);
      } catch (error) {
        fail(/** @type {Error} */ (error));
      }
    });
  }

  /** @param {Exchange} exchange @param {Record<string, any>} event */
  #view(exchange, event) {
    const runMacro = (
      /** @type {import("./export.js").Part} */ variable,
      /** @type {Record<string, any>} */ data,
    ) => {
      const onError = (/** @type {Error} */ error) =>
        this.log({ kind: "error", name: variable.name, message: error.message });
      const runtime = this.#runtime(variable, { exchange, event }, onError);
      return runtime.run(runtime.copyIn(data));
    };
    return { parts: this.parts, exchange, event, runMacro };
  }

  /**
   * @param {import("./export.js").Part} part
   * @param {Record<string, any>} surroundings
   * @param {(error: Error) => void} onError
   */
  #runtime(part, surroundings, onError) {
    const template = this.parts.templates.get(part.type);
    if (!template) throw new Error(`the simulator has no ${part.type}`);
    const storage = this.#storages.get(part.type) ?? new Map();
    this.#storages.set(part.type, storage);
    return new Runtime(template, {
      ...surroundings,
      name: part.name,
      container: this,
      storage,
      credentials: this.credentials,
      clock: this.clock,
      log: this.log,
      onError,
    });
  }
}
