// @ts-check
/** Transformations: what a tag sees of an event. They change nothing for triggers. */

import { readParameters } from "./parameters.js";

/** The order in which the three kinds work. */
const KINDS = ["tf_allow_params", "tf_augment_event", "tf_exclude_params"];

/**
 * @param {Record<string, any>} event
 * @param {import("./export.js").Part} tag
 * @param {import("./export.js").Part[]} transformations
 * @param {(event: Record<string, any>) => (name: string) => Promise<any>} evaluatorOf variables of an event, evaluated anew
 * @returns {Promise<Record<string, any>>} another object when something applies, else the same
 */
export async function transformEvent(event, tag, transformations, evaluatorOf) {
  let seen = event;
  for (const kind of KINDS) {
    for (const transformation of transformations.filter((each) => each.type === kind)) {
      const settings = await readParameters(transformation.parameter, evaluatorOf(event));
      if (settings.matchingConditionsEnabled)
        throw new Error("the simulator has no matching conditions");
      if (isAffected(tag, settings)) seen = apply(kind, seen, settings);
    }
  }
  return seen;
}

/** @param {import("./export.js").Part} tag @param {Record<string, any>} settings */
function isAffected(tag, settings) {
  const names = (settings.affectedTags ?? []).map((/** @type {any} */ row) => row.tagReference);
  const types = (settings.affectedTagTypes ?? []).map((/** @type {any} */ row) => row.tagType);
  const isListed = names.includes(tag.name) || types.includes(tag.type);
  if (settings.allTagsExcept) return !isListed;
  return isListed || (names.length === 0 && types.length === 0);
}

/** @param {string} kind @param {Record<string, any>} event @param {Record<string, any>} settings */
function apply(kind, event, settings) {
  if (kind === "tf_augment_event") {
    const rows = settings.augmentEventTable ?? [];
    return {
      ...event,
      ...Object.fromEntries(rows.map((/** @type {any} */ row) => [row.paramName, row.paramValue])),
    };
  }
  const isAllowing = kind === "tf_allow_params";
  const rows = (isAllowing ? settings.allowedParamsTable : settings.excludedParamsTable) ?? [];
  const names = new Set(
    rows.map((/** @type {any} */ row) => (isAllowing ? row.allowedParams : row.excludedParams)),
  );
  return Object.fromEntries(Object.entries(event).filter(([key]) => names.has(key) === isAllowing));
}
