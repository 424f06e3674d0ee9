___TERMS_OF_SERVICE___

By creating or modifying this file you agree to Google Tag Manager's Community
Template Gallery Developer Terms of Service available at
https://developers.google.com/tag-manager/gallery-tos (or such other URL as
Google may provide), as modified from time to time.


___INFO___

{
  "type": "TAG",
  "id": "cvt_temp_public_id",
  "version": 1,
  "securityGroups": [],
  "displayName": "Tagstitch: decide and re-run",
  "categories": [
    "UTILITY"
  ],
  "brand": {
    "id": "brand_dummy",
    "displayName": "Tagstitch"
  },
  "description": "Asks Tagstitch what becomes of an event, and runs the container again with the decided one: renamed, changed, or not at all.",
  "containerContexts": [
    "SERVER"
  ]
}


___TEMPLATE_PARAMETERS___

[
  {
    "type": "GROUP",
    "name": "service",
    "displayName": "Service",
    "groupStyle": "ZIPPY_OPEN",
    "subParams": [
      {
        "type": "TEXT",
        "name": "serviceUrl",
        "displayName": "URL of decide, with /decide at its end",
        "simpleValueType": true,
        "valueHint": "https://…",
        "valueValidators": [
          {
            "type": "NON_EMPTY"
          }
        ]
      },
      {
        "type": "TEXT",
        "name": "apiKey",
        "displayName": "Key",
        "simpleValueType": true,
        "help": "The secret of one of TAGSTITCH_KEYS, from a constant variable. It is sent as X-Tagstitch-Key.",
        "valueValidators": [
          {
            "type": "NON_EMPTY"
          }
        ]
      },
      {
        "type": "TEXT",
        "name": "timeoutMs",
        "displayName": "Timeout in milliseconds",
        "simpleValueType": true,
        "help": "50 to 4,000; anything else counts as 500.",
        "defaultValue": "500",
        "valueValidators": [
          {
            "type": "REGEX",
            "args": [
              "^[0-9]+$"
            ],
            "errorMessage": "a whole number"
          }
        ]
      }
    ]
  },
  {
    "type": "GROUP",
    "name": "decision",
    "displayName": "Decision",
    "groupStyle": "ZIPPY_OPEN",
    "subParams": [
      {
        "type": "TEXT",
        "name": "guardSecret",
        "displayName": "Guard secret",
        "simpleValueType": true,
        "help": "24 characters or more, chosen at random, the same in every Tagstitch tag, variable and client. Use one constant variable.",
        "valueValidators": [
          {
            "type": "NON_EMPTY"
          }
        ]
      },
      {
        "type": "RADIO",
        "name": "onFailure",
        "displayName": "When there is no decision",
        "simpleValueType": true,
        "defaultValue": "open",
        "radioItems": [
          {
            "value": "open",
            "displayValue": "let the event leave as it came"
          },
          {
            "value": "drop",
            "displayValue": "drop the event"
          }
        ],
        "help": "No decision: a timeout, an error, bad JSON."
      },
      {
        "type": "TEXT",
        "name": "forwardedParameters",
        "displayName": "Forwarded parameters",
        "simpleValueType": true,
        "help": "Separated by commas. Empty: every parameter of the event. The event name, client_id and the consent signals are always sent."
      },
      {
        "type": "CHECKBOX",
        "name": "personalization",
        "checkboxText": "Ask for personalization too",
        "simpleValueType": true,
        "defaultValue": true,
        "help": "For the Personalize tag: one call serves both."
      },
      {
        "type": "SIMPLE_TABLE",
        "name": "profileAttributes",
        "displayName": "Profile attributes to add to the event",
        "simpleTableColumns": [
          {
            "defaultValue": "",
            "displayName": "Attribute",
            "name": "attribute",
            "type": "TEXT"
          },
          {
            "defaultValue": "",
            "displayName": "Parameter",
            "name": "parameter",
            "type": "TEXT"
          }
        ],
        "help": "Needs a key with the scope lookup. What is added leaves with every tag that sends the parameter."
      }
    ]
  }
]


___SANDBOXED_JS_FOR_SERVER___

const getAllEventData = require('getAllEventData');
const getRequestBody = require('getRequestBody');
const getRequestMethod = require('getRequestMethod');
const getRequestPath = require('getRequestPath');
const getRequestQueryString = require('getRequestQueryString');
const getTimestampMillis = require('getTimestampMillis');
const getType = require('getType');
const JSON = require('JSON');
const logToConsole = require('logToConsole');
const makeInteger = require('makeInteger');
const makeString = require('makeString');
const Math = require('Math');
const Object = require('Object');
const runContainer = require('runContainer');
const sendHttpRequest = require('sendHttpRequest');
const sha256Sync = require('sha256Sync');

const RESERVED = 'x-tagstitch';
const GUARD_MS = 30000;

// The guard marks an event as decided. It is bound to this very HTTP request: a guard that is
// copied into a later hit changes that request, and with it the guard it would need.
function guardOf(event, decisionId, expiry) {
  const hex = {outputEncoding: 'hex'};
  const request = sha256Sync(JSON.stringify([
    getRequestMethod(), getRequestPath(), getRequestQueryString(), getRequestBody()
  ]), hex);
  const signed = JSON.stringify([decisionId, expiry, event.client_id, event.event_name, request]);
  const inner = sha256Sync(data.guardSecret + signed, hex);
  return decisionId + '.' + expiry + '.' + sha256Sync(data.guardSecret + inner, hex);
}

function hasGuardSecret() {
  return makeString(data.guardSecret).length >= 24 && data.guardSecret.indexOf('REPLACE') !== 0;
}

function isDecided(event) {
  const mark = event[RESERVED];
  const guard = getType(mark) === 'object' ? mark.guard : undefined;
  if (!hasGuardSecret() || getType(guard) !== 'string') return false;
  const parts = guard.split('.');
  const expiry = makeInteger(parts[1]);
  const now = getTimestampMillis();
  if (parts.length !== 3 || !(expiry > now && expiry <= now + GUARD_MS)) return false;
  return sha256Sync(guard) === sha256Sync(guardOf(event, parts[0], expiry)); // not to be timed
}

function timeoutMs() {
  const wanted = makeInteger(data.timeoutMs);
  return wanted >= 50 && wanted <= 4000 ? wanted : 500;
}

function listed(text) {
  return makeString(text || '').split(',').map((each) => each.trim()).filter((each) => each !== '');
}

// A promise of the answer's object; of undefined for a timeout, an error or bad JSON.
function ask(url, body) {
  const options = {
    method: 'POST',
    timeout: timeoutMs(),
    headers: {'Content-Type': 'application/json', 'X-Tagstitch-Key': data.apiKey}
  };
  return sendHttpRequest(url, options, JSON.stringify(body)).then((answer) => {
    const parsed = answer.statusCode === 200 ? JSON.parse(answer.body) : undefined;
    return getType(parsed) === 'object' ? parsed : undefined;
  }).catch(() => undefined);
}

// Google's own parameters and our mark are nobody's to change.
function isProtected(name) {
  return name === RESERVED || name === 'event_name' || name.indexOf('x-ga-') === 0 || name.indexOf('x-sst-') === 0;
}

// What decide is told of the event: everything, or the allow-list with what it always needs.
function forwarded(event) {
  const names = listed(data.forwardedParameters);
  const always = ['event_name', 'client_id', 'consent_state', 'x-ga-gcd', 'x-ga-gcs'];
  const sent = {};
  for (const name in event) {
    const isSent = names.length === 0 || names.indexOf(name) >= 0 || always.indexOf(name) >= 0;
    if (isSent && name !== RESERVED) sent[name] = event[name];
  }
  const system = event['x-sst-system_properties'];
  if (names.length > 0 && getType(system) === 'object') {
    sent['x-sst-system_properties'] = {consent: system.consent, request_start_time_ms: system.request_start_time_ms};
  }
  return sent;
}

function question(event) {
  const body = {event: forwarded(event), include: ['event'], deadline_ms: Math.floor(timeoutMs() * 0.8)};
  const rows = data.profileAttributes || [];
  if (data.personalization) body.include.push('personalization');
  if (rows.length > 0) {
    body.include.push('profile');
    body.fields = rows.map((row) => row.attribute);
  }
  return body;
}

function isDecision(answer) {
  const decision = getType(answer) === 'object' ? answer.event : undefined;
  return getType(decision) === 'object' && getType(decision.drop) === 'boolean' &&
    (decision.rename === null || getType(decision.rename) === 'string') &&
    getType(decision.set) === 'object' && getType(decision.unset) === 'array';
}

// The event as it is to leave. Without a decision: as it came, but marked, so that it can.
function decidedEvent(event, answer) {
  const result = {};
  for (const name in event) result[name] = event[name];
  const mark = {};
  if (answer) {
    const attributes = getType(answer.profile) === 'object' ? answer.profile.attributes || {} : {};
    (data.profileAttributes || []).forEach((row) => {
      if (!isProtected(row.parameter) && attributes[row.attribute] !== undefined) {
        result[row.parameter] = attributes[row.attribute];
      }
    });
    answer.event.unset.forEach((name) => {
      if (!isProtected(name)) Object.delete(result, name);
    });
    for (const name in answer.event.set) if (!isProtected(name)) result[name] = answer.event.set[name];
    if (answer.event.rename) result.event_name = answer.event.rename;
    if (getType(answer.personalization) === 'object') mark.actions = answer.personalization.actions;
  }
  const id = answer && getType(answer.decision_id) === 'string' ? answer.decision_id : '';
  mark.guard = guardOf(result, id.split('.').join('-') || 'undecided', getTimestampMillis() + GUARD_MS);
  result[RESERVED] = mark;
  return result;
}

const event = getAllEventData();
if (isDecided(event)) return data.gtmOnSuccess(); // this run is our own: never decide twice
if (!hasGuardSecret()) {
  logToConsole('Tagstitch: the guard secret needs 24 characters or more');
  return data.gtmOnFailure();
}

ask(data.serviceUrl, question(event)).then((answer) => {
  const isGood = isDecision(answer);
  if (!isGood && data.onFailure === 'drop') return data.gtmOnFailure();
  if (isGood && answer.event.drop) return data.gtmOnSuccess();
  runContainer(decidedEvent(event, isGood ? answer : undefined), isGood ? data.gtmOnSuccess : data.gtmOnFailure);
});


___SERVER_PERMISSIONS___

[
  {
    "instance": {
      "key": {
        "publicId": "logging",
        "versionId": "1"
      },
      "param": [
        {
          "key": "environments",
          "value": {
            "type": 1,
            "string": "debug"
          }
        }
      ]
    },
    "clientAnnotations": {
      "isEditedByUser": true
    },
    "isRequired": true
  },
  {
    "instance": {
      "key": {
        "publicId": "read_event_data",
        "versionId": "1"
      },
      "param": [
        {
          "key": "eventDataAccess",
          "value": {
            "type": 1,
            "string": "any"
          }
        }
      ]
    },
    "clientAnnotations": {
      "isEditedByUser": true
    },
    "isRequired": true
  },
  {
    "instance": {
      "key": {
        "publicId": "read_request",
        "versionId": "1"
      },
      "param": [
        {
          "key": "queryParametersAllowed",
          "value": {
            "type": 8,
            "boolean": true
          }
        },
        {
          "key": "bodyAllowed",
          "value": {
            "type": 8,
            "boolean": true
          }
        },
        {
          "key": "pathAllowed",
          "value": {
            "type": 8,
            "boolean": true
          }
        },
        {
          "key": "requestAccess",
          "value": {
            "type": 1,
            "string": "specific"
          }
        },
        {
          "key": "headerAccess",
          "value": {
            "type": 1,
            "string": "any"
          }
        },
        {
          "key": "queryParameterAccess",
          "value": {
            "type": 1,
            "string": "any"
          }
        }
      ]
    },
    "clientAnnotations": {
      "isEditedByUser": true
    },
    "isRequired": true
  },
  {
    "instance": {
      "key": {
        "publicId": "run_container",
        "versionId": "1"
      },
      "param": []
    },
    "clientAnnotations": {
      "isEditedByUser": true
    },
    "isRequired": true
  },
  {
    "instance": {
      "key": {
        "publicId": "send_http",
        "versionId": "1"
      },
      "param": [
        {
          "key": "allowedUrls",
          "value": {
            "type": 1,
            "string": "any"
          }
        }
      ]
    },
    "clientAnnotations": {
      "isEditedByUser": true
    },
    "isRequired": true
  }
]


___TESTS___

scenarios:
- name: A decision renames, sets and unsets, and the container runs again
  code: |-
    answer(200, JSON.stringify(decision({rename: 'micro_purchase', set: {value: 3}, unset: ['coupon']})));
    runCode(mockData);
    callLater(() => {
      assertApi('runContainer').wasCalled();
      assertThat(ran.event_name).isEqualTo('micro_purchase');
      assertThat(ran.value).isEqualTo(3);
      assertThat(ran.coupon).isUndefined();
      assertThat(ran['x-tagstitch'].guard.split('.')[0]).isEqualTo('d-1');
      assertApi('gtmOnSuccess').wasCalled();
    });
- name: An event that is dropped runs nothing
  code: |-
    answer(200, JSON.stringify(decision({drop: true})));
    runCode(mockData);
    callLater(() => {
      assertApi('runContainer').wasNotCalled();
      assertApi('gtmOnSuccess').wasCalled();
    });
- name: Its own run is not decided again
  code: |-
    answer(200, JSON.stringify(decision({})));
    runCode(mockData);
    callLater(() => {
      mock('getAllEventData', ran);
      asked = 0;
      runCode(mockData);
      assertThat(asked).isEqualTo(0);
      assertApi('gtmOnSuccess').wasCalled();
    });
- name: A guard that a browser made up is decided like any other event
  code: |-
    event['x-tagstitch'] = {guard: 'd-1.' + (now + 20000) + '.0000'};
    answer(200, JSON.stringify(decision({})));
    runCode(mockData);
    callLater(() => {
      assertThat(asked).isEqualTo(1);
      assertThat(sent.event['x-tagstitch']).isUndefined();
    });
- name: A guard is worth nothing in another request, for another event, or later
  code: |-
    answer(200, JSON.stringify(decision({})));
    runCode(mockData);
    callLater(() => {
      const marked = ran;
      asked = 0;
      mock('getAllEventData', marked);
      mock('getRequestBody', 'en=purchase&ep.x-tagstitch=copied');
      runCode(mockData);
      mock('getRequestBody', undefined);
      mock('getTimestampMillis', now + 30001);
      runCode(mockData);
      mock('getTimestampMillis', now);
      marked.client_id = 'another';
      runCode(mockData);
      assertThat(asked).isEqualTo(3);
    });
- name: A timeout lets the event leave as it came
  code: |-
    fail_('timed_out');
    runCode(mockData);
    callLater(() => {
      assertThat(ran.event_name).isEqualTo('purchase');
      assertThat(ran.coupon).isEqualTo('X');
      assertThat(ran['x-tagstitch'].guard.split('.')[0]).isEqualTo('undecided');
      assertApi('gtmOnFailure').wasCalled();
    });
- name: A timeout drops the event when the field says so
  code: |-
    fail_('timed_out');
    mockData.onFailure = 'drop';
    runCode(mockData);
    callLater(() => {
      assertApi('runContainer').wasNotCalled();
      assertApi('gtmOnFailure').wasCalled();
    });
- name: An error of the service lets the event leave as it came
  code: |-
    answer(503, '{"error": {}}');
    runCode(mockData);
    callLater(() => assertThat(ran.event_name).isEqualTo('purchase'));
- name: Bad JSON lets the event leave as it came
  code: |-
    answer(200, '<html>');
    runCode(mockData);
    callLater(() => assertThat(ran.event_name).isEqualTo('purchase'));
- name: An answer of another shape is no decision
  code: |-
    answer(200, '{"event": {"drop": "yes"}}');
    runCode(mockData);
    callLater(() => assertThat(ran.event_name).isEqualTo('purchase'));
- name: Denied consent travels with the event, whatever the allow-list says
  code: |-
    event['x-ga-gcs'] = 'G100';
    event['x-sst-system_properties'] = {consent: {consentGrantedState: {analytics_storage: false}}, secret: 'x'};
    mockData.forwardedParameters = 'value';
    answer(200, JSON.stringify(decision({})));
    runCode(mockData);
    callLater(() => {
      assertThat(sent.event['x-ga-gcs']).isEqualTo('G100');
      assertThat(sent.event['x-sst-system_properties'].consent.consentGrantedState.analytics_storage).isFalse();
      assertThat(sent.event['x-sst-system_properties'].secret).isUndefined();
      assertThat(sent.event.value).isEqualTo(7.5);
      assertThat(sent.event.coupon).isUndefined();
    });
- name: Google's own parameters are nobody's to change
  code: |-
    answer(200, JSON.stringify(decision({set: {'x-ga-gcs': 'G111', 'x-sst-a': 1}, unset: ['x-ga-page_id']})));
    event['x-ga-page_id'] = 5;
    runCode(mockData);
    callLater(() => {
      assertThat(ran['x-ga-gcs']).isUndefined();
      assertThat(ran['x-sst-a']).isUndefined();
      assertThat(ran['x-ga-page_id']).isEqualTo(5);
    });
- name: One call brings personalization and attributes along
  code: |-
    const full = decision({});
    full.personalization = {actions: [{type: 'value', key: 'a', value: 1}]};
    full.profile = {found: true, attributes: {tier: 'Gold'}};
    answer(200, JSON.stringify(full));
    mockData.personalization = true;
    mockData.profileAttributes = [{attribute: 'tier', parameter: 'loyalty'}];
    runCode(mockData);
    callLater(() => {
      assertThat(sent.include).isEqualTo(['event', 'personalization', 'profile']);
      assertThat(sent.fields).isEqualTo(['tier']);
      assertThat(ran.loyalty).isEqualTo('Gold');
      assertThat(ran['x-tagstitch'].actions).hasLength(1);
      assertThat(asked).isEqualTo(1);
    });
- name: Without a secret of its own it does nothing
  code: |-
    mockData.guardSecret = 'REPLACE with 24 or more random characters';
    answer(200, JSON.stringify(decision({})));
    runCode(mockData);
    assertThat(asked).isEqualTo(0);
    assertApi('gtmOnFailure').wasCalled();
- name: The question goes out with the key and within the timeout
  code: |-
    answer(200, JSON.stringify(decision({})));
    runCode(mockData);
    mockData.timeoutMs = '5';
    runCode(mockData);
    assertThat(options_.headers).isEqualTo({'Content-Type': 'application/json', 'X-Tagstitch-Key': 'k'});
    assertThat(timeouts).isEqualTo([300, 500]);
    assertThat(sent.deadline_ms).isEqualTo(400);
- name: A decision with the status of an error is none
  code: |-
    answer(500, JSON.stringify(decision({rename: 'wrong'})));
    runCode(mockData);
    callLater(() => assertThat(ran.event_name).isEqualTo('purchase'));
- name: A decision that is not whole is none
  code: |-
    const halves = [{drop: 'no'}, {set: null}, {unset: null}, {rename: 7}];
    halves.forEach((half) => {
      answer(200, JSON.stringify(decision(half)));
      runCode(mockData);
    });
    callLater(() => {
      assertApi('gtmOnSuccess').wasNotCalled();
      assertThat(runs).isEqualTo(4);
    });
- name: The name changes by a rename alone, and no attribute changes what is protected
  code: |-
    const full = decision({set: {event_name: 'set', 'x-tagstitch': 'set'}, unset: ['event_name']});
    full.profile = {attributes: {tier: 'Gold'}};
    mockData.profileAttributes = [
      {attribute: 'tier', parameter: 'event_name'}, {attribute: 'tier', parameter: 'x-ga-gcs'},
      {attribute: 'absent', parameter: 'absent'}
    ];
    answer(200, JSON.stringify(full));
    runCode(mockData);
    callLater(() => {
      assertThat(ran.event_name).isEqualTo('purchase');
      assertThat(ran['x-ga-gcs']).isUndefined();
      assertThat(ran['x-tagstitch'].guard).isString();
    });
- name: A guard of another event name, or from the far future, is decided
  code: |-
    answer(200, JSON.stringify(decision({})));
    runCode(mockData);
    callLater(() => {
      const marked = ran;
      asked = 0;
      mock('getAllEventData', marked);
      marked.event_name = 'refund';
      runCode(mockData);
      marked.event_name = 'purchase';
      mock('getTimestampMillis', now - 1);
      runCode(mockData);
      assertThat(asked).isEqualTo(2);
    });
- name: A secret that is too short does nothing
  code: |-
    mockData.guardSecret = 'short';
    runCode(mockData);
    assertThat(asked).isEqualTo(0);
    assertApi('gtmOnFailure').wasCalled();
setup: |-
  const callLater = require('callLater');
  const JSON = require('JSON');
  const Promise = require('Promise');
  const now = 1763700000000;
  const event = {event_name: 'purchase', client_id: '1.2', value: 7.5, coupon: 'X'};
  const mockData = {
    serviceUrl: 'https://decide.example.com/decide',
    apiKey: 'k',
    timeoutMs: '300',
    guardSecret: '0123456789abcdef01234567',
    onFailure: 'open',
    forwardedParameters: ''
  };
  let asked = 0;
  let sent;
  let ran;
  let runs = 0;
  let options_;
  const timeouts = [];
  function decision(changes) {
    const decided = {drop: false, rename: null, set: {}, unset: []};
    for (const key in changes) decided[key] = changes[key];
    return {decision_id: 'd-1', degraded: [], event: decided};
  }
  function answer(status, body) {
    mock('sendHttpRequest', (url, options, text) => {
      asked = asked + 1;
      sent = JSON.parse(text);
      options_ = options;
      timeouts.push(options.timeout);
      return Promise.create((resolve) => resolve({statusCode: status, headers: {}, body: body}));
    });
  }
  function fail_(reason) {
    mock('sendHttpRequest', () => Promise.create((resolve, reject) => reject({reason: reason})));
  }
  mock('getAllEventData', event);
  mock('getTimestampMillis', now);
  mock('getRequestMethod', 'POST');
  mock('getRequestPath', '/g/collect');
  mock('getRequestQueryString', 'v=2&cid=1.2');
  mock('getRequestBody', undefined);
  mock('runContainer', (given, onComplete) => {
    ran = given;
    runs = runs + 1;
    onComplete();
  });


___NOTES___

Every other tag needs the trigger condition {{Tagstitch - Decided}} equals true.
