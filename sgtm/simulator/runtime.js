// @ts-check
/** One run of one template: what its code can reach. */

import { API_CATALOGUE, NOT_AN_API } from "./api_catalogue.js";
import { containerApis } from "./apis/container.js";
import { eventApis } from "./apis/event.js";
import { hashingApis } from "./apis/hashing.js";
import { httpApis } from "./apis/http.js";
import { languageApis } from "./apis/language.js";
import { requestApis } from "./apis/request.js";
import { responseApis } from "./apis/response.js";
import { Permissions } from "./permissions.js";
import { Realm } from "./realm.js";
import { promiseApi } from "./sandbox_promise.js";

/**
 * @typedef {{keys: Record<string, string>}} Credentials the key file, its keys in base64
 * @typedef {Map<string, Array<(message: any) => void>>} Messages listeners of one event
 * @typedef {{
 *   name: string,
 *   exchange?: any,
 *   event?: any,
 *   messages?: Messages,
 *   container?: any,
 *   storage?: Map<string, any>,
 *   credentials?: Credentials,
 *   clock?: () => number,
 *   log?: (entry: Record<string, any>) => void,
 *   onError?: (error: Error) => void,
 * }} Surroundings
 */

export class Runtime {
  /**
   * @param {import("./template.js").Template} template
   * @param {Surroundings} surroundings
   */
  constructor(template, surroundings) {
    this.template = template;
    this.name = surroundings.name;
    this.exchange = surroundings.exchange;
    this.event = surroundings.event;
    this.container = surroundings.container;
    this.messages = surroundings.messages ?? new Map();
    this.storage = surroundings.storage ?? new Map();
    this.credentials = surroundings.credentials ?? { keys: {} };
    this.clock = surroundings.clock ?? Date.now;
    this.log = surroundings.log ?? (() => {});
    this.permissions = new Permissions(template.permissions);
    this.realm = new Realm();
    this.copyIn = this.realm.copyIn;
    this.copyOut = (/** @type {any} */ value) =>
      value === undefined ? undefined : structuredClonePlain(value);
    this.report = makeReport(surroundings.onError ?? (() => {}));
    /** @type {Record<string, any>} */
    this.apis = allApis(this);
  }

  /** @param {string} name */
  require(name) {
    if (Object.hasOwn(this.apis, name) && Object.hasOwn(API_CATALOGUE, name))
      return this.apis[name];
    const hint = NOT_AN_API[name];
    throw new Error(`there is no API ${name}${hint ? `: ${hint}` : ""}`);
  }

  /**
   * @param {any} data the fields of the instance
   * @returns {any} what the template returns
   */
  run(data) {
    const names = { require: (/** @type {string} */ name) => this.require(name), data };
    return this.realm.run(this.template.code, names, {
      filename: this.template.name,
      line: this.template.codeLine,
    });
  }

  /** Let an API act on a started event: today that matters for messages alone. @param {any} api @param {Messages} messages */
  bindToEvent(api, messages) {
    const name = Object.keys(this.apis).find((each) => this.apis[each] === api);
    const bound = /** @type {any} */ (
      eventApis(Object.create(this, { messages: { value: messages } }))
    );
    return name && bound[name] ? bound[name] : api;
  }
}

/** @param {Runtime} runtime @returns {Record<string, any>} */
function allApis(runtime) {
  return {
    ...languageApis(runtime),
    ...promiseApi(runtime.report.error),
    ...requestApis(runtime),
    ...responseApis(runtime),
    ...eventApis(runtime),
    ...httpApis(runtime),
    ...hashingApis(runtime),
    ...containerApis(runtime),
  };
}

/** @param {(error: Error) => void} onError */
function makeReport(onError) {
  return {
    error: onError,
    /** @param {() => void} callback what the sandbox calls later: an error must reach somebody */
    run: (callback) => {
      try {
        callback();
      } catch (error) {
        onError(/** @type {Error} */ (error));
      }
    },
  };
}

/** A copy of the simulator's own objects: functions and undefined values stay behind. @param {any} value @returns {any} */
function structuredClonePlain(value) {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return Array.from(value, structuredClonePlain);
  const entries = Object.entries(value).filter(
    ([, each]) => each !== undefined && typeof each !== "function",
  );
  return Object.fromEntries(entries.map(([key, each]) => [key, structuredClonePlain(each)]));
}
