#!/usr/bin/env node
// @ts-check
/** Writes container.json from the templates and container_parts.js. */

import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { CLIENTS, TAGS, TRANSFORMATIONS, TRIGGERS, VARIABLES } from "./container_parts.js";
import { parseTemplate } from "./simulator/template.js";

const FOLDER = new URL(".", import.meta.url);
const IDS = { accountId: "1000000000", containerId: "100000000" };

/** @returns {Record<string, any>} the export */
export function buildContainer() {
  let last = 0;
  const next = () => String((last += 1));
  const templates = readTemplates().map((template) => ({ ...template, id: next() }));
  const typeOf = (/** @type {any} */ part) => {
    const template = templates.find(({ folder }) => folder === part.template);
    return template ? `cvt_${IDS.containerId}_${template.id}` : part.type;
  };
  const numbered = (/** @type {string} */ kind, /** @type {any[]} */ parts) =>
    parts.map(({ template, trigger, exception, ...part }) => {
      const type = typeOf({ template, ...part });
      return structuredClone({ ...IDS, [`${kind}Id`]: next(), ...part, type, fingerprint: "0" });
    });
  const trigger = numbered("trigger", TRIGGERS);
  const idOf = (/** @type {string} */ wanted) =>
    trigger.find(({ name }) => name === wanted)?.triggerId;
  const tag = numbered("tag", TAGS).map((part, i) => ({
    ...part,
    firingTriggerId: [idOf(TAGS[i].trigger)],
    ...(TAGS[i].exception && { blockingTriggerId: [idOf(TAGS[i].exception)] }),
    tagFiringOption: "ONCE_PER_EVENT",
    monitoringMetadata: { type: "MAP" },
    consentSettings: { consentStatus: "NOT_SET" },
  }));
  return {
    exportFormatVersion: 2,
    exportTime: "2026-11-22 00:00:00",
    containerVersion: {
      path: `accounts/${IDS.accountId}/containers/${IDS.containerId}/versions/0`,
      ...IDS,
      containerVersionId: "0",
      container: {
        ...IDS,
        name: "Tagstitch",
        publicId: "GTM-TAGSTTCH",
        usageContext: ["SERVER"],
        fingerprint: "0",
      },
      tag,
      trigger,
      variable: numbered("variable", VARIABLES).map((part) => ({ ...part, formatValue: {} })),
      client: numbered("client", CLIENTS),
      transformation: numbered("transformation", TRANSFORMATIONS),
      builtInVariable: [
        { ...IDS, type: "EVENT_NAME", name: "Event Name" },
        { ...IDS, type: "CLIENT_NAME", name: "Client Name" },
      ],
      customTemplate: templates.map(({ id, name, text }) => ({
        ...IDS,
        templateId: id,
        name,
        fingerprint: "0",
        templateData: text,
      })),
    },
  };
}

function readTemplates() {
  const folders = readdirSync(new URL("templates/", FOLDER)).sort();
  return folders.map((folder) => {
    const text = readFileSync(new URL(`templates/${folder}/template.tpl`, FOLDER), "utf8");
    return { folder, name: parseTemplate(text).name, text };
  });
}

if (import.meta.url === `file://${process.argv[1]}`) {
  writeFileSync(
    new URL("container.json", FOLDER),
    `${JSON.stringify(buildContainer(), null, 2)}\n`,
  );
}
