// @ts-check
/** assertThat and assertApi, as the test editor has them. */

import { isDeepStrictEqual } from "node:util";

/** A test that did not hold. */
export class AssertionFailed extends Error {}

const show = (/** @type {any} */ value) =>
  value === undefined ? "undefined" : JSON.stringify(value);
/** The same value whichever realm made it; absent and undefined members are alike. @param {any} value @returns {any} */
function plain(value) {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return Array.from(value, plain);
  const entries = Object.entries(value).filter(([, each]) => each !== undefined);
  return Object.fromEntries(entries.map(([key, each]) => [key, plain(each)]));
}
const equal = (/** @type {any} */ a, /** @type {any} */ b) => isDeepStrictEqual(plain(a), plain(b));
const contains = (/** @type {any} */ whole, /** @type {any} */ part) =>
  typeof whole === "string"
    ? whole.includes(part)
    : whole.some((/** @type {any} */ each) => equal(each, part));

/** @type {Record<string, (actual: any, ...expected: any[]) => boolean>} */
const CHECKS = {
  isUndefined: (actual) => actual === undefined,
  isDefined: (actual) => actual !== undefined,
  isNull: (actual) => actual === null,
  isNotNull: (actual) => actual !== null,
  isTrue: (actual) => actual === true,
  isFalse: (actual) => actual === false,
  isTruthy: (actual) => Boolean(actual),
  isFalsy: (actual) => !actual,
  isEqualTo: equal,
  isStrictlyEqualTo: (actual, expected) => actual === expected,
  isNotEqualTo: (actual, expected) => !equal(actual, expected),
  isGreaterThan: (actual, expected) => actual > expected,
  isLessThan: (actual, expected) => actual < expected,
  contains,
  doesNotContain: (actual, expected) => !contains(actual, expected),
  hasLength: (actual, expected) => actual.length === expected,
  isArray: (actual) => Array.isArray(actual),
  isString: (actual) => typeof actual === "string",
  isNumber: (actual) => typeof actual === "number",
  isFunction: (actual) => typeof actual === "function",
  isBoolean: (actual) => typeof actual === "boolean",
  isNaN: (actual) => Number.isNaN(actual),
  isEmpty: (actual) => actual.length === 0,
  isNotEmpty: (actual) => actual.length > 0,
  isAnyOf: (actual, ...expected) => expected.some((each) => equal(actual, each)),
  isNoneOf: (actual, ...expected) => !expected.some((each) => equal(actual, each)),
  isObject: (actual) => actual !== null && typeof actual === "object" && !Array.isArray(actual),
};

/** @param {any} actual @param {string} [message] */
export function assertThat(actual, message) {
  return Object.fromEntries(
    Object.entries(CHECKS).map(([name, holds]) => [
      name,
      (/** @type {any[]} */ ...expected) => {
        if (holds(actual, ...expected)) return;
        const told = expected.map(show).join(", ");
        throw new AssertionFailed(message ?? `${show(actual)} ${name} ${told} does not hold`);
      },
    ]),
  );
}

/** @param {string} name @param {any[][]} calls the arguments of each call so far */
export function assertApi(name, calls) {
  const need = (/** @type {boolean} */ holds, /** @type {string} */ what) => {
    if (!holds) throw new AssertionFailed(`${name} ${what}; its calls: ${show(calls)}`);
  };
  const called = (/** @type {any[]} */ expected) =>
    calls.some((call) => expected.every((each, i) => equal(call[i], each)));
  return {
    wasCalled: () => need(calls.length > 0, "was not called"),
    wasNotCalled: () => need(calls.length === 0, "was called"),
    wasCalledWith: (/** @type {any[]} */ ...expected) =>
      need(called(expected), `was not called with ${show(expected)}`),
    wasNotCalledWith: (/** @type {any[]} */ ...expected) =>
      need(!called(expected), `was called with ${show(expected)}`),
  };
}
