// @ts-check
/** Variables: evaluated once for one view of an event, and anew for the next. */

import { valueAt } from "../apis/event.js";
import { readParameters } from "./parameters.js";

/**
 * @param {{
 *   parts: import("./export.js").ContainerParts,
 *   exchange: import("./exchange.js").Exchange,
 *   event: Record<string, any>,
 *   runMacro: (variable: import("./export.js").Part, data: Record<string, any>) => any,
 * }} view
 * @returns {(name: string) => Promise<any>}
 */
export function makeEvaluator({ parts, exchange, event, runMacro }) {
  /** @type {Map<string, Promise<any>>} */
  const values = new Map();
  const evaluate = (/** @type {string} */ name) => {
    const value = values.get(name) ?? evaluateOne(name);
    values.set(name, value);
    return value;
  };
  /** @param {string} name @returns {Promise<any>} */
  async function evaluateOne(name) {
    if (name === "_event" || name === "Event Name") return event.event_name;
    if (name === "Client Name") return exchange.clientName;
    const variable = parts.variables.get(name);
    if (!variable) throw new Error(`no variable {{${name}}}`);
    const data = await readParameters(variable.parameter, evaluate);
    if (variable.type === "c") return data.value;
    if (variable.type === "ed") return valueAt(event, data.keyPath) ?? data.defaultValue;
    if (variable.type === "rh") return exchange.request.headers[data.headerName.toLowerCase()];
    if (parts.templates.has(variable.type)) return runMacro(variable, data);
    throw new Error(`the simulator has no variable of the type ${variable.type}`);
  }
  return evaluate;
}
