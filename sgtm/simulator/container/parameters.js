// @ts-check
/** The fields of an instance: an export's parameters become the `data` of a template. */

const WHOLE = /^\{\{([^}]+)\}\}$/;
const REFERENCE = /\{\{([^}]+)\}\}/g;

/**
 * @param {any[]} parameters
 * @param {(name: string) => Promise<any>} evaluate a variable
 * @returns {Promise<Record<string, any>>}
 */
export async function readParameters(parameters, evaluate) {
  /** @type {Record<string, any>} */
  const data = {};
  for (const parameter of parameters ?? [])
    data[parameter.key] = await readParameter(parameter, evaluate);
  return data;
}

/**
 * @param {any} parameter
 * @param {(name: string) => Promise<any>} evaluate
 * @returns {Promise<any>}
 */
async function readParameter(parameter, evaluate) {
  if (parameter.type === "BOOLEAN")
    return String(await readText(parameter.value, evaluate)) === "true";
  if (parameter.type === "INTEGER") return Number(parameter.value);
  if (parameter.type === "LIST") {
    return Promise.all(
      (parameter.list ?? []).map((/** @type {any} */ each) => readParameter(each, evaluate)),
    );
  }
  if (parameter.type === "MAP") return readParameters(parameter.map, evaluate);
  return readText(parameter.value, evaluate);
}

/**
 * @param {string} text of one variable alone, its value; else text with the values in it
 * @param {(name: string) => Promise<any>} evaluate
 * @returns {Promise<any>}
 */
export async function readText(text, evaluate) {
  const whole = WHOLE.exec(text ?? "");
  if (whole) return evaluate(whole[1]);
  let result = text;
  for (const [reference, name] of (text ?? "").matchAll(REFERENCE)) {
    result = result.replace(reference, String(await evaluate(name)));
  }
  return result;
}
