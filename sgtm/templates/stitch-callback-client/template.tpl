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
  "displayName": "Tagstitch: stitch callback",
  "brand": {
    "id": "brand_dummy",
    "displayName": "Tagstitch"
  },
  "description": "Receives the signed result of an asynchronous stitch and runs the container with visitor_stitched.",
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
    "defaultValue": "/stitched",
    "valueValidators": [
      {
        "type": "NON_EMPTY"
      }
    ]
  },
  {
    "type": "RADIO",
    "name": "scheme",
    "displayName": "Signature",
    "simpleValueType": true,
    "defaultValue": "standard",
    "radioItems": [
      {
        "value": "standard",
        "displayValue": "Standard Webhooks, with the key file of the server"
      },
      {
        "value": "sha256",
        "displayValue": "the sha256 scheme, for servers without a key file"
      }
    ]
  },
  {
    "type": "CHECKBOX",
    "name": "isRotating",
    "checkboxText": "Accept the previous key too",
    "simpleValueType": true,
    "defaultValue": false,
    "help": "tagstitch_callback_previous in the key file.",
    "enablingConditions": [
      {
        "paramName": "scheme",
        "paramValue": "standard",
        "type": "EQUALS"
      }
    ]
  },
  {
    "type": "TEXT",
    "name": "secret",
    "displayName": "Secret",
    "simpleValueType": true,
    "help": "The endpoint's secret, whsec_…; during a rotation both, separated by a blank.",
    "enablingConditions": [
      {
        "paramName": "scheme",
        "paramValue": "sha256",
        "type": "EQUALS"
      }
    ]
  }
]


___SANDBOXED_JS_FOR_SERVER___

const claimRequest = require('claimRequest');
const getRequestBody = require('getRequestBody');
const getRequestHeader = require('getRequestHeader');
const getRequestMethod = require('getRequestMethod');
const getRequestPath = require('getRequestPath');
const getTimestamp = require('getTimestamp');
const getType = require('getType');
const hmacSha256 = require('hmacSha256');
const JSON = require('JSON');
const makeInteger = require('makeInteger');
const makeString = require('makeString');
const Math = require('Math');
const returnResponse = require('returnResponse');
const runContainer = require('runContainer');
const setResponseBody = require('setResponseBody');
const setResponseHeader = require('setResponseHeader');
const setResponseStatus = require('setResponseStatus');
const sha256Sync = require('sha256Sync');
const templateDataStorage = require('templateDataStorage');

const TOLERANCE_S = 300; // as Standard Webhooks advises
const SEEN_MAX = 500;
const SECRET_CHARACTERS_MIN = 24;

function trimmed(url) {
  return url.charAt(url.length - 1) === '/' ? url.substring(0, url.length - 1) : url;
}


function respond(status, body) {
  setResponseStatus(status);
  setResponseHeader('Content-Type', 'application/json');
  setResponseHeader('Cache-Control', 'no-store');
  setResponseBody(JSON.stringify(body));
  returnResponse();
}

// The signatures that would be right: one for each secret of a rotation.
function rightSignatures(content) {
  if (data.scheme === 'sha256') {
    const hex = {outputEncoding: 'hex'};
    return makeString(data.secret).split(' ').filter((each) => each.length >= SECRET_CHARACTERS_MIN).map((secret) =>
      's1=' + sha256Sync(secret + sha256Sync(secret + content, hex), hex));
  }
  const keys = data.isRotating ? ['tagstitch_callback', 'tagstitch_callback_previous'] : ['tagstitch_callback'];
  return keys.map((key) => 'v1,' + hmacSha256(content, key, {outputEncoding: 'base64'}));
}

function isSigned(id, timestamp, body) {
  const age = getTimestamp() - makeInteger(timestamp);
  if (!id || !timestamp || !(Math.abs(age) <= TOLERANCE_S)) return false;
  const header = data.scheme === 'sha256' ? 'x-tagstitch-signature' : 'webhook-signature';
  const sent = makeString(getRequestHeader(header) || '').split(' ').map((each) => sha256Sync(each));
  const right = rightSignatures(id + '.' + timestamp + '.' + body).map((each) => sha256Sync(each));
  return right.some((each) => sent.indexOf(each) >= 0); // hashes: the time tells nothing
}

// Best effort, for this server alone: a repeat is acknowledged and not run again.
function isRepeat(id) {
  const seen = templateDataStorage.getItemCopy('seen') || [];
  if (seen.indexOf(id) >= 0) return true;
  seen.push(id);
  templateDataStorage.setItemCopy('seen', seen.slice(-SEEN_MAX));
  return false;
}

function stitchedEvent(stitched) {
  const context = getType(stitched.context) === 'object' ? stitched.context : {};
  const event = {
    event_name: 'visitor_stitched',
    visitor: stitched.attributes || {},
    context: context,
    stitch: {
      request_id: stitched.request_id,
      found: stitched.found === true,
      profile_id: stitched.profile_id,
      reason: stitched.reason,
      hops: makeInteger(getRequestHeader('x-tagstitch-hops')) || 1
    }
  };
  if (getType(context.client_id) === 'string') event.client_id = context.client_id;
  if (getType(context.user_id) === 'string') event.user_id = context.user_id;
  return event;
}

if (getRequestMethod() !== 'POST' || trimmed(getRequestPath()) !== trimmed(data.path)) return;
claimRequest();

const id = getRequestHeader('webhook-id');
const body = getRequestBody() || '';
if (!isSigned(id, getRequestHeader('webhook-timestamp'), body)) {
  return respond(401, {error: {code: 'unauthorized'}});
}
const message = JSON.parse(body);
if (getType(message) !== 'object' || message.type !== 'visitor.stitched' || getType(message.data) !== 'object') {
  return respond(400, {error: {code: 'invalid_field'}});
}
if (isRepeat(id)) return respond(200, {acknowledged: id});
runContainer(stitchedEvent(message.data), () => respond(200, {acknowledged: id}));


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
        "publicId": "access_template_storage",
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
                    "string": "webhook-id"
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
                    "string": "webhook-timestamp"
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
                    "string": "webhook-signature"
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
                    "string": "x-tagstitch-signature"
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
                    "string": "x-tagstitch-hops"
                  }
                ]
              }
            ]
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
        "publicId": "use_custom_private_keys",
        "versionId": "1"
      },
      "param": [
        {
          "key": "keyIds",
          "value": {
            "type": 2,
            "listItem": [
              {
                "type": 1,
                "string": "tagstitch_callback"
              },
              {
                "type": 1,
                "string": "tagstitch_callback_previous"
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
- name: A signed result runs the container and is acknowledged
  code: |-
    runCode(mockData);
    assertApi('claimRequest').wasCalled();
    assertThat(ran).isEqualTo({
      event_name: 'visitor_stitched',
      visitor: {tier: 'Gold'},
      context: {client_id: '1.2', page: '/cart'},
      stitch: {request_id: 'r-1', found: true, profile_id: 'p_1', reason: 'KNOWN_PROFILE', hops: 1},
      client_id: '1.2'
    });
    assertApi('setResponseStatus').wasCalledWith(200);
    assertApi('setResponseBody').wasCalledWith('{"acknowledged":"r-1"}');
- name: A user id of the context becomes the event's, a trailing slash does not matter
  code: |-
    mockData.path = '/stitched/';
    mock('getRequestBody', JSON.stringify({
      type: 'visitor.stitched',
      data: {request_id: 'r-1', found: true, attributes: {}, context: {user_id: 'u-1', client_id: 7}}
    }));
    runCode(mockData);
    assertThat(ran.user_id).isEqualTo('u-1');
    assertThat(ran.client_id).isUndefined();
- name: How many callbacks led here is passed on
  code: |-
    headers['x-tagstitch-hops'] = '3';
    runCode(mockData);
    assertThat(ran.stitch.hops).isEqualTo(3);
- name: A wrong signature is refused
  code: |-
    headers['webhook-signature'] = 'v1,AAAA';
    runCode(mockData);
    refused();
- name: A missing signature is refused
  code: |-
    headers['webhook-signature'] = undefined;
    runCode(mockData);
    refused();
- name: A signature for another body is refused
  code: |-
    mock('getRequestBody', '{"type": "visitor.stitched", "data": {"attributes": {"tier": "Platinum"}}}');
    runCode(mockData);
    refused();
- name: A result that is five minutes old or early is refused
  code: |-
    mock('getTimestamp', 1763700301);
    runCode(mockData);
    mock('getTimestamp', 1763699699);
    runCode(mockData);
    refused();
- name: A time that is no number is refused
  code: |-
    headers['webhook-timestamp'] = 'now';
    runCode(mockData);
    refused();
- name: The second of two signatures counts too
  code: |-
    headers['webhook-signature'] = 'v1,AAAA ' + headers['webhook-signature'];
    runCode(mockData);
    assertApi('runContainer').wasCalled();
- name: The previous key counts during a rotation alone
  code: |-
    mock('hmacSha256', (content, key) => key === 'tagstitch_callback_previous' ? 'signed' : 'other');
    runCode(mockData);
    assertApi('runContainer').wasNotCalled();
    mockData.isRotating = true;
    runCode(mockData);
    assertApi('runContainer').wasCalled();
- name: A server without a key file checks the sha256 scheme
  code: |-
    mockData.scheme = 'sha256';
    mockData.secret = 'whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcw== whsec_b2xkIHNlY3JldCBvZiAyNCBieXRlcw==';
    const hex = {outputEncoding: 'hex'};
    const secret = 'whsec_b2xkIHNlY3JldCBvZiAyNCBieXRlcw==';
    const inner = sha256Sync(secret + 'r-1.1763700000.' + body, hex);
    headers['x-tagstitch-signature'] = 's1=00 s1=' + sha256Sync(secret + inner, hex);
    runCode(mockData);
    assertApi('hmacSha256').wasNotCalled();
    assertApi('runContainer').wasCalled();
- name: A server without a key file refuses a wrong or missing signature
  code: |-
    mockData.scheme = 'sha256';
    mockData.secret = 'whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcw==';
    headers['x-tagstitch-signature'] = 's1=00';
    runCode(mockData);
    headers['x-tagstitch-signature'] = undefined;
    runCode(mockData);
    mockData.secret = '';
    headers['x-tagstitch-signature'] = 's1=' + sha256Sync(sha256Sync('r-1.1763700000.' + body, {outputEncoding: 'hex'}), {outputEncoding: 'hex'});
    runCode(mockData);
    refused();
- name: A repeat is acknowledged and not run again
  code: |-
    runCode(mockData);
    ran = undefined;
    runCode(mockData);
    assertThat(ran).isUndefined();
    assertApi('setResponseStatus').wasNotCalledWith(401);
- name: Bad JSON is refused
  code: |-
    mock('getRequestBody', '{');
    runCode(mockData);
    assertApi('setResponseStatus').wasCalledWith(400);
    assertApi('runContainer').wasNotCalled();
- name: Another message is refused
  code: |-
    mock('getRequestBody', '{"type": "other", "data": {}}');
    runCode(mockData);
    assertApi('setResponseStatus').wasCalledWith(400);
- name: Denied consent arrives as nobody
  code: |-
    mock('getRequestBody', JSON.stringify({
      type: 'visitor.stitched',
      data: {request_id: 'r-1', found: false, profile_id: null, attributes: {}, reason: 'CONSENT_DENIED'}
    }));
    runCode(mockData);
    assertThat(ran.visitor).isEqualTo({});
    assertThat(ran.stitch.found).isFalse();
- name: Other paths and methods are not claimed
  code: |-
    mock('getRequestPath', '/stitch');
    runCode(mockData);
    mock('getRequestPath', '/stitched');
    mock('getRequestMethod', 'GET');
    runCode(mockData);
    assertApi('claimRequest').wasNotCalled();
- name: A signed message without its id or time is refused
  code: |-
    headers['webhook-id'] = undefined;
    runCode(mockData);
    headers['webhook-id'] = 'r-1';
    headers['webhook-timestamp'] = undefined;
    runCode(mockData);
    refused();
- name: A signed message without data is refused
  code: |-
    mock('getRequestBody', '{"type": "visitor.stitched"}');
    runCode(mockData);
    assertApi('setResponseStatus').wasCalledWith(400);
    assertApi('runContainer').wasNotCalled();
- name: Of the ids it has seen it keeps the last 500
  code: |-
    let kept;
    const many = [];
    while (many.length < 500) many.push('r');
    mockObject('templateDataStorage', {
      getItemCopy: () => many,
      setItemCopy: (key, value) => {
        kept = value;
      }
    });
    runCode(mockData);
    assertThat(kept).hasLength(500);
    assertThat(kept[499]).isEqualTo('r-1');
setup: |-
  const JSON = require('JSON');
  const sha256Sync = require('sha256Sync');
  const mockData = {path: '/stitched', scheme: 'standard'};
  const body = JSON.stringify({
    type: 'visitor.stitched',
    timestamp: '2025-11-21T04:40:00Z',
    data: {
      request_id: 'r-1',
      found: true,
      profile_id: 'p_1',
      attributes: {tier: 'Gold'},
      reason: 'KNOWN_PROFILE',
      context: {client_id: '1.2', page: '/cart'}
    }
  });
  const headers = {'webhook-id': 'r-1', 'webhook-timestamp': '1763700000', 'webhook-signature': 'v1,signed'};
  let ran;
  function refused() {
    assertApi('setResponseStatus').wasCalledWith(401);
    assertApi('setResponseStatus').wasNotCalledWith(200);
    assertApi('runContainer').wasNotCalled();
  }
  mock('getRequestMethod', 'POST');
  mock('getRequestPath', '/stitched');
  mock('getRequestHeader', (name) => headers[name]);
  mock('getRequestBody', body);
  mock('getTimestamp', 1763700000);
  mock('hmacSha256', (content, key) => content.indexOf('Platinum') < 0 && key === 'tagstitch_callback' ? 'signed' : 'other');
  mock('runContainer', (event, onComplete) => {
    ran = event;
    onComplete();
  });


___NOTES___

The key file that SGTM_CREDENTIALS names holds the secret without whsec_: {"keys": {"tagstitch_callback": "…"}}
