// @ts-check
/** The language of templates: ES5.1 with const, let, arrow functions and for-of; no more. */

import { parse } from "acorn";
import { API_CATALOGUE, NOT_AN_API } from "./api_catalogue.js";

/** Syntax that published server templates use. What is not listed is refused. */
const ALLOWED_NODES = new Set([
  "ArrayExpression",
  "ArrowFunctionExpression",
  "AssignmentExpression",
  "BinaryExpression",
  "BlockStatement",
  "BreakStatement",
  "CallExpression",
  "ConditionalExpression",
  "ContinueStatement",
  "DoWhileStatement",
  "EmptyStatement",
  "ExpressionStatement",
  "ForInStatement",
  "ForOfStatement",
  "ForStatement",
  "FunctionDeclaration",
  "FunctionExpression",
  "Identifier",
  "IfStatement",
  "Literal",
  "LogicalExpression",
  "MemberExpression",
  "ObjectExpression",
  "Program",
  "Property",
  "ReturnStatement",
  "SwitchCase",
  "SwitchStatement",
  "UnaryExpression",
  "UpdateExpression",
  "VariableDeclaration",
  "VariableDeclarator",
  "WhileStatement",
]);

/** @type {Record<string, string>} */
const INSTEAD = {
  AwaitExpression: "use promise.then",
  ChainExpression: "test each step",
  ClassDeclaration: "use functions",
  NewExpression: "there is no `new`",
  ObjectPattern: "read each property",
  ArrayPattern: "read each element",
  AssignmentPattern: "test for undefined",
  RestElement: "name the parameters",
  SpreadElement: "copy with a loop",
  TaggedTemplateExpression: "join strings with +",
  TemplateLiteral: "join strings with +",
  ThisExpression: "there is no `this`",
  ThrowStatement: "call data.gtmOnFailure or return",
  TryStatement: "nothing can be caught; test before",
};

const FORBIDDEN_OPERATORS = new Set([
  "in",
  "instanceof",
  "delete",
  "**",
  "**=",
  "??",
  "??=",
  "&&=",
  "||=",
]);

/** After ES5.1, or a way out of the sandbox. */
export const FORBIDDEN_METHODS = new Set([
  "__proto__",
  "at",
  "codePointAt",
  "constructor",
  "copyWithin",
  "endsWith",
  "find",
  "findIndex",
  "findLast",
  "findLastIndex",
  "flat",
  "flatMap",
  "includes",
  "isArray",
  "matchAll",
  "normalize",
  "padEnd",
  "padStart",
  "prototype",
  "repeat",
  "replaceAll",
  "startsWith",
  "toReversed",
  "toSorted",
  "toSpliced",
  "trimEnd",
  "trimStart",
]);

const GLOBALS = new Set(["arguments", "data", "require", "undefined", "NaN", "Infinity"]);

/**
 * @typedef {{line: number, message: string}} Finding
 * @typedef {{name: string, line: number}} Required
 */

/**
 * Check sandboxed code and list the APIs that it asks for.
 *
 * @param {string} code
 * @param {{globals?: string[]}} [options] names that exist besides, as in tests
 * @returns {{findings: Finding[], required: Required[], program: any}}
 */
export function checkLanguage(code, { globals = [] } = {}) {
  /** @type {Finding[]} */
  const findings = [];
  /** @type {any} */
  let program;
  try {
    program = parse(code, { ecmaVersion: 2023, allowReturnOutsideFunction: true, locations: true });
  } catch (error) {
    const { loc, message } = /** @type {any} */ (error);
    return { findings: [{ line: loc?.line ?? 1, message }], required: [], program: undefined };
  }
  /** @type {Required[]} */
  const required = [];
  const declared = new Set([...GLOBALS, ...globals, ...declaredNames(program)]);
  visit(program, (node, parent, key) => {
    const complaint =
      syntaxComplaint(node) ??
      nameComplaint(node, parent, key, declared) ??
      requireComplaint(node, required);
    if (complaint) findings.push({ line: node.loc.start.line, message: complaint });
  });
  return { findings, required, program };
}

/**
 * @param {any} node
 * @param {(node: any, parent: any, key: string) => void} see
 * @param {any} [parent]
 * @param {string} [key]
 */
export function visit(node, see, parent = undefined, key = "") {
  see(node, parent, key);
  for (const [name, value] of Object.entries(node)) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (child && typeof child.type === "string") visit(child, see, node, name);
    }
  }
}

/** @param {any} node @returns {string | undefined} */
function syntaxComplaint(node) {
  if (!ALLOWED_NODES.has(node.type)) {
    return `${node.type} is not in the language${INSTEAD[node.type] ? `: ${INSTEAD[node.type]}` : ""}`;
  }
  if (FORBIDDEN_OPERATORS.has(node.operator)) {
    const instead = node.operator === "delete" ? ": use Object.delete(object, key)" : "";
    return `the operator ${node.operator} is not in the language${instead}`;
  }
  if (node.async || node.generator || node.await)
    return "async functions and generators are not in the language";
  if (
    node.type === "Property" &&
    (node.shorthand || node.computed || node.method || node.kind !== "init")
  ) {
    return "only `key: value` stands in an object";
  }
  if (node.regex) return "a regex literal is not in the language: use createRegex and testRegex";
  if (node.bigint) return "BigInt is not in the language";
  if (node.optional) return "optional chaining is not in the language: test each step";
  return undefined;
}

/**
 * @param {any} node
 * @param {any} parent
 * @param {string} key
 * @param {Set<string>} declared
 * @returns {string | undefined}
 */
function nameComplaint(node, parent, key, declared) {
  if (node.type === "MemberExpression") {
    const name = node.computed ? node.property.value : node.property.name;
    if (FORBIDDEN_METHODS.has(name)) return `.${name} does not exist in the sandbox`;
  }
  if (node.type !== "Identifier" || declared.has(node.name)) return undefined;
  const isName =
    (parent.type === "MemberExpression" && key === "property" && !parent.computed) ||
    (parent.type === "Property" && key === "key");
  if (isName) return undefined;
  const hint = Object.hasOwn(API_CATALOGUE, node.name)
    ? `an API needs require('${node.name}')`
    : NOT_AN_API[node.name];
  return `${node.name} is not declared${hint ? `: ${hint}` : ""}`;
}

/** @param {any} node @param {Required[]} required @returns {string | undefined} */
function requireComplaint(node, required) {
  if (node.type !== "CallExpression" || node.callee.name !== "require") return undefined;
  const [argument] = node.arguments;
  if (node.arguments.length !== 1 || typeof argument.value !== "string") {
    return "require takes one literal name";
  }
  required.push({ name: argument.value, line: node.loc.start.line });
  return undefined;
}

/** Every name that is declared anywhere: enough to find APIs that nobody required. @param {any} program */
function declaredNames(program) {
  /** @type {string[]} */
  const names = [];
  visit(program, (node) => {
    if (node.type === "VariableDeclarator" || node.type === "FunctionDeclaration")
      names.push(node.id.name);
    for (const parameter of node.params ?? []) names.push(parameter.name);
  });
  return names;
}
