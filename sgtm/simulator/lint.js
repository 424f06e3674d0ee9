// @ts-check
/** Judges a template without running it: language, APIs, permissions, fields. */

import { API_CATALOGUE, NOT_AN_API } from "./api_catalogue.js";
import { checkLanguage, visit } from "./language.js";
import { parsePermissions } from "./permissions.js";

const TEST_GLOBALS = [
  "assertApi",
  "assertThat",
  "fail",
  "mock",
  "mockObject",
  "runCode",
  "scenario",
];
const REQUEST_PARTS = ["body", "headers", "path", "queryParameters", "remoteAddress"];
const SCALARS = new Set(["TEXT", "CHECKBOX", "RADIO", "SELECT"]);

/**
 * @param {import("./template.js").Template} template
 * @returns {string[]} what is wrong, each with its place; empty when all is well
 */
export function lintTemplate(template) {
  const { findings, required, program } = checkLanguage(template.code);
  const messages = findings.map(
    ({ line, message }) => `line ${template.codeLine + line - 1}: ${message}`,
  );
  messages.push(...lintRequired(template, required));
  messages.push(...lintPermissions(template, required));
  messages.push(...lintRequestParts(template, required));
  messages.push(...lintInfo(template.info));
  messages.push(...template.fields.flatMap((field) => lintField(field)));
  if (program)
    messages.push(...lintFieldUse(template, program), ...lintLiveness(template, required, program));
  for (const { name, code } of template.scenarios) {
    const found = checkLanguage(`${template.setup}\n${code}`, { globals: TEST_GLOBALS }).findings;
    messages.push(...found.map(({ message }) => `test "${name}": ${message}`));
  }
  return messages;
}

/**
 * @param {import("./template.js").Template} template
 * @param {import("./language.js").Required[]} required
 */
function lintRequired(template, required) {
  return required.flatMap(({ name, line }) => {
    const place = `line ${template.codeLine + line - 1}`;
    const entry = API_CATALOGUE[name];
    if (!entry)
      return [
        `${place}: there is no API ${name}${NOT_AN_API[name] ? `: ${NOT_AN_API[name]}` : ""}`,
      ];
    const isHere = !entry.types || entry.types.includes(template.type);
    return isHere ? [] : [`${place}: a ${template.type} has no ${name}`];
  });
}

/**
 * @param {import("./template.js").Template} template
 * @param {import("./language.js").Required[]} required
 */
function lintPermissions(template, required) {
  const declared = new Set(parsePermissions(template.permissions).keys());
  const needed = new Set(required.flatMap(({ name }) => API_CATALOGUE[name]?.permission ?? []));
  return [
    ...[...needed].filter((id) => !declared.has(id)).map((id) => `the permission ${id} is missing`),
    ...[...declared]
      .filter((id) => !needed.has(id))
      .map((id) => `the permission ${id} is not needed`),
    ...template.permissions
      .filter((entry) => !entry.isRequired || entry.instance.key.versionId !== "1")
      .map(
        (entry) =>
          `the permission ${entry.instance.key.publicId} needs versionId "1" and isRequired`,
      ),
  ];
}

/**
 * Whether read_request allows the parts of a request that are read, and those alone.
 *
 * @param {import("./template.js").Template} template
 * @param {import("./language.js").Required[]} required
 */
function lintRequestParts(template, required) {
  const parameters = parsePermissions(template.permissions).get("read_request");
  const readers = required
    .map(({ name }) => API_CATALOGUE[name])
    .filter((entry) => entry?.permission === "read_request");
  if (!parameters || readers.length === 0) return []; // said already, as missing or not needed
  const isAll = readers.some(({ part }) => !part);
  return REQUEST_PARTS.flatMap((part) => {
    const isRead = isAll || readers.some((reader) => reader.part === part);
    const isAllowed = parameters.requestAccess === "any" || parameters[`${part}Allowed`] === true;
    if (isRead === isAllowed) return [];
    return [`read_request: ${part} is ${isRead ? "read and not allowed" : "allowed and not read"}`];
  });
}

/** @param {Record<string, any>} info */
function lintInfo(info) {
  const messages = [];
  if (info.id !== "cvt_temp_public_id") messages.push("INFO: id must be cvt_temp_public_id");
  if (info.containerContexts?.join() !== "SERVER")
    messages.push('INFO: containerContexts must be ["SERVER"]');
  if (!info.description) messages.push("INFO: a description is missing");
  return messages;
}

/** @param {Record<string, any>} field @returns {string[]} */
function lintField(field) {
  const messages = [];
  const isScalar = SCALARS.has(field.type);
  if (isScalar && field.simpleValueType !== true)
    messages.push(`field ${field.name}: simpleValueType is missing`);
  if (!/^[A-Za-z]\w*$/.test(field.name ?? ""))
    messages.push(`field ${field.name}: not a usable name`);
  return [...messages, ...(field.subParams ?? []).flatMap(lintField)];
}

/** Every field is read as data.name, and nothing else is read of data. @param {import("./template.js").Template} template @param {any} program */
function lintFieldUse(template, program) {
  const names = new Set(template.fields.flatMap(fieldNames));
  const given = new Set(template.type === "TAG" ? ["gtmOnSuccess", "gtmOnFailure"] : []);
  const used = new Set();
  visit(program, (node) => {
    if (node.type === "MemberExpression" && node.object.name === "data" && !node.computed)
      used.add(node.property.name);
  });
  return [
    ...[...used]
      .filter((name) => !names.has(name) && !given.has(name))
      .map((name) => `data.${name} is no field`),
    ...[...names]
      .filter((name) => !used.has(name))
      .map((name) => `the field ${name} is never read`),
    ...[...given].filter((name) => !used.has(name)).map((name) => `data.${name} is never called`),
  ];
}

/** @param {Record<string, any>} field @returns {string[]} */
function fieldNames(field) {
  if (field.type === "GROUP") return (field.subParams ?? []).flatMap(fieldNames);
  return field.type === "LABEL" ? [] : [field.name];
}

/**
 * A client that claims and never answers keeps the browser waiting.
 *
 * @param {import("./template.js").Template} template
 * @param {import("./language.js").Required[]} required
 * @param {any} program
 */
function lintLiveness(template, required, program) {
  if (template.type !== "CLIENT") return [];
  const names = new Set(required.map(({ name }) => name));
  const messages = [];
  if (!names.has("claimRequest")) messages.push("a client must require claimRequest");
  if (!names.has("returnResponse")) messages.push("a client must require returnResponse");
  const called = new Set();
  visit(program, (node) => node.type === "CallExpression" && called.add(node.callee.name));
  if (names.has("returnResponse") && !called.has("returnResponse"))
    messages.push("returnResponse is never called");
  return messages;
}
