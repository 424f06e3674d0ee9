// @ts-check
/** The promises of the sandbox: then, catch, finally; an error in a callback is reported. */

import { types } from "node:util";

/** @typedef {(error: Error) => void} Report */

export class SandboxPromise {
  /** @type {Promise<any>} */
  #native;
  /** @type {Report} */
  #report;

  /** @param {Promise<any>} native @param {Report} report gets what a callback threw */
  constructor(native, report) {
    this.#native = native;
    this.#report = report;
    native.catch((reason) => {
      if (types.isNativeError(reason)) report(reason);
    });
  }

  /** @param {(value: any) => any} [onFulfilled] @param {(reason: any) => any} [onRejected] */
  then(onFulfilled, onRejected) {
    return new SandboxPromise(this.#native.then(onFulfilled, onRejected), this.#report);
  }

  /** @param {(reason: any) => any} onRejected */
  catch(onRejected) {
    return new SandboxPromise(this.#native.catch(onRejected), this.#report);
  }

  /** @param {() => any} onSettled */
  finally(onSettled) {
    return new SandboxPromise(this.#native.finally(onSettled), this.#report);
  }
}

/** @param {Report} report */
export function promiseApi(report) {
  return {
    Promise: {
      create: (/** @type {any} */ resolver) => new SandboxPromise(new Promise(resolver), report),
      all: (/** @type {any[]} */ values) => new SandboxPromise(Promise.all(values), report),
    },
  };
}
