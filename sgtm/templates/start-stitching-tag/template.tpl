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
  "displayName": "Tagstitch: start stitching",
  "categories": [
    "UTILITY"
  ],
  "brand": {
    "id": "brand_dummy",
    "displayName": "Tagstitch"
  },
  "description": "Starts an asynchronous stitch; its result comes to the stitch callback client.",
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
        "displayName": "URL of stitch_sync",
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
    "name": "request",
    "displayName": "Request",
    "groupStyle": "ZIPPY_OPEN",
    "subParams": [
      {
        "type": "SIMPLE_TABLE",
        "name": "identifiers",
        "displayName": "Identifiers",
        "simpleTableColumns": [
          {
            "defaultValue": "",
            "displayName": "Type",
            "name": "type",
            "type": "TEXT"
          },
          {
            "defaultValue": "",
            "displayName": "Value",
            "name": "value",
            "type": "TEXT"
          }
        ],
        "help": "What the visitor is known by. User ids and e-mails only where a login proved them."
      },
      {
        "type": "TEXT",
        "name": "callback",
        "displayName": "Callback",
        "simpleValueType": true,
        "help": "The id of an endpoint in TAGSTITCH_CALLBACKS. Empty: no callback."
      },
      {
        "type": "TEXT",
        "name": "view",
        "displayName": "View",
        "simpleValueType": true,
        "help": "Empty: the default view."
      },
      {
        "type": "SIMPLE_TABLE",
        "name": "context",
        "displayName": "Context",
        "simpleTableColumns": [
          {
            "defaultValue": "",
            "displayName": "Key",
            "name": "key",
            "type": "TEXT"
          },
          {
            "defaultValue": "",
            "displayName": "Value",
            "name": "value",
            "type": "TEXT"
          }
        ],
        "help": "Comes back with the callback, which has no cookies, user agent or address of the visitor. client_id and user_id become parameters of the event. At most 4 KiB."
      },
      {
        "type": "CHECKBOX",
        "name": "includeEvent",
        "checkboxText": "Send the event",
        "simpleValueType": true,
        "defaultValue": false,
        "help": "For computed traits."
      }
    ]
  }
]


___SANDBOXED_JS_FOR_SERVER___

const getAllEventData = require('getAllEventData');
const getRequestHeader = require('getRequestHeader');
const getType = require('getType');
const JSON = require('JSON');
const makeInteger = require('makeInteger');
const makeString = require('makeString');
const makeTableMap = require('makeTableMap');
const Math = require('Math');
const Object = require('Object');
const sendHttpRequest = require('sendHttpRequest');

const RESERVED = 'x-tagstitch';
const PREVIEW_CHARACTERS_MAX = 2048;

function timeoutMs() {
  const wanted = makeInteger(data.timeoutMs);
  return wanted >= 50 && wanted <= 4000 ? wanted : 500;
}

// Whether the event's consent signals grant a purpose: true, false, or undefined when none says.
// A denial in any signal wins; what cannot be read denies Google's four purposes.
function consentOf(event, purpose) {
  const purposes = ['ad_storage', 'analytics_storage', 'ad_user_data', 'ad_personalization'];
  const position = purposes.indexOf(purpose);
  const said = [];
  const system = event['x-sst-system_properties'];
  const consent = getType(system) === 'object' ? system.consent : undefined;
  const state = getType(consent) === 'object' && consent.consentGrantedState ? consent.consentGrantedState : consent;
  [state, event.consent_state].forEach((each) => {
    const isReadable = getType(each) === 'object';
    if (isReadable && each[purpose] !== undefined) said.push(each[purpose] === true || each[purpose] === 'granted');
    if (!isReadable && position >= 0 && each !== undefined && each !== null) said.push(false);
  });
  const gcs = event['x-ga-gcs'];
  if (position >= 0 && gcs !== undefined && gcs !== null) {
    const isReadable = getType(gcs) === 'string' && gcs.length === 4 && gcs.indexOf('G1') === 0;
    const digit = isReadable && position < 2 ? gcs.charAt(2 + position) : '-';
    if (!isReadable || digit !== '-') said.push(digit === '1');
  }
  const gcd = event['x-ga-gcd'];
  if (position >= 0 && gcd !== undefined && gcd !== null) {
    const letters = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_';
    const isReadable = getType(gcd) === 'string' && gcd.charAt(0) === '1' &&
      gcd.split('').every((each) => letters.indexOf(each) >= 0);
    const bits = isReadable ? letters.indexOf(gcd.charAt(2 + 2 * position) || 'm') : 0;
    const update = bits % 4; // 1 unset, 2 denied, 3 granted; before it two bits of the default
    const signal = update === 1 ? Math.floor(bits / 4) % 4 : update;
    if (signal !== 1) said.push(signal === 3);
  }
  if (said.indexOf(false) >= 0) return false;
  return said.length > 0 ? true : undefined;
}

function filled(rows, key) {
  const all = makeTableMap(rows || [], key, 'value') || {};
  const result = {};
  for (const name in all) {
    if (all[name] !== undefined && all[name] !== null && all[name] !== '') result[name] = all[name];
  }
  return result;
}

function isEmpty(object) {
  return Object.keys(object).length === 0;
}

const event = getAllEventData();
if (event.event_name === 'visitor_stitched') return data.gtmOnSuccess(); // a result starts no further stitch
// Default deny: a stitch writes a profile.
if (consentOf(event, 'analytics_storage') !== true) return data.gtmOnSuccess();

const identifiers = {};
const wanted = filled(data.identifiers, 'type');
for (const type in wanted) identifiers[type] = makeString(wanted[type]);
if (isEmpty(identifiers)) return data.gtmOnSuccess();

const body = {identifiers: identifiers, mode: 'async', consent: {analytics_storage: true}};
if (data.callback) body.callback = data.callback;
if (data.view) body.view = data.view;
const context = filled(data.context, 'key');
if (!isEmpty(context)) body.context = context;
if (event.event_id) body.event_id = makeString(event.event_id);
if (data.includeEvent) {
  body.event = {};
  for (const name in event) if (name !== RESERVED) body.event[name] = event[name];
}
// Under another name a result gets past the check above: the count of callbacks ends that loop.
const hops = getType(event.stitch) === 'object' ? makeInteger(event.stitch.hops) : 0;
if (hops > 0) body.hops = hops;
const preview = getRequestHeader('x-gtm-server-preview');
if (preview && preview.length <= PREVIEW_CHARACTERS_MAX) body.preview = preview;

const options = {
  method: 'POST',
  timeout: timeoutMs(),
  headers: {'Content-Type': 'application/json', 'X-Tagstitch-Key': data.apiKey}
};
sendHttpRequest(data.serviceUrl, options, JSON.stringify(body)).then((answer) => {
  const accepted = answer.statusCode === 202 ? JSON.parse(answer.body) : undefined;
  if (getType(accepted) === 'object' && accepted.request_id) data.gtmOnSuccess();
  else data.gtmOnFailure();
}).catch(() => data.gtmOnFailure());


___SERVER_PERMISSIONS___

[
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
          "key": "headerWhitelist",
          "value": {
            "type": 2,
            "listItem": [
              {
                "type": 3,
                "mapKey": [
                  {
                    "type": 1,
                    "string": "headerName"
                  }
                ],
                "mapValue": [
                  {
                    "type": 1,
                    "string": "x-gtm-server-preview"
                  }
                ]
              }
            ]
          }
        },
        {
          "key": "headersAllowed",
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
            "string": "specific"
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
- name: A request with everything is accepted
  code: |-
    event.event_id = 77;
    mockData.view = 'shop';
    mockData.includeEvent = true;
    mockData.context = [{key: 'client_id', value: '1.2'}, {key: 'page', value: undefined}];
    mock('getRequestHeader', (name) => name === 'x-gtm-server-preview' ? 'cHJldmlldw==' : undefined);
    answer(202, '{"request_id": "r-1", "status": "accepted"}');
    runCode(mockData);
    callLater(() => {
      assertThat(sent).isEqualTo({
        identifiers: {client_id: '1.2', user_id: 'u-1'},
        mode: 'async',
        consent: {analytics_storage: true},
        callback: 'main',
        view: 'shop',
        context: {client_id: '1.2'},
        event_id: '77',
        event: event,
        preview: 'cHJldmlldw=='
      });
      assertApi('gtmOnSuccess').wasCalled();
    });
- name: A preview header that is too long stays behind
  code: |-
    let long = 'aaaaaaaa';
    while (long.length <= 2048) long = long + long;
    mock('getRequestHeader', long);
    answer(202, '{"request_id": "r-1"}');
    runCode(mockData);
    assertThat(sent.preview).isUndefined();
- name: Without identifiers nobody is asked
  code: |-
    mockData.identifiers = [{type: 'client_id', value: undefined}];
    runCode(mockData);
    assertApi('sendHttpRequest').wasNotCalled();
    assertApi('gtmOnSuccess').wasCalled();
- name: The result of a stitch starts no other
  code: |-
    event.event_name = 'visitor_stitched';
    runCode(mockData);
    assertApi('sendHttpRequest').wasNotCalled();
    assertApi('gtmOnSuccess').wasCalled();
- name: A result under another name passes on how many callbacks led to it
  code: |-
    event.event_name = 'visitor_known';
    event.stitch = {request_id: 'r-0', found: true, hops: 2};
    answer(202, '{"request_id": "r-1", "status": "accepted"}');
    runCode(mockData);
    assertThat(sent.hops).isEqualTo(2);
- name: Denied consent asks nobody
  code: |-
    event['x-ga-gcs'] = 'G110';
    runCode(mockData);
    assertApi('sendHttpRequest').wasNotCalled();
    assertApi('gtmOnSuccess').wasCalled();
- name: Silence about consent asks nobody
  code: |-
    mock('getAllEventData', {event_name: 'login'});
    runCode(mockData);
    assertApi('sendHttpRequest').wasNotCalled();
- name: A timeout is a failure
  code: |-
    mock('sendHttpRequest', () => Promise.create((resolve, reject) => reject({reason: 'timed_out'})));
    runCode(mockData);
    callLater(() => assertApi('gtmOnFailure').wasCalled());
- name: An error of the service is a failure
  code: |-
    answer(503, '{}');
    runCode(mockData);
    callLater(() => assertApi('gtmOnFailure').wasCalled());
- name: Bad JSON is a failure
  code: |-
    answer(202, '<html>');
    runCode(mockData);
    callLater(() => assertApi('gtmOnFailure').wasCalled());
- name: The mark of a decision stays here
  code: |-
    event['x-tagstitch'] = {guard: 'g'};
    mockData.includeEvent = true;
    answer(202, '{"request_id": "r-1"}');
    runCode(mockData);
    assertThat(sent.event['x-tagstitch']).isUndefined();
    assertThat(sent.event.event_name).isEqualTo('login');
- name: An answer that accepts nothing is a failure
  code: |-
    answer(200, '{"request_id": "r-1"}');
    runCode(mockData);
    callLater(() => {
      assertApi('gtmOnFailure').wasCalled();
      assertApi('gtmOnSuccess').wasNotCalled();
    });
setup: |-
  const callLater = require('callLater');
  const JSON = require('JSON');
  const Promise = require('Promise');
  const event = {event_name: 'login', client_id: '1.2', 'x-ga-gcs': 'G111'};
  const mockData = {
    serviceUrl: 'https://stitch.example.com',
    apiKey: 'k',
    timeoutMs: '300',
    callback: 'main',
    identifiers: [{type: 'client_id', value: '1.2'}, {type: 'user_id', value: 'u-1'}]
  };
  let sent;
  function answer(status, body) {
    mock('sendHttpRequest', (url, options, text) => {
      sent = JSON.parse(text);
      return Promise.create((resolve) => resolve({statusCode: status, headers: {}, body: body}));
    });
  }
  mock('getAllEventData', event);
  mock('getRequestHeader', undefined);


___NOTES___

The preview header travels along, so that the callback shows in preview mode.
