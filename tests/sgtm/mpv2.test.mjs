// @ts-check
/** GA4's protocol in both directions. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeEvent, extractEvents, isMpv2 } from "../../sgtm/simulator/container/mpv2.js";
import { hitQuery, incoming } from "./simulated.mjs";

const extract = (/** @type {any} */ request) => extractEvents(incoming(request), 1763700000123);

test("a hit becomes event data under Google's names", () => {
  const query = hitQuery({
    en: "purchase",
    "epn.value": "7.5",
    "ep.coupon": "X",
    uid: "u-1",
    "up.membership": "gold",
    "upn.age": "30",
    "sst.rnd": "1.2",
    cu: "EUR",
  });

  const [event] = extract({ query });

  assert.deepEqual(
    {
      event_name: event.event_name,
      client_id: event.client_id,
      user_id: event.user_id,
      value: event.value,
      coupon: event.coupon,
      currency: event.currency,
      session: event.ga_session_number,
      user_properties: event["x-ga-mp2-user_properties"],
      measurement_id: event["x-ga-measurement_id"],
      ip: event.ip_override,
      system: event["x-sst-system_properties"],
    },
    {
      event_name: "purchase",
      client_id: "1294673677.1747154479",
      user_id: "u-1",
      value: 7.5,
      coupon: "X",
      currency: "EUR",
      session: 3,
      user_properties: { membership: "gold", age: 30 },
      measurement_id: "G-TEST123",
      ip: "203.0.113.7",
      system: {
        rnd: "1.2",
        request_start_time_ms: 1763700000123,
        consent: { consentGrantedState: { ad_storage: true, analytics_storage: true } },
      },
    },
  );
});

test("an item has its names, numbers and parameters of its own", () => {
  const pr1 =
    "idSKU_1~nmStan and Friends Tee~brGoogle~c2Adult~ds2.22~lp0~pr10.01~qt3~k0stock_status~v0in_stock";

  const [event] = extract({ query: hitQuery({ en: "view_item", pr1, pr2: "idSKU_2" }) });

  assert.deepEqual(event.items, [
    {
      item_id: "SKU_1",
      item_name: "Stan and Friends Tee",
      item_brand: "Google",
      item_category2: "Adult",
      discount: 2.22,
      index: 0,
      price: 10.01,
      quantity: 3,
      stock_status: "in_stock",
    },
    { item_id: "SKU_2" },
  ]);
});

test("each line of a body is an event with what the query says of all", () => {
  const events = extract({
    method: "POST",
    query: hitQuery({}),
    body: "en=page_view\r\nen=scroll&_et=9\r\n",
  });

  assert.deepEqual(
    events.map(({ event_name }) => event_name),
    ["page_view", "scroll"],
  );
  assert.deepEqual(new Set(events.map(({ client_id }) => client_id)).size, 1);
});

test("only collect requests of the second version are such hits", () => {
  const is = (/** @type {any} */ request) => isMpv2(incoming(request));

  assert.equal(is({ query: "v=2&en=a" }), true);
  assert.equal(is({ query: "v=1&t=event" }), false);
  assert.equal(is({ path: "/stitch", query: "v=2" }), false);
});

test("what nobody set as Google's own leaves with the tag, whatever it is called", () => {
  const event = {
    event_name: "purchase",
    value: 7.5,
    "x-tagstitch": { guard: "g" },
    "x-ga-gcu": "1",
    "x-sst-a": 1,
    coupon: "X",
  };

  const sent = Object.fromEntries(new URLSearchParams(encodeEvent(event, "G-1")));

  assert.deepEqual(sent, {
    en: "purchase",
    "epn.value": "7.5",
    "ep.x-tagstitch": '{"guard":"g"}',
    gcu: "1",
    "ep.coupon": "X",
    tid: "G-1",
  });
});

test("items come out of the protocol as they went in", () => {
  const items = [
    {
      item_id: "SKU_1",
      item_name: "Tee",
      price: 10.01,
      quantity: 3,
      index: 0,
      stock_status: "in_stock",
      size: "M",
    },
    { item_id: "SKU_2" },
  ];

  const [event] = extract({
    query: `v=2&${encodeEvent({ event_name: "view_item", items }, "G-1")}`,
  });

  assert.deepEqual(event.items, items);
});
