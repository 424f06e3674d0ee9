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
  "displayName": "Tagstitch: stitcher",
  "brand": {
    "id": "brand_dummy",
    "displayName": "Tagstitch"
  },
  "description": "Answers who the visitor is: to a browser one public view for the identifier in one cookie, to servers with a secret whatever their key may see.",
  "containerContexts": [
    "SERVER"
  ]
}


___TEMPLATE_PARAMETERS___

[
  {
    "type": "TEXT",
    "name": "path",
    "displayName": "Path",
    "simpleValueType": true,
    "defaultValue": "/stitch",
    "valueValidators": [
      {
        "type": "NON_EMPTY"
      }
    ]
  },
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
    "type": "RADIO",
    "name": "callers",
    "displayName": "Callers",
    "simpleValueType": true,
    "defaultValue": "browsers",
    "radioItems": [
      {
        "value": "browsers",
        "displayValue": "browsers"
      },
      {
        "value": "servers",
        "displayValue": "server callers only"
      }
    ],
    "help": "Identifiers in the query or the body count for server callers alone."
  },
  {
    "type": "RADIO",
    "name": "mode",
    "displayName": "Mode",
    "simpleValueType": true,
    "defaultValue": "sync",
    "radioItems": [
      {
        "value": "sync",
        "displayValue": "answer at once"
      },
      {
        "value": "async",
        "displayValue": "accept, and answer by the callback"
      }
    ]
  },
  {
    "type": "TEXT",
    "name": "callback",
    "displayName": "Callback",
    "simpleValueType": true,
    "help": "The id of an endpoint in TAGSTITCH_CALLBACKS.",
    "enablingConditions": [
      {
        "paramName": "mode",
        "paramValue": "async",
        "type": "EQUALS"
      }
    ]
  },
  {
    "type": "CHECKBOX",
    "name": "runsContainer",
    "checkboxText": "Run the container with visitor_stitched",
    "simpleValueType": true,
    "defaultValue": false
  },
  {
    "type": "GROUP",
    "name": "browsers",
    "displayName": "Browsers",
    "groupStyle": "ZIPPY_OPEN",
    "subParams": [
      {
        "type": "TEXT",
        "name": "view",
        "displayName": "Public view",
        "simpleValueType": true,
        "help": "The one view that browsers get, declared with public: true: a list of attributes that visitors may know of themselves.",
        "enablingConditions": [
          {
            "paramName": "callers",
            "paramValue": "browsers",
            "type": "EQUALS"
          }
        ]
      },
      {
        "type": "TEXT",
        "name": "cookieName",
        "displayName": "Cookie with the identifier",
        "simpleValueType": true,
        "help": "First-party, long and random.",
        "defaultValue": "anonymous_id",
        "enablingConditions": [
          {
            "paramName": "callers",
            "paramValue": "browsers",
            "type": "EQUALS"
          }
        ]
      },
      {
        "type": "SELECT",
        "name": "cookieType",
        "displayName": "Identifier type",
        "simpleValueType": true,
        "defaultValue": "anonymous_id",
        "selectItems": [
          {
            "value": "anonymous_id",
            "displayValue": "anonymous_id"
          },
          {
            "value": "device_id",
            "displayValue": "device_id"
          },
          {
            "value": "session_id",
            "displayValue": "session_id"
          },
          {
            "value": "client_id",
            "displayValue": "client_id"
          }
        ],
        "macrosInSelect": false,
        "help": "A client_id of Google Analytics can be guessed more easily than a random identifier."
      },
      {
        "type": "TEXT",
        "name": "allowedOrigins",
        "displayName": "Allowed origins",
        "simpleValueType": true,
        "help": "Separated by commas, each as https://shop.example.com. Others are refused.",
        "enablingConditions": [
          {
            "paramName": "callers",
            "paramValue": "browsers",
            "type": "EQUALS"
          }
        ]
      },
      {
        "type": "TEXT",
        "name": "consentCookie",
        "displayName": "Consent cookie",
        "simpleValueType": true,
        "help": "Unless it holds the value below, nobody is asked.",
        "enablingConditions": [
          {
            "paramName": "callers",
            "paramValue": "browsers",
            "type": "EQUALS"
          }
        ]
      },
      {
        "type": "TEXT",
        "name": "consentValue",
        "displayName": "Value that grants",
        "simpleValueType": true,
        "defaultValue": "granted",
        "enablingConditions": [
          {
            "paramName": "callers",
            "paramValue": "browsers",
            "type": "EQUALS"
          }
        ]
      }
    ]
  },
  {
    "type": "GROUP",
    "name": "servers",
    "displayName": "Servers",
    "groupStyle": "ZIPPY_OPEN",
    "subParams": [
      {
        "type": "TEXT",
        "name": "serverSecret",
        "displayName": "Shared secret",
        "simpleValueType": true,
        "help": "24 characters or more; a caller sends it as X-Stitcher-Secret.",
        "enablingConditions": [
          {
            "paramName": "callers",
            "paramValue": "servers",
            "type": "EQUALS"
          }
        ]
      }
    ]
  }
]


___SANDBOXED_JS_FOR_SERVER___

const claimRequest = require('claimRequest');
const getCookieValues = require('getCookieValues');
const getRequestBody = require('getRequestBody');
const getRequestHeader = require('getRequestHeader');
const getRequestMethod = require('getRequestMethod');
const getRequestPath = require('getRequestPath');
const getRequestQueryParameters = require('getRequestQueryParameters');
const getType = require('getType');
const JSON = require('JSON');
const makeInteger = require('makeInteger');
const makeString = require('makeString');
const Math = require('Math');
const returnResponse = require('returnResponse');
const runContainer = require('runContainer');
const sendHttpRequest = require('sendHttpRequest');
const setResponseBody = require('setResponseBody');
const setResponseHeader = require('setResponseHeader');
const setResponseStatus = require('setResponseStatus');
const sha256Sync = require('sha256Sync');

const TYPES = ['user_id', 'email_sha256', 'phone_sha256', 'client_id', 'device_id', 'session_id', 'anonymous_id'];
const BODY_FIELDS = ['id', 'identifiers', 'view', 'fields', 'request_id', 'consent', 'context', 'event'];

function timeoutMs() {
  const wanted = makeInteger(data.timeoutMs);
  return wanted >= 50 && wanted <= 4000 ? wanted : 500;
}

function listed(text) {
  return makeString(text || '').split(',').map((each) => each.trim()).filter((each) => each !== '');
}

function trimmed(url) {
  return url.charAt(url.length - 1) === '/' ? url.substring(0, url.length - 1) : url;
}


const method = getRequestMethod();
const origin = getRequestHeader('origin');
const isAsync = data.mode === 'async';

function respond(status, body) {
  setResponseStatus(status);
  setResponseHeader('Content-Type', 'application/json');
  setResponseHeader('Cache-Control', 'private, no-store');
  setResponseHeader('X-Content-Type-Options', 'nosniff');
  setResponseHeader('Vary', 'Origin, Cookie');
  setResponseBody(JSON.stringify(body));
  returnResponse();
}

function refuse(status, code) {
  respond(status, {error: {code: code}});
}

// A promise of {status, body}, the body an object; of undefined for a timeout or bad JSON.
function askService(path, body) {
  const options = {
    method: 'POST',
    timeout: timeoutMs(),
    headers: {'Content-Type': 'application/json', 'X-Tagstitch-Key': data.apiKey}
  };
  body.deadline_ms = Math.floor(timeoutMs() * 0.8);
  return sendHttpRequest(trimmed(data.serviceUrl) + path, options, JSON.stringify(body)).then((answer) => {
    const parsed = JSON.parse(answer.body);
    return getType(parsed) === 'object' ? {status: answer.statusCode, body: parsed} : undefined;
  }).catch(() => undefined);
}

function runThen(identifiers, attributes, found, done) {
  if (!data.runsContainer) return done();
  const event = {event_name: 'visitor_stitched', visitor: attributes, stitch: {found: found}};
  for (const type in identifiers) event[type] = identifiers[type];
  runContainer(event, done);
}

// --- a browser: the one view, for the identifier in the one cookie, whatever else it sends

// Other sites' pages cannot read the answer, and are not answered at all.
function isForeign() {
  if (origin) return listed(data.allowedOrigins).indexOf(origin) < 0 && origin !== 'https://' + getRequestHeader('host');
  const site = getRequestHeader('sec-fetch-site');
  return site === 'cross-site';
}

function hasConsent() {
  if (!data.consentCookie) return true; // then the service's own default decides
  return getCookieValues(data.consentCookie).indexOf(data.consentValue) >= 0;
}

function answerBrowser() {
  if (isForeign()) return refuse(403, 'forbidden');
  if (origin) {
    setResponseHeader('Access-Control-Allow-Origin', origin);
    setResponseHeader('Access-Control-Allow-Credentials', 'true');
  }
  if (method === 'OPTIONS') {
    setResponseHeader('Access-Control-Allow-Methods', 'GET, POST');
    setResponseHeader('Access-Control-Allow-Headers', 'Content-Type');
    return respond(200, {});
  }
  if (method !== 'POST' && (method !== 'GET' || isAsync)) return refuse(405, 'method_not_allowed');
  const value = getCookieValues(data.cookieName)[0];
  if (!value || value.length > 256 || !hasConsent()) return respond(200, {attributes: {}});
  const identifiers = {};
  identifiers[data.cookieType] = value;
  if (isAsync) startFor(identifiers);
  else showTo(identifiers, value);
}

function consented(body) {
  if (data.consentCookie) body.consent = {analytics_storage: true};
  return body;
}

function showTo(identifiers, value) {
  askService('/activation', consented({
    entity: 'user',
    id: {type: data.cookieType, value: value},
    view: data.view,
    public: true // the service answers with a view that is declared public, or not at all
  })).then((answer) => {
    const views = answer && answer.status === 200 ? answer.body.data : undefined;
    const attributes = getType(views) === 'object' ? views[data.view] : undefined;
    if (getType(attributes) !== 'object') return respond(200, {attributes: {}, degraded: true});
    runThen(identifiers, attributes, answer.body.found === true, () => respond(200, {attributes: attributes}));
  });
}

function startFor(identifiers) {
  askService('/', consented({identifiers: identifiers, mode: 'async', callback: data.callback})).then((answer) => {
    if (!answer || answer.status !== 202) return refuse(503, 'unavailable');
    respond(202, {request_id: answer.body.request_id, status: 'accepted'});
  });
}

// --- a server that holds the secret: what it names counts

function isServer() {
  const sent = getRequestHeader('x-stitcher-secret');
  if (makeString(data.serverSecret).length < 24 || data.serverSecret.indexOf('REPLACE') === 0) return false;
  return getType(sent) === 'string' && sha256Sync(sent) === sha256Sync(data.serverSecret);
}

function serverQuestion() {
  const query = getRequestQueryParameters();
  const sent = method === 'POST' ? JSON.parse(getRequestBody() || '') : query;
  if (getType(sent) !== 'object') return undefined;
  const body = {};
  BODY_FIELDS.forEach((name) => {
    if (sent[name] !== undefined) body[name] = sent[name];
  });
  if (method === 'GET') {
    if (query.fields) body.fields = listed(query.fields);
    body.identifiers = {};
    TYPES.forEach((type) => {
      if (query[type]) body.identifiers[type] = query[type];
    });
  }
  if (isAsync) {
    body.mode = 'async';
    body.callback = data.callback;
  }
  return body;
}

function answerServer() {
  if (!isServer()) return refuse(401, 'unauthorized');
  if (method !== 'GET' && method !== 'POST') return refuse(405, 'method_not_allowed');
  const body = serverQuestion();
  if (!body) return refuse(400, 'invalid_json');
  askService('/', body).then((answer) => {
    if (!answer) return refuse(503, 'unavailable');
    const done = () => respond(answer.status, answer.body);
    if (answer.status !== 200) return done();
    runThen(body.identifiers || {}, answer.body.attributes, answer.body.found === true, done);
  });
}

if (trimmed(getRequestPath()) !== trimmed(data.path)) return;
claimRequest();
if (data.callers === 'servers') answerServer();
else answerBrowser();


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
        "publicId": "get_cookies",
        "versionId": "1"
      },
      "param": [
        {
          "key": "cookieAccess",
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
                    "string": "host"
                  }
                ]
              },
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
                    "string": "origin"
                  }
                ]
              },
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
                    "string": "sec-fetch-site"
                  }
                ]
              },
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
                    "string": "x-stitcher-secret"
                  }
                ]
              }
            ]
          }
        },
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
          "key": "headersAllowed",
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
  }
]


___TESTS___

scenarios:
- name: A browser gets the public view for its cookie
  code: |-
    answer(200, view);
    runCode(mockData);
    callLater(() => {
      assertApi('claimRequest').wasCalled();
      assertThat(asked).isEqualTo('https://stitch.example.com/activation');
      assertThat(sent.id).isEqualTo({type: 'anonymous_id', value: 'a-1234567890'});
      assertThat(sent.view).isEqualTo('public');
      assertThat(sent.public).isEqualTo(true);
      assertThat(body).isEqualTo({attributes: {tier: 'Gold'}});
      assertApi('returnResponse').wasCalled();
    });
- name: What a browser names in query or body counts for nothing
  code: |-
    mock('getRequestMethod', 'POST');
    mock('getRequestQueryParameters', {user_id: 'u-1', view: 'default', id: 'u-1'});
    mock('getRequestBody', '{"identifiers": {"user_id": "u-1"}, "view": "default"}');
    answer(200, view);
    runCode(mockData);
    callLater(() => {
      assertThat(sent.id).isEqualTo({type: 'anonymous_id', value: 'a-1234567890'});
      assertThat(sent.view).isEqualTo('public');
      assertThat(sent.identifiers).isUndefined();
    });
- name: Without the cookie nobody is asked
  code: |-
    mock('getCookieValues', []);
    runCode(mockData);
    assertApi('sendHttpRequest').wasNotCalled();
    assertThat(body).isEqualTo({attributes: {}});
- name: Denied consent asks nobody
  code: |-
    mockData.consentCookie = 'consent';
    mockData.consentValue = 'granted';
    mock('getCookieValues', (name) => name === 'consent' ? ['denied'] : ['a-1234567890']);
    runCode(mockData);
    assertApi('sendHttpRequest').wasNotCalled();
    assertThat(body).isEqualTo({attributes: {}});
- name: Granted consent is passed on
  code: |-
    mockData.consentCookie = 'consent';
    mockData.consentValue = 'granted';
    mock('getCookieValues', (name) => name === 'consent' ? ['granted'] : ['a-1234567890']);
    answer(200, view);
    runCode(mockData);
    assertThat(sent.consent).isEqualTo({analytics_storage: true});
- name: A page of another origin is refused
  code: |-
    headers.origin = 'https://evil.example.net';
    runCode(mockData);
    assertApi('sendHttpRequest').wasNotCalled();
    assertApi('setResponseStatus').wasCalledWith(403);
    assertApi('returnResponse').wasCalled();
- name: A cross-site request without an origin is refused
  code: |-
    headers['sec-fetch-site'] = 'cross-site';
    runCode(mockData);
    assertApi('sendHttpRequest').wasNotCalled();
    assertApi('setResponseStatus').wasCalledWith(403);
- name: An allowed origin may read the answer, with its cookies
  code: |-
    headers.origin = 'https://shop.example.com';
    mock('getRequestMethod', 'OPTIONS');
    runCode(mockData);
    assertApi('setResponseHeader').wasCalledWith('Access-Control-Allow-Origin', 'https://shop.example.com');
    assertApi('setResponseHeader').wasCalledWith('Access-Control-Allow-Credentials', 'true');
    assertApi('returnResponse').wasCalled();
- name: Other methods than GET and POST are refused, to browsers and to servers
  code: |-
    mock('getRequestMethod', 'PUT');
    runCode(mockData);
    server();
    runCode(mockData);
    assertApi('sendHttpRequest').wasNotCalled();
    assertApi('setResponseStatus').wasCalledWith(405);
    assertApi('setResponseStatus').wasNotCalledWith(200);
- name: Another path is another client's
  code: |-
    mock('getRequestPath', '/stitched');
    runCode(mockData);
    assertApi('claimRequest').wasNotCalled();
- name: A trailing slash does not matter
  code: |-
    mock('getRequestPath', '/stitch/');
    answer(200, view);
    runCode(mockData);
    assertApi('claimRequest').wasCalled();
- name: The container runs with visitor_stitched
  code: |-
    mockData.runsContainer = true;
    answer(200, view);
    runCode(mockData);
    callLater(() => {
      assertThat(ran).isEqualTo({
        event_name: 'visitor_stitched',
        visitor: {tier: 'Gold'},
        stitch: {found: true},
        anonymous_id: 'a-1234567890'
      });
      assertThat(body).isEqualTo({attributes: {tier: 'Gold'}});
    });
- name: A timeout is answered with nothing
  code: |-
    mock('sendHttpRequest', () => Promise.create((resolve, reject) => reject({reason: 'timed_out'})));
    runCode(mockData);
    callLater(() => {
      assertThat(body).isEqualTo({attributes: {}, degraded: true});
      assertApi('returnResponse').wasCalled();
    });
- name: An error of the service is answered with nothing of it
  code: |-
    answer(500, {error: {message: 'internal'}});
    runCode(mockData);
    callLater(() => assertThat(body).isEqualTo({attributes: {}, degraded: true}));
- name: A view that is not public is answered with nothing
  code: |-
    answer(400, {error: {code: 'invalid_field', path: 'view', message: 'not a public view'}});
    runCode(mockData);
    callLater(() => assertThat(body).isEqualTo({attributes: {}, degraded: true}));
- name: Bad JSON is answered with nothing
  code: |-
    mock('sendHttpRequest', () => Promise.create((resolve) => resolve({statusCode: 200, headers: {}, body: '{'})));
    runCode(mockData);
    callLater(() => assertThat(body).isEqualTo({attributes: {}, degraded: true}));
- name: A browser starts an asynchronous stitch by a POST alone
  code: |-
    mockData.mode = 'async';
    mockData.callback = 'main';
    answer(202, {request_id: 'r-1', status: 'accepted', more: 'x'});
    runCode(mockData);
    assertApi('setResponseStatus').wasCalledWith(405);
    mock('getRequestMethod', 'POST');
    runCode(mockData);
    callLater(() => {
      assertThat(sent.identifiers).isEqualTo({anonymous_id: 'a-1234567890'});
      assertThat(sent.mode).isEqualTo('async');
      assertThat(sent.callback).isEqualTo('main');
      assertThat(body).isEqualTo({request_id: 'r-1', status: 'accepted'});
    });
- name: A server with the secret names whom it means
  code: |-
    server();
    mock('getRequestQueryParameters', {user_id: 'u-1', utm_source: 'x'});
    answer(200, {found: true, profile_id: 'p_1', attributes: {tier: 'Gold'}});
    runCode(mockData);
    callLater(() => {
      assertThat(asked).isEqualTo('https://stitch.example.com/');
      assertThat(sent.identifiers).isEqualTo({user_id: 'u-1'});
      assertThat(body.profile_id).isEqualTo('p_1');
    });
- name: A server's GET names attributes separated by commas
  code: |-
    server();
    mock('getRequestQueryParameters', {id: 'u-1', fields: 'tier, store', view: 'shop'});
    answer(200, {found: true, attributes: {tier: 'Gold'}});
    runCode(mockData);
    assertThat(sent.fields).isEqualTo(['tier', 'store']);
    assertThat(sent.id).isEqualTo('u-1');
    assertThat(sent.view).isEqualTo('shop');
- name: A server's mistake is answered as the service answers it
  code: |-
    server();
    mock('getRequestMethod', 'POST');
    mock('getRequestBody', '{"identifiers": {"colour": "blue"}}');
    answer(400, {error: {code: 'invalid_field'}});
    runCode(mockData);
    callLater(() => assertApi('setResponseStatus').wasCalledWith(400));
- name: A server's body that is no JSON is refused
  code: |-
    server();
    mock('getRequestMethod', 'POST');
    mock('getRequestBody', 'user_id=u-1');
    runCode(mockData);
    assertApi('setResponseStatus').wasCalledWith(400);
    assertApi('sendHttpRequest').wasNotCalled();
- name: A caller without the right secret is refused
  code: |-
    server();
    headers['x-stitcher-secret'] = 'guess';
    runCode(mockData);
    headers['x-stitcher-secret'] = undefined;
    runCode(mockData);
    assertApi('sendHttpRequest').wasNotCalled();
    assertApi('setResponseStatus').wasCalledWith(401);
    assertApi('setResponseStatus').wasNotCalledWith(200);
- name: A weak or missing secret lets nobody in
  code: |-
    server();
    mockData.serverSecret = '';
    headers['x-stitcher-secret'] = '';
    runCode(mockData);
    assertApi('sendHttpRequest').wasNotCalled();
    assertApi('setResponseStatus').wasCalledWith(401);
- name: The origin of the server itself is its own
  code: |-
    headers.origin = 'https://sgtm.example.com';
    answer(200, view);
    runCode(mockData);
    callLater(() => assertThat(body).isEqualTo({attributes: {tier: 'Gold'}}));
- name: A cookie that no identifier can be asks nobody
  code: |-
    let long = 'aaaaaaaa';
    while (long.length <= 256) long = long + long;
    mock('getCookieValues', [long]);
    runCode(mockData);
    assertApi('sendHttpRequest').wasNotCalled();
    assertThat(body).isEqualTo({attributes: {}});
- name: No cache keeps an answer, and no script tag reads it
  code: |-
    answer(200, view);
    runCode(mockData);
    callLater(() => {
      assertApi('setResponseHeader').wasCalledWith('Cache-Control', 'private, no-store');
      assertApi('setResponseHeader').wasCalledWith('X-Content-Type-Options', 'nosniff');
      assertApi('setResponseHeader').wasCalledWith('Vary', 'Origin, Cookie');
    });
- name: A view with the status of an error is not shown
  code: |-
    answer(500, view);
    runCode(mockData);
    callLater(() => assertThat(body).isEqualTo({attributes: {}, degraded: true}));
- name: A stitch that is not accepted is told as unavailable
  code: |-
    mockData.mode = 'async';
    mock('getRequestMethod', 'POST');
    answer(503, {error: {code: 'unavailable'}});
    runCode(mockData);
    callLater(() => assertApi('setResponseStatus').wasCalledWith(503));
- name: A server that the service does not answer is told so
  code: |-
    server();
    mock('sendHttpRequest', () => Promise.create((resolve, reject) => reject({reason: 'timed_out'})));
    runCode(mockData);
    callLater(() => {
      assertApi('setResponseStatus').wasCalledWith(503);
      assertApi('returnResponse').wasCalled();
    });
- name: A server's question runs the container with whom it named
  code: |-
    server();
    mockData.runsContainer = true;
    mock('getRequestQueryParameters', {user_id: 'u-1'});
    answer(200, {found: true, profile_id: 'p_1', attributes: {tier: 'Gold'}});
    runCode(mockData);
    callLater(() => {
      assertThat(ran).isEqualTo({
        event_name: 'visitor_stitched',
        visitor: {tier: 'Gold'},
        stitch: {found: true},
        user_id: 'u-1'
      });
      assertThat(body.profile_id).isEqualTo('p_1');
    });
- name: A server's mistake does not run the container
  code: |-
    server();
    mockData.runsContainer = true;
    answer(400, {error: {code: 'invalid_field'}});
    runCode(mockData);
    callLater(() => assertApi('runContainer').wasNotCalled());
- name: The secret that the container came with lets nobody in
  code: |-
    server();
    mockData.serverSecret = 'REPLACE with 24 or more random characters';
    headers['x-stitcher-secret'] = 'REPLACE with 24 or more random characters';
    runCode(mockData);
    assertApi('sendHttpRequest').wasNotCalled();
    assertApi('setResponseStatus').wasCalledWith(401);
setup: |-
  const callLater = require('callLater');
  const JSON = require('JSON');
  const Promise = require('Promise');
  const headers = {host: 'sgtm.example.com'};
  const view = {data: {public: {tier: 'Gold'}}, found: true, reason: 'KNOWN_PROFILE', request_id: 'r'};
  const mockData = {
    path: '/stitch',
    serviceUrl: 'https://stitch.example.com/',
    apiKey: 'k',
    timeoutMs: '300',
    callers: 'browsers',
    mode: 'sync',
    view: 'public',
    cookieName: 'anonymous_id',
    cookieType: 'anonymous_id',
    allowedOrigins: 'https://shop.example.com',
    consentCookie: '',
    serverSecret: ''
  };
  let asked;
  let sent;
  let body;
  let ran;
  function answer(status, value) {
    mock('sendHttpRequest', (url, options, text) => {
      asked = url;
      sent = JSON.parse(text);
      return Promise.create((resolve) => resolve({statusCode: status, headers: {}, body: JSON.stringify(value)}));
    });
  }
  function server() {
    mockData.callers = 'servers';
    mockData.serverSecret = '0123456789abcdef01234567';
    headers['x-stitcher-secret'] = '0123456789abcdef01234567';
  }
  mock('getRequestPath', '/stitch');
  mock('getRequestMethod', 'GET');
  mock('getRequestHeader', (name) => headers[name]);
  mock('getRequestQueryParameters', {});
  mock('getRequestBody', undefined);
  mock('getCookieValues', ['a-1234567890']);
  mock('setResponseBody', (text) => {
    body = JSON.parse(text);
  });
  mock('runContainer', (event, onComplete) => {
    ran = event;
    onComplete();
  });


___NOTES___

Give the key of a client for browsers the scope lookup and the one view, nothing else.
