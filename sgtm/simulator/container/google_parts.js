// @ts-check
/** Stand-ins for Google's own client and tag, whose code nobody has: GA4 in and GA4 out. */

import { encodeEvent, extractEvents, isMpv2 } from "./mpv2.js";

export const GA4_CLIENT = "gaaw_client";
export const GA4_TAG = "sgtmgaaw";

/**
 * Claims collect requests, runs the container for each event, answers when all their tags are done.
 *
 * @param {import("./exchange.js").Exchange} exchange
 * @param {{name: string, clock: () => number, run: (event: any, onComplete: () => void) => void}} client
 */
export function runGa4Client(exchange, { name, clock, run }) {
  if (!isMpv2(exchange.request)) return;
  exchange.claim(name);
  const events = extractEvents(exchange.request, clock());
  let open = events.length;
  for (const event of events) {
    run(event, () => {
      open -= 1;
      if (open === 0) exchange.returnResponse();
    });
  }
}

/**
 * @param {Record<string, any>} event as the tag's transformations leave it
 * @param {Record<string, any>} data
 * @param {{endpoint: string | undefined, log: (entry: Record<string, any>) => void}} where without an endpoint, to the log alone
 */
export async function runGa4Tag(event, data, { endpoint, log }) {
  const measurementId = data.measurementId || event["x-ga-measurement_id"];
  const named = data.eventName ? { ...event, event_name: data.eventName } : event;
  const query = encodeEvent(named, measurementId);
  log({ kind: "ga4", event_name: named.event_name, query });
  if (!endpoint) return;
  const answer = await fetch(`${endpoint}/g/collect?${query}`, { method: "POST" });
  await answer.arrayBuffer();
  if (!answer.ok) throw new Error(`GA4 answered ${answer.status}`);
}
