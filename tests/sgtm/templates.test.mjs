// @ts-check
/** The templates in the repository: linted, tested, complete, and wired into the export. */

import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { buildContainer } from "../../sgtm/build_container.js";
import { parseContainer } from "../../sgtm/simulator/container/export.js";
import { visit, checkLanguage } from "../../sgtm/simulator/language.js";
import { lintTemplate } from "../../sgtm/simulator/lint.js";
import { parseTemplate } from "../../sgtm/simulator/template.js";
import { runScenarios } from "../../sgtm/simulator/template_tests.js";

const SGTM = new URL("../../sgtm/", import.meta.url);
const FOLDERS = readdirSync(new URL("templates/", SGTM)).sort();
const read = (/** @type {string} */ path) => readFileSync(new URL(path, SGTM), "utf8");
const template = (/** @type {string} */ folder) =>
  parseTemplate(read(`templates/${folder}/template.tpl`));

/** Functions that only look alike. */
const OWN = new Set(["answerBrowser", "respond"]);

for (const folder of FOLDERS) {
  test(`${folder} passes the linter`, () => {
    assert.deepEqual(lintTemplate(template(folder)), []);
  });

  test(`${folder} passes its own tests`, async () => {
    const results = await runScenarios(template(folder));

    assert.deepEqual(
      results.filter(({ error }) => error),
      [],
    );
    assert.ok(results.length >= 5);
  });

  test(`${folder} is tested with denied consent, and with each way a call can fail`, () => {
    const names = template(folder)
      .scenarios.map(({ name }) => name)
      .join("\n");
    const sends = template(folder).code.includes("sendHttpRequest");
    const topics = sends
      ? [/timeout/i, /error of the service/i, /bad JSON/i, /consent/i]
      : [/consent/i, ...(template(folder).code.includes("JSON.parse") ? [/bad JSON/i] : [])];

    assert.deepEqual(
      topics.filter((topic) => !topic.test(names)),
      [],
    );
  });

  test(`${folder} can be a gallery repository`, () => {
    const missing = ["template.tpl", "metadata.yaml", "LICENSE", "README.md"].filter(
      (name) => !existsSync(new URL(`templates/${folder}/${name}`, SGTM)),
    );

    assert.deepEqual(missing, []);
    assert.match(read(`templates/${folder}/LICENSE`), /Apache License\s+Version 2\.0/);
    assert.match(read(`templates/${folder}/README.md`), /```mermaid/);
    assert.doesNotMatch(read(`templates/${folder}/README.md`), /\]\(\.\./, "a link out of it");
  });

  test(`every field of ${folder} is in its README`, () => {
    const readme = read(`templates/${folder}/README.md`);
    const labels = template(folder).fields.flatMap(labelsOf);

    assert.deepEqual(
      labels.filter((label) => !readme.includes(`| ${label} |`)),
      [],
    );
  });
}

/** @param {any} field @returns {string[]} */
function labelsOf(field) {
  if (field.type === "GROUP") return field.subParams.flatMap(labelsOf);
  return [field.displayName ?? field.checkboxText];
}

test("a function that several templates have is the same in each", () => {
  /** @type {Map<string, Map<string, string[]>>} */
  const texts = new Map();
  for (const folder of FOLDERS) {
    const { code } = template(folder);
    visit(checkLanguage(code).program, (node) => {
      if (node.type !== "FunctionDeclaration" || OWN.has(node.id.name)) return;
      const versions = texts.get(node.id.name) ?? new Map();
      const text = code.slice(node.start, node.end);
      versions.set(text, [...(versions.get(text) ?? []), folder]);
      texts.set(node.id.name, versions);
    });
  }

  const differing = [...texts].filter(([, versions]) => versions.size > 1);

  assert.deepEqual(
    differing.map(([name, versions]) => [name, [...versions.values()]]),
    [],
  );
});

test("the container export is the one that its parts make", () => {
  assert.deepEqual(JSON.parse(read("container.json")), buildContainer());
});

test("the container export can be imported, and holds every template", () => {
  const parts = parseContainer(JSON.parse(read("container.json")));

  assert.equal(parts.templates.size, FOLDERS.length);
});

test("no secret stands in the container export, only what must be replaced", () => {
  const { variable } = JSON.parse(read("container.json")).containerVersion;
  const constants = variable.filter(
    (/** @type {any} */ each) => each.type === "c" && each.name !== "Tagstitch - Switch",
  );

  for (const { parameter } of constants) assert.match(parameter[0].value, /REPLACE/);
});
