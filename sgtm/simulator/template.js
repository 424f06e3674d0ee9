// @ts-check
/** The file format of custom templates (.tpl): sections, in a fixed order. */

import yaml from "js-yaml";

/** In the order of the file. */
export const SECTIONS = [
  "TERMS_OF_SERVICE",
  "INFO",
  "TEMPLATE_PARAMETERS",
  "SANDBOXED_JS_FOR_SERVER",
  "SERVER_PERMISSIONS",
  "TESTS",
  "NOTES",
];

/**
 * @typedef {"TAG" | "MACRO" | "CLIENT"} TemplateType
 * @typedef {{name: string, code: string}} Scenario
 * @typedef {{
 *   name: string,
 *   type: TemplateType,
 *   info: Record<string, any>,
 *   fields: Array<Record<string, any>>,
 *   code: string,
 *   codeLine: number,
 *   permissions: Array<Record<string, any>>,
 *   scenarios: Scenario[],
 *   setup: string,
 *   notes: string,
 * }} Template
 */

/** A file that is not a template. */
export class TemplateError extends Error {}

/**
 * @param {string} text the whole file
 * @returns {Template}
 */
export function parseTemplate(text) {
  const sections = splitSections(text);
  const info = parseJson(sections, "INFO");
  if (!["TAG", "MACRO", "CLIENT"].includes(info.type)) {
    throw new TemplateError("INFO: type must be TAG, MACRO or CLIENT");
  }
  const tests = parseTests(sections.get("TESTS")?.text ?? "");
  const code = sections.get("SANDBOXED_JS_FOR_SERVER");
  if (!code) throw new TemplateError("the section SANDBOXED_JS_FOR_SERVER is missing");
  return {
    name: String(info.displayName ?? ""),
    type: info.type,
    info,
    fields: parseJson(sections, "TEMPLATE_PARAMETERS"),
    code: code.text,
    codeLine: code.line,
    permissions: parseJson(sections, "SERVER_PERMISSIONS"),
    scenarios: tests.scenarios,
    setup: tests.setup,
    notes: sections.get("NOTES")?.text.trim() ?? "",
  };
}

/**
 * @param {string} text
 * @returns {Map<string, {text: string, line: number}>} `line` counts from 1
 */
function splitSections(text) {
  const lines = text.split("\n");
  const starts = lines.flatMap((line, index) => {
    const found = /^___([A-Z_]+)___$/.exec(line);
    return found ? [{ name: found[1], index }] : [];
  });
  const names = starts.map((start) => start.name);
  const expected = SECTIONS.filter((name) => names.includes(name));
  if (names.join() !== expected.join()) {
    throw new TemplateError(`the sections must be, in this order: ${SECTIONS.join(", ")}`);
  }
  if (starts[0]?.index !== 0) throw new TemplateError("nothing may stand before the first section");
  const sections = new Map();
  starts.forEach(({ name, index }, position) => {
    if (lines[index + 1] !== "") throw new TemplateError(`${name}: a blank line must follow`);
    const end = starts[position + 1]?.index ?? lines.length;
    sections.set(name, { text: lines.slice(index + 2, end).join("\n"), line: index + 3 });
  });
  return sections;
}

/**
 * @param {Map<string, {text: string, line: number}>} sections
 * @param {string} name
 * @returns {any}
 */
function parseJson(sections, name) {
  const section = sections.get(name);
  if (!section) throw new TemplateError(`the section ${name} is missing`);
  try {
    return JSON.parse(section.text);
  } catch (error) {
    throw new TemplateError(`${name}: ${/** @type {Error} */ (error).message}`);
  }
}

/**
 * @param {string} text
 * @returns {{scenarios: Scenario[], setup: string}}
 */
function parseTests(text) {
  const parsed = /** @type {any} */ (yaml.load(text)) ?? {};
  const scenarios = parsed.scenarios ?? [];
  for (const scenario of scenarios) {
    if (typeof scenario.name !== "string" || typeof scenario.code !== "string") {
      throw new TemplateError("TESTS: each scenario needs a name and code");
    }
  }
  return { scenarios, setup: parsed.setup ?? "" };
}
