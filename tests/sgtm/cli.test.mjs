// @ts-check
/** The simulator's command line. */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { templateText } from "./small_template.mjs";

const CLI = fileURLToPath(new URL("../../sgtm/simulator/cli.js", import.meta.url));
const CONTAINER = fileURLToPath(new URL("../../sgtm/container.json", import.meta.url));
const TEMPLATES = fileURLToPath(new URL("../../sgtm/templates", import.meta.url));
const FOLDER = mkdtempSync(join(tmpdir(), "tagstitch-sgtm-cli-"));

after(() => rmSync(FOLDER, { recursive: true, force: true }));

const run = (/** @type {string[]} */ ...words) =>
  spawnSync(process.execPath, [CLI, ...words], { encoding: "utf8" });

/** @param {string} name @param {string} text */
function file(name, text) {
  const path = join(FOLDER, name);
  writeFileSync(path, text);
  return path;
}

test("what is fine is fine", () => {
  assert.equal(run("lint", TEMPLATES, CONTAINER).status, 0);
});

test("what is wrong is told with its file and place, and fails", () => {
  const path = file(
    "wrong.tpl",
    templateText({ code: "const a = `b`; data.gtmOnSuccess(); data.gtmOnFailure();" }),
  );

  const { status, stderr } = run("lint", path);

  assert.equal(status, 1);
  assert.match(
    stderr,
    /wrong\.tpl: line 15: TemplateLiteral is not in the language: join strings with \+/,
  );
});

test("a file of another kind is refused", () => {
  assert.equal(run("lint", file("a.tpl", "no template")).status, 1);
  assert.equal(run("lint", file("a.json", '{"exportFormatVersion": 1}')).status, 1);
  assert.equal(run("lint", file("b.json", "{")).status, 1);
});

test("a scenario that fails makes the command fail", () => {
  const path = file(
    "failing.tpl",
    templateText({
      code: "data.gtmOnSuccess();",
      tests: "scenarios:\n- name: never\n  code: fail('as it should');",
    }),
  );

  const { status, stderr, stdout } = run("test", path);

  assert.equal(status, 1);
  assert.match(stderr, /never: as it should/);
  assert.match(stdout, /0 scenarios passed, 1 failed/);
});

test("a wrong use shows the usage", () => {
  assert.equal(run().status, 2);
  assert.match(run("simulate").stderr, /usage:/);
});

for (const [what, words, message] of /** @type {Array<[string, string[], RegExp]>} */ ([
  ["a file that is not there", ["lint", "nothing.tpl"], /no such file .*nothing\.tpl/],
  ["a folder without templates", ["test", CONTAINER], /no template \(\.tpl\) in .*container\.json/],
  ["a container that is none", ["serve", file("none.json", "{}")], /not a container export/],
  ["an option that does not exist", ["lint", "--all", CONTAINER], /Unknown option '--all'/],
  ["a port that is none", ["serve", CONTAINER, "--port", "x"], /port/],
  ["a constant that is none", ["serve", CONTAINER, "--set", "A=1"], /no constant variable .* A$/m],
])) {
  test(`${what} is told in a line, and fails`, () => {
    const { status, stderr } = run(...words);

    assert.notEqual(status, 0);
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /^ +at /m);
  });
}

test("a port that is taken is told in a line", async () => {
  const taken = createServer();
  await new Promise((resolve) => taken.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (taken.address());

  const { status, stderr } = run("serve", CONTAINER, "--port", String(port));
  taken.close();

  assert.equal(status, 1);
  assert.match(stderr, /^listen EADDRINUSE/);
});

test("a served container answers, and sends nothing to Google", async () => {
  const words = [
    CLI,
    "serve",
    CONTAINER,
    "--port",
    "0",
    "--set",
    "Tagstitch - Decide URL=http://127.0.0.1:9/",
    "--set",
    "Tagstitch - Guard secret=any text of 24 characters or more",
  ];
  const served = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  const lines = () =>
    output
      .split("\n")
      .filter((line) => line.endsWith("}"))
      .map((line) => JSON.parse(line));
  const url = await new Promise((resolve) => {
    served.stdout.on("data", (chunk) => {
      output += chunk;
      const ready = lines().find(({ kind }) => kind === "ready");
      if (ready) resolve(ready.url);
    });
  });

  const answer = await fetch(`${url}/g/collect?v=2&tid=G-1&cid=1.2&en=purchase`);
  served.kill();
  await new Promise((resolve) => served.once("exit", resolve));

  assert.equal(answer.status, 200);
  assert.deepEqual(lines()[0].to_replace, [
    "Tagstitch - Stitch URL",
    "Tagstitch - Key",
    "Tagstitch - Browser key",
    "GA4 - Measurement ID",
  ]);
  assert.deepEqual(
    lines()
      .filter(({ kind }) => kind === "ga4")
      .map(({ event_name }) => event_name),
    ["purchase"],
  );
});
