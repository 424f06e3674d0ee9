___TERMS_OF_SERVICE___

By creating or modifying this file you agree to Google Tag Manager's Community
Template Gallery Developer Terms of Service available at
https://developers.google.com/tag-manager/gallery-tos (or such other URL as
Google may provide), as modified from time to time.


___INFO___

{
  "type": "CLIENT",
  "id": "cvt_temp_public_id",
  "version": 1,
  "securityGroups": [],
  "displayName": "Tagstitch: decision client",
  "brand": {
    "id": "brand_dummy",
    "displayName": "Tagstitch"
  },
  "description": "Claims GA4 hits, decides each event of a hit, runs the container with the decided ones and answers once.",
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
  },
  {
    "type": "GROUP",
    "name": "answer",
    "displayName": "Answer to the browser",
    "groupStyle": "ZIPPY_OPEN",
    "subParams": [
      {
        "type": "TEXT",
        "name": "allowedOrigins",
        "displayName": "Allowed origins",
        "simpleValueType": true,
        "help": "Separated by commas, each as https://shop.example.com. Only pages of these may read the answer."
      },
      {
        "type": "CHECKBOX",
        "name": "returnValues",
        "checkboxText": "Return personalization values as JSON",
        "simpleValueType": true,
        "defaultValue": false,
        "help": "For pages that send hits themselves. gtag.js does not read them."
      }
    ]
  }
]


___SANDBOXED_JS_FOR_SERVER___

const addMessageListener = require('addMessageListener');
const claimRequest = require('claimRequest');
const extractEventsFromMpv2 = require('extractEventsFromMpv2');
const getRequestBody = require('getRequestBody');
const getRequestHeader = require('getRequestHeader');
const getRequestMethod = require('getRequestMethod');
const getRequestPath = require('getRequestPath');
const getRequestQueryString = require('getRequestQueryString');
const getTimestampMillis = require('getTimestampMillis');
const getType = require('getType');
const isRequestMpv2 = require('isRequestMpv2');
const JSON = require('JSON');
const logToConsole = require('logToConsole');
const makeInteger = require('makeInteger');
const makeString = require('makeString');
const Math = require('Math');
const Object = require('Object');
const returnResponse = require('returnResponse');
const runContainer = require('runContainer');
const sendHttpRequest = require('sendHttpRequest');
const setPixelResponse = require('setPixelResponse');
const setResponseBody = require('setResponseBody');
const setResponseHeader = require('setResponseHeader');
const setResponseStatus = require('setResponseStatus');
const sha256Sync = require('sha256Sync');

const RESERVED = 'x-tagstitch';
const GUARD_MS = 30000;
const MESSAGE = 'tagstitch_personalization';

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

if (!isRequestMpv2()) return;
claimRequest();

const values = {};

function answerBrowser() {
  const origin = getRequestHeader('origin');
  if (origin && listed(data.allowedOrigins).indexOf(origin) >= 0) {
    setResponseHeader('Access-Control-Allow-Origin', origin);
    setResponseHeader('Access-Control-Allow-Credentials', 'true');
    setResponseHeader('Vary', 'Origin');
  }
  setResponseHeader('Cache-Control', 'private, no-store');
  if (data.returnValues) {
    setResponseHeader('Content-Type', 'application/json');
    setResponseBody(JSON.stringify({values: values}));
  } else if (getRequestMethod() === 'GET') {
    setPixelResponse();
  } else {
    setResponseStatus(204);
  }
  returnResponse();
}

function collectValues(bindToEvent) {
  bindToEvent(addMessageListener)(MESSAGE, (type, message) => {
    for (const key in message) values[key] = message[key];
  });
}

const events = extractEventsFromMpv2() || [];
let open = events.length;

function finishOne() {
  open = open - 1;
  if (open === 0) answerBrowser();
}

if (!hasGuardSecret()) logToConsole('Tagstitch: the guard secret needs 24 characters or more');
if (events.length === 0) return answerBrowser();

events.forEach((event) => {
  ask(data.serviceUrl, question(event)).then((answer) => {
    const isGood = isDecision(answer);
    const isDropped = isGood ? answer.event.drop : data.onFailure === 'drop';
    if (isDropped) return finishOne();
    runContainer(decidedEvent(event, isGood ? answer : undefined), finishOne, collectValues);
  });
});


___SERVER_PERMISSIONS___

[
  {
    "instance": {
      "key": {
        "publicId": "access_response",
        "versionId": "1"
      },
      "param": [
        {
          "key": "writeResponseAccess",
          "value": {
            "type": 1,
            "string": "any"
          }
        },
        {
          "key": "writeHeaderAccess",
          "value": {
            "type": 1,
            "string": "specific"
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
        "publicId": "read_request",
        "versionId": "1"
      },
      "param": [
        {
          "key": "requestAccess",
          "value": {
            "type": 1,
            "string": "any"
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
        "publicId": "return_response",
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
  },
  {
    "instance": {
      "key": {
        "publicId": "use_message",
        "versionId": "1"
      },
      "param": [
        {
          "key": "allowedActions",
          "value": {
            "type": 1,
            "string": "specific"
          }
        },
        {
          "key": "messageTypes",
          "value": {
            "type": 2,
            "listItem": [
              {
                "type": 3,
                "mapKey": [
                  {
                    "type": 1,
                    "string": "type"
                  },
                  {
                    "type": 1,
                    "string": "action"
                  }
                ],
                "mapValue": [
                  {
                    "type": 1,
                    "string": "tagstitch_personalization"
                  },
                  {
                    "type": 1,
                    "string": "listen_and_send"
                  }
                ]
              }
            ]
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
- name: Each event of a hit is decided, and the hit is answered once
  code: |-
    answer(200, {drop: false, rename: 'renamed', set: {}, unset: []});
    runCode(mockData);
    callLater(() => {
      assertApi('claimRequest').wasCalled();
      assertThat(ran).hasLength(2);
      assertThat(ran[0].event_name).isEqualTo('renamed');
      assertThat(returned).isEqualTo(1);
      assertApi('setResponseStatus').wasCalledWith(204);
    });
- name: The hit is not answered before the tags of its last event are done
  code: |-
    const open_ = [];
    mock('runContainer', (event, onComplete) => open_.push(onComplete));
    answer(200, {drop: false, rename: null, set: {}, unset: []});
    runCode(mockData);
    callLater(() => {
      assertThat(open_).hasLength(2);
      open_[1]();
      assertThat(returned).isEqualTo(0);
      open_[0]();
      assertThat(returned).isEqualTo(1);
    });
- name: Dropped events run nothing, and the hit is answered
  code: |-
    answer(200, {drop: true, rename: null, set: {}, unset: []});
    runCode(mockData);
    callLater(() => {
      assertApi('runContainer').wasNotCalled();
      assertThat(returned).isEqualTo(1);
    });
- name: Other requests are not claimed
  code: |-
    mock('isRequestMpv2', false);
    runCode(mockData);
    assertApi('claimRequest').wasNotCalled();
    assertApi('returnResponse').wasNotCalled();
- name: A hit without an event is answered
  code: |-
    mock('extractEventsFromMpv2', undefined);
    runCode(mockData);
    assertThat(returned).isEqualTo(1);
- name: A timeout lets the events leave as they came
  code: |-
    mock('sendHttpRequest', () => Promise.create((resolve, reject) => reject({reason: 'timed_out'})));
    runCode(mockData);
    callLater(() => {
      assertThat(ran[0].event_name).isEqualTo('page_view');
      assertThat(ran[1].event_name).isEqualTo('purchase');
      assertThat(returned).isEqualTo(1);
    });
- name: A timeout drops the events when the field says so
  code: |-
    mock('sendHttpRequest', () => Promise.create((resolve, reject) => reject({reason: 'timed_out'})));
    mockData.onFailure = 'drop';
    runCode(mockData);
    callLater(() => {
      assertApi('runContainer').wasNotCalled();
      assertThat(returned).isEqualTo(1);
    });
- name: An error of the service lets the events leave
  code: |-
    mock('sendHttpRequest', () => Promise.create((resolve) => resolve({statusCode: 500, headers: {}, body: ''})));
    runCode(mockData);
    callLater(() => assertThat(ran).hasLength(2));
- name: Bad JSON lets the events leave
  code: |-
    mock('sendHttpRequest', () => Promise.create((resolve) => resolve({statusCode: 200, headers: {}, body: '{'})));
    runCode(mockData);
    callLater(() => assertThat(ran).hasLength(2));
- name: Denied consent travels with the events
  code: |-
    events[0]['x-ga-gcs'] = 'G100';
    mockData.forwardedParameters = 'value';
    answer(200, {drop: false, rename: null, set: {}, unset: []});
    runCode(mockData);
    callLater(() => assertThat(sent[0].event['x-ga-gcs']).isEqualTo('G100'));
- name: A mark that the browser sent is taken off
  code: |-
    events[0]['x-tagstitch'] = {guard: 'forged', actions: [{type: 'set_cookie'}]};
    answer(200, {drop: false, rename: null, set: {}, unset: []});
    runCode(mockData);
    callLater(() => {
      assertThat(sent[0].event['x-tagstitch']).isUndefined();
      assertThat(ran[0]['x-tagstitch'].guard).isNotEqualTo('forged');
      assertThat(ran[0]['x-tagstitch'].actions).isUndefined();
    });
- name: Values that tags pass on reach the page that asks for them
  code: |-
    mockData.returnValues = true;
    answer(200, {drop: false, rename: null, set: {}, unset: []});
    runCode(mockData);
    callLater(() => {
      assertApi('setResponseBody').wasCalledWith('{"values":{"banner":"a"}}');
    });
- name: A GET is answered with a pixel, to allowed origins readable
  code: |-
    mock('getRequestMethod', 'GET');
    mock('getRequestHeader', (name) => name === 'origin' ? 'https://shop.example.com' : undefined);
    mockData.allowedOrigins = 'https://shop.example.com, https://www.example.com';
    answer(200, {drop: true, rename: null, set: {}, unset: []});
    runCode(mockData);
    callLater(() => {
      assertApi('setPixelResponse').wasCalled();
      assertApi('setResponseHeader').wasCalledWith('Access-Control-Allow-Origin', 'https://shop.example.com');
      assertApi('setResponseHeader').wasCalledWith('Access-Control-Allow-Credentials', 'true');
    });
- name: Another origin may not read the answer
  code: |-
    mock('getRequestHeader', (name) => name === 'origin' ? 'https://evil.example.net' : undefined);
    mockData.allowedOrigins = 'https://shop.example.com';
    answer(200, {drop: true, rename: null, set: {}, unset: []});
    runCode(mockData);
    callLater(() => {
      assertApi('setResponseHeader').wasNotCalledWith('Access-Control-Allow-Origin', 'https://evil.example.net');
      assertApi('setResponseHeader').wasCalledWith('Cache-Control', 'private, no-store');
    });
setup: |-
  const callLater = require('callLater');
  const JSON = require('JSON');
  const Promise = require('Promise');
  const events = [{event_name: 'page_view', client_id: '1.2'}, {event_name: 'purchase', client_id: '1.2'}];
  const mockData = {
    serviceUrl: 'https://decide.example.com/decide',
    apiKey: 'k',
    timeoutMs: '300',
    guardSecret: '0123456789abcdef01234567',
    onFailure: 'open'
  };
  const ran = [];
  const sent = [];
  let returned = 0;
  function answer(status, decided) {
    mock('sendHttpRequest', (url, options, text) => {
      sent.push(JSON.parse(text));
      const body = JSON.stringify({decision_id: 'd-1', event: decided});
      return Promise.create((resolve) => resolve({statusCode: status, headers: {}, body: body}));
    });
  }
  mock('isRequestMpv2', true);
  mock('extractEventsFromMpv2', () => events);
  mock('getRequestMethod', 'POST');
  mock('getRequestPath', '/g/collect');
  mock('getRequestQueryString', 'v=2');
  mock('getRequestBody', 'en=page_view');
  mock('getRequestHeader', undefined);
  mock('addMessageListener', (type, listener) => listener(type, {banner: 'a'}));
  mock('returnResponse', () => {
    returned = returned + 1;
  });
  mock('runContainer', (event, onComplete, onStart) => {
    ran.push(event);
    onStart((api) => api);
    onComplete();
  });


___NOTES___

Gives up what the GA4 client does besides: server-managed client ids and serving gtag.js.
