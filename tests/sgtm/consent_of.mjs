// @ts-check
/** Answers what the templates' consent check says of events: a list of them on stdin, JSON out. */

import { readFileSync } from "node:fs";
import { checkLanguage, visit } from "../../sgtm/simulator/language.js";
import { Runtime } from "../../sgtm/simulator/runtime.js";
import { parseTemplate } from "../../sgtm/simulator/template.js";

const FILE = new URL("../../sgtm/templates/visitor-profile-variable/template.tpl", import.meta.url);

const template = parseTemplate(readFileSync(FILE, "utf8"));
let text = "";
visit(checkLanguage(template.code).program, (node) => {
  if (node.type === "FunctionDeclaration" && node.id.name === "consentOf") {
    text = template.code.slice(node.start, node.end);
  }
});
template.code = `
const getType = require('getType');
const makeString = require('makeString');
const Math = require('Math');
${text}
return data.events.map((event) => consentOf(event, data.purpose));`;

const runtime = new Runtime(template, { name: "consentOf" });
const asked = JSON.parse(readFileSync(0, "utf8"));
const answers = runtime.run(runtime.copyIn(asked));
console.log(JSON.stringify(Array.from(answers, (answer) => answer ?? null)));
