// @ts-check
/** Whether a trigger fires for an event. */

import { readText } from "./parameters.js";

const ALL_EVENTS = "2147479574";

/** @type {Record<string, (actual: string, expected: string) => boolean>} */
const COMPARISONS = {
  EQUALS: (actual, expected) => actual === expected,
  CONTAINS: (actual, expected) => actual.includes(expected),
  STARTS_WITH: (actual, expected) => actual.startsWith(expected),
  ENDS_WITH: (actual, expected) => actual.endsWith(expected),
  MATCH_REGEX: (actual, expected) => new RegExp(expected).test(actual),
  GREATER: (actual, expected) => Number(actual) > Number(expected),
  LESS: (actual, expected) => Number(actual) < Number(expected),
};

/**
 * @param {string} id
 * @param {import("./export.js").ContainerParts} parts
 * @param {(name: string) => Promise<any>} evaluate a variable
 * @returns {Promise<boolean>}
 */
export async function fires(id, parts, evaluate) {
  if (id === ALL_EVENTS) return true;
  const trigger = parts.triggers.get(id);
  if (!trigger || !["CUSTOM_EVENT", "ALWAYS"].includes(trigger.type))
    throw new Error(`no trigger of this kind: ${id}`);
  for (const condition of [...(trigger.customEventFilter ?? []), ...(trigger.filter ?? [])]) {
    if (!(await holds(condition, evaluate))) return false; // later conditions are not evaluated
  }
  return true;
}

/** @param {any} condition @param {(name: string) => Promise<any>} evaluate */
export async function holds(condition, evaluate) {
  const compare = COMPARISONS[condition.type];
  if (!compare) throw new Error(`no condition of the type ${condition.type}`);
  const argument = (/** @type {string} */ key) =>
    condition.parameter.find((/** @type {any} */ each) => each.key === key);
  const actual = await readText(argument("arg0").value, evaluate);
  const expected = await readText(argument("arg1").value, evaluate);
  const isNegated = argument("negate")?.value === "true";
  return compare(String(actual), String(expected)) !== isNegated;
}
