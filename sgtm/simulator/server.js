// @ts-check
/** Serves a container over HTTP, as a tagging server does. */

import { createServer } from "node:http";

const BODY_BYTES_MAX = 4 * 1024 * 1024;

/**
 * @param {import("./container/container.js").Container} container
 * @param {{port?: number, host?: string}} [options]
 * @returns {Promise<{url: string, close: () => Promise<void>}>}
 */
export async function serve(container, { port = 0, host = "127.0.0.1" } = {}) {
  const server = createServer(async (incoming, outgoing) => {
    try {
      const { status, headers, body } = await container.handle(await readRequest(incoming));
      for (const [name, value] of headers) outgoing.appendHeader(name, value);
      outgoing.writeHead(status).end(body);
    } catch (error) {
      container.log({
        kind: "error",
        name: "server",
        message: /** @type {Error} */ (error).message,
      });
      outgoing.writeHead(500).end();
    }
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => resolve(undefined));
  });
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    url: `http://${host}:${address.port}`,
    close: () =>
      new Promise((resolve) => (server.closeAllConnections(), server.close(() => resolve()))),
  };
}

/** @param {import("node:http").IncomingMessage} incoming */
async function readRequest(incoming) {
  const chunks = [];
  let size = 0;
  for await (const chunk of incoming) {
    size += chunk.length;
    if (size > BODY_BYTES_MAX) throw new Error("the body is too large");
    chunks.push(chunk);
  }
  const url = new URL(incoming.url ?? "/", "http://localhost");
  const headers = Object.entries(incoming.headers).map(([name, value]) => [
    name,
    Array.isArray(value) ? value.join(", ") : (value ?? ""),
  ]);
  return {
    method: incoming.method ?? "GET",
    path: url.pathname,
    query: url.search.slice(1),
    headers: Object.fromEntries(headers),
    body: Buffer.concat(chunks).toString("utf8"),
    remoteAddress: incoming.socket.remoteAddress ?? "",
  };
}
