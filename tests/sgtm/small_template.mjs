// @ts-check
/** Templates of a few lines, and a container around them. */

import { Container } from "../../sgtm/simulator/container/container.js";
import { parseContainer } from "../../sgtm/simulator/container/export.js";
import { parseTemplate } from "../../sgtm/simulator/template.js";

/** @type {Record<string, any[]>} */
const PARAMETERS = {
  access_response: [{ key: "writeResponseAccess", value: { type: 1, string: "any" } }],
  logging: [{ key: "environments", value: { type: 1, string: "debug" } }],
  read_event_data: [{ key: "eventDataAccess", value: { type: 1, string: "any" } }],
  read_request: [{ key: "requestAccess", value: { type: 1, string: "any" } }],
  send_http: [{ key: "allowedUrls", value: { type: 1, string: "any" } }],
  use_message: [{ key: "allowedActions", value: { type: 1, string: "any" } }],
  get_cookies: [{ key: "cookieAccess", value: { type: 1, string: "any" } }],
  set_cookies: [
    {
      key: "allowedCookies",
      value: {
        type: 2,
        listItem: [
          {
            type: 3,
            mapKey: ["name", "domain", "path", "secure", "session"].map((string) => ({
              type: 1,
              string,
            })),
            mapValue: ["*", "*", "*", "any", "any"].map((string) => ({ type: 1, string })),
          },
        ],
      },
    },
  ],
};

/** @param {string | [string, any[]]} permission an id, or an id with its parameters */
const entry = (permission) => {
  const [id, param] = Array.isArray(permission)
    ? permission
    : [permission, PARAMETERS[permission] ?? []];
  return { instance: { key: { publicId: id, versionId: "1" }, param }, isRequired: true };
};

/**
 * @param {{type?: string, code: string, permissions?: Array<string | [string, any[]]>, fields?: any[], tests?: string, info?: any}} parts
 * @returns {string} the text of a .tpl
 */
export function templateText({
  type = "TAG",
  code,
  permissions = [],
  fields = [],
  tests = "scenarios: []",
  info = {},
}) {
  const about = {
    type,
    id: "cvt_temp_public_id",
    version: 1,
    displayName: "Small",
    description: "Small.",
    containerContexts: ["SERVER"],
    ...info,
  };
  const sections = {
    TERMS_OF_SERVICE: "-",
    INFO: JSON.stringify(about),
    TEMPLATE_PARAMETERS: JSON.stringify(fields),
    SANDBOXED_JS_FOR_SERVER: code,
    SERVER_PERMISSIONS: JSON.stringify(permissions.map(entry)),
    TESTS: tests,
    NOTES: "-",
  };
  return Object.entries(sections)
    .map(([name, text]) => `___${name}___\n\n${text}\n`)
    .join("\n");
}

/** @param {Parameters<typeof templateText>[0]} parts */
export const smallTemplate = (parts) => parseTemplate(templateText(parts));

const CLIENT = `
require('claimRequest')();
require('runContainer')({event_name: 'page_view', value: 1}, require('returnResponse'));
`;

/**
 * A client of one event, and tags that all fire.
 *
 * @param {{client?: string, tags?: Record<string, string>, variables?: Record<string, string>, parts?: any}} codes
 */
export function smallContainer({ client = CLIENT, tags = {}, variables = {}, parts = {} }) {
  const ids = { accountId: "1", containerId: "2" };
  let last = 0;
  /** @type {any[]} */
  const customTemplate = [];
  const instance = (
    /** @type {string} */ kind,
    /** @type {string} */ type,
    /** @type {string} */ name,
    /** @type {string} */ code,
  ) => {
    last += 1;
    const permissions = [
      ...Object.keys(PARAMETERS),
      "return_response",
      "run_container",
      "access_template_storage",
      "read_container_data",
    ];
    customTemplate.push({
      ...ids,
      templateId: `t${last}`,
      name,
      templateData: templateText({ type, code, permissions }),
    });
    return {
      [`${kind}Id`]: String(last),
      name,
      type: `cvt_2_t${last}`,
      parameter: [],
      firingTriggerId: ["2147479574"],
    };
  };
  const version = {
    container: { usageContext: ["SERVER"] },
    client: [instance("client", "CLIENT", "Small client", client)],
    tag: Object.entries(tags).map(([name, code]) => instance("tag", "TAG", name, code)),
    variable: Object.entries(variables).map(([name, code]) =>
      instance("variable", "MACRO", name, code),
    ),
    ...parts,
    customTemplate,
  };
  /** @type {any[]} */
  const log = [];
  const container = new Container(
    parseContainer({ exportFormatVersion: 2, containerVersion: version }),
    { log: (each) => log.push(each) },
  );
  return { container, log };
}
