// @ts-check
/** A JavaScript realm with nothing in it but the language of templates. */

import vm from "node:vm";
import { FORBIDDEN_METHODS } from "./language.js";

/** Runs inside the realm: takes away what the sandbox lacks, returns the function that copies in. */
const PRELUDE = `(function (methods) {
  const stringAndArray = [Array.prototype, String.prototype];
  const kept = ["undefined", "NaN", "Infinity"];
  const realm = globalThis;
  const names = Object.getOwnPropertyNames(realm);
  const isArray = Array.isArray;
  for (const method of methods) {
    if (method === "constructor" || method === "__proto__") continue;
    for (const prototype of stringAndArray) delete prototype[method];
  }
  for (const name of names) {
    if (kept.indexOf(name) < 0) delete realm[name];
  }
  return function copy(value) {
    if (value === null || typeof value !== "object" || typeof value.then === "function") return value;
    if (isArray(value)) return value.map(copy);
    const copied = {};
    for (const key in value) copied[key] = copy(value[key]);
    return copied;
  };
})`;

export class Realm {
  constructor() {
    const context = vm.createContext({}, { codeGeneration: { strings: false, wasm: false } });
    const prelude = new vm.Script(PRELUDE).runInContext(context);
    /** @type {(value: any) => any} a deep copy made of the realm's own objects and arrays */
    this.copyIn = prelude([...FORBIDDEN_METHODS]);
    this.context = context;
  }

  /**
   * Run code as the body of a function, so that `return` works at its top.
   *
   * @param {string} code
   * @param {Record<string, any>} names what the code may name
   * @param {{filename: string, line?: number}} place for messages
   * @returns {any} what the code returns
   */
  run(code, names, { filename, line = 1 }) {
    const source = `(function (${Object.keys(names).join(", ")}) { "use strict";${code}\n})`;
    const body = new vm.Script(source, { filename, lineOffset: line - 1 }).runInContext(
      this.context,
    );
    return body(...Object.values(names));
  }
}
