___TERMS_OF_SERVICE___

By creating or modifying this file you agree to Google Tag Manager's Community
Template Gallery Developer Terms of Service available at
https://developers.google.com/tag-manager/gallery-tos (or such other URL as
Google may provide), as modified from time to time.


___INFO___

{
  "type": "MACRO",
  "id": "cvt_temp_public_id",
  "version": 1,
  "securityGroups": [],
  "displayName": "Tagstitch: decided event",
  "categories": [
    "UTILITY"
  ],
  "description": "Is true for an event that the decide tag or the decision client has decided, and false for every other, whatever its parameters say.",
  "containerContexts": [
    "SERVER"
  ]
}


___TEMPLATE_PARAMETERS___

[
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
    "type": "TEXT",
    "name": "power",
    "displayName": "Switch",
    "simpleValueType": true,
    "help": "off: every event counts as decided, leaves as it came, and nobody is asked. From a constant variable, so that one edit takes Tagstitch out.",
    "defaultValue": "on"
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
const makeInteger = require('makeInteger');
const makeString = require('makeString');
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

// A stitch's result carries the profile: it is for the tags that ask for its client, switch or not.
function isResult(event) {
  return event.event_name === 'visitor_stitched' && getType(event.stitch) === 'object';
}

const event = getAllEventData();
// Switched off, every event counts as decided: it leaves as it came, and decide is not asked.
return data.power === 'off' ? !isResult(event) : isDecided(event);


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
  }
]


___TESTS___

scenarios:
- name: An event with the right guard is decided
  code: |-
    event['x-tagstitch'] = {guard: guard('d-1', now + 30000)};
    assertThat(runCode(mockData)).isTrue();
- name: An event without a guard is not decided
  code: |-
    assertThat(runCode(mockData)).isFalse();
- name: A text in place of the mark is not decided
  code: |-
    event['x-tagstitch'] = guard('d-1', now + 30000);
    assertThat(runCode(mockData)).isFalse();
- name: A guard is refused when it is over
  code: |-
    event['x-tagstitch'] = {guard: guard('d-1', now)};
    assertThat(runCode(mockData)).isFalse();
- name: A guard is refused when it would hold for years
  code: |-
    event['x-tagstitch'] = {guard: guard('d-1', now + 30001)};
    assertThat(runCode(mockData)).isFalse();
- name: A guard is refused in another request
  code: |-
    event['x-tagstitch'] = {guard: guard('d-1', now + 30000)};
    mock('getRequestQueryString', 'v=2&cid=1.2&ep.x-tagstitch=copied');
    assertThat(runCode(mockData)).isFalse();
- name: A guard is refused for another event name or client
  code: |-
    event['x-tagstitch'] = {guard: guard('d-1', now + 30000)};
    event.event_name = 'refund';
    assertThat(runCode(mockData)).isFalse();
    event.event_name = 'purchase';
    event.client_id = '1.3';
    assertThat(runCode(mockData)).isFalse();
- name: What was signed cannot be cut at another place
  code: |-
    event['x-tagstitch'] = {guard: guard('d-1', now + 30000)};
    event.client_id = '1.2purchase';
    event.event_name = '';
    assertThat(runCode(mockData)).isFalse();
- name: Nothing is decided under the secret that the container came with
  code: |-
    mockData.guardSecret = 'REPLACE with 24 or more random characters';
    event['x-tagstitch'] = {guard: guard('d-1', now + 30000)};
    assertThat(runCode(mockData)).isFalse();
- name: Switched off, every event counts as decided
  code: |-
    mockData.power = 'off';
    assertThat(runCode(mockData)).isTrue();
    mockData.power = 'on';
    assertThat(runCode(mockData)).isFalse();
- name: Switched off, the result of a stitch is still for nobody but its own tags
  code: |-
    mockData.power = 'off';
    event.event_name = 'visitor_stitched';
    event.stitch = 'a text, as a browser sends it';
    assertThat(runCode(mockData)).isTrue();
    event.stitch = {request_id: 'r-1', found: true};
    assertThat(runCode(mockData)).isFalse();
- name: Denied consent changes nothing here
  code: |-
    event['x-tagstitch'] = {guard: guard('d-1', now + 30000)};
    event['x-ga-gcs'] = 'G100';
    assertThat(runCode(mockData)).isTrue();
setup: |-
  const JSON = require('JSON');
  const sha256Sync = require('sha256Sync');
  const now = 1763700000000;
  const hex = {outputEncoding: 'hex'};
  const event = {event_name: 'purchase', client_id: '1.2'};
  const mockData = {guardSecret: '0123456789abcdef01234567'};
  function guard(id, expiry) {
    const request = sha256Sync(JSON.stringify(['GET', '/g/collect', 'v=2&cid=1.2', null]), hex);
    const signed = JSON.stringify([id, expiry, event.client_id, event.event_name, request]);
    const inner = sha256Sync(mockData.guardSecret + signed, hex);
    return id + '.' + expiry + '.' + sha256Sync(mockData.guardSecret + inner, hex);
  }
  mock('getAllEventData', () => event);
  mock('getTimestampMillis', now);
  mock('getRequestMethod', 'GET');
  mock('getRequestPath', '/g/collect');
  mock('getRequestQueryString', 'v=2&cid=1.2');
  mock('getRequestBody', undefined);


___NOTES___

Use it as a condition in the trigger of every tag but the decide tag.
