// @ts-check
/** Reads a container export: the parts of a container and the templates they are made of. */

import { parseTemplate } from "../template.js";

/** A container that could not be imported. */
export class ContainerError extends Error {}

const BUILT_IN_TRIGGERS = new Set(["2147479574"]);

/** What is not made of a template and simulated all the same. @type {Record<string, string[]>} */
const NATIVE_TYPES = {
  client: ["gaaw_client"],
  tag: ["sgtmgaaw"],
  variable: ["c", "ed", "rh"],
  trigger: ["CUSTOM_EVENT", "ALWAYS"],
  transformation: ["tf_allow_params", "tf_augment_event", "tf_exclude_params"],
};

/**
 * @typedef {Record<string, any>} Part a client, tag, trigger, variable or transformation
 * @typedef {{
 *   clients: Part[], tags: Part[], triggers: Map<string, Part>, variables: Map<string, Part>,
 *   transformations: Part[], templates: Map<string, import("../template.js").Template>,
 * }} ContainerParts
 */

/** @param {any} document the parsed file @returns {ContainerParts} */
export function parseContainer(document) {
  const version = document?.containerVersion;
  if (document?.exportFormatVersion !== 2 || !version)
    throw new ContainerError("not a container export of version 2");
  if (version.container?.usageContext?.join() !== "SERVER")
    throw new ContainerError("not a server container");
  const parts = {
    clients: version.client ?? [],
    tags: version.tag ?? [],
    triggers: new Map(
      (version.trigger ?? []).map((/** @type {Part} */ each) => [each.triggerId, each]),
    ),
    variables: new Map(
      (version.variable ?? []).map((/** @type {Part} */ each) => [each.name, each]),
    ),
    transformations: version.transformation ?? [],
    templates: new Map(
      (version.customTemplate ?? []).map((/** @type {Part} */ each) => [
        `cvt_${each.containerId}_${each.templateId}`,
        parseTemplate(each.templateData),
      ]),
    ),
  };
  const problems = checkParts(parts, version);
  if (problems.length) throw new ContainerError(problems.join("\n"));
  return parts;
}

/** @param {ContainerParts} parts @param {Part} version @returns {string[]} */
function checkParts(parts, version) {
  const problems = [];
  const ids = ["tag", "trigger", "variable", "client", "transformation"].flatMap((kind) =>
    (version[kind] ?? []).map((/** @type {Part} */ part) => part[`${kind}Id`]),
  );
  if (new Set(ids).size !== ids.length)
    problems.push("two parts have the same id: all kinds share one count");
  for (const [kind, types] of Object.entries(NATIVE_TYPES)) {
    const names = new Set();
    for (const { name, type } of version[kind] ?? []) {
      if (names.has(name)) problems.push(`${name}: two of the kind ${kind} have this name`);
      names.add(name);
      if (type.startsWith("cvt_") && !parts.templates.has(type))
        problems.push(`${name}: no template ${type}`);
      if (!type.startsWith("cvt_") && !types.includes(type))
        problems.push(`${name}: the simulator has no ${kind} ${type}`);
    }
  }
  for (const tag of parts.tags) {
    for (const id of [...(tag.firingTriggerId ?? []), ...(tag.blockingTriggerId ?? [])]) {
      if (!parts.triggers.has(id) && !BUILT_IN_TRIGGERS.has(id))
        problems.push(`${tag.name}: no trigger ${id}`);
    }
  }
  const known = new Set([...parts.variables.keys(), ...builtIns(version), "_event"]);
  const { customTemplate, ...instances } = version;
  for (const [, name] of JSON.stringify(instances).matchAll(/\{\{([^}]+)\}\}/g)) {
    if (!known.has(name)) problems.push(`no variable {{${name}}}`);
  }
  return problems;
}

/** @param {Part} version @returns {string[]} */
function builtIns(version) {
  return (version.builtInVariable ?? []).map((/** @type {Part} */ each) => each.name);
}
