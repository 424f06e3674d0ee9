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
  "displayName": "Tagstitch: visitor profile",
  "categories": [
    "UTILITY"
  ],
  "description": "One attribute of the visitor's profile, or all of them.",
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
    "name": "lookup",
    "displayName": "Lookup",
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
        "help": "What the visitor is known by, as client_id and {{client_id}}. A user id in a browser's hit can be forged: name it only where a login proved it."
      },
      {
        "type": "TEXT",
        "name": "view",
        "displayName": "View",
        "simpleValueType": true,
        "help": "Empty: the default view."
      },
      {
        "type": "TEXT",
        "name": "attribute",
        "displayName": "Attribute",
        "simpleValueType": true,
        "help": "Empty: an object with all of the view."
      },
      {
        "type": "TEXT",
        "name": "fallback",
        "displayName": "Fallback",
        "simpleValueType": true,
        "help": "The value without consent, without a profile, and when something fails."
      },
      {
        "type": "TEXT",
        "name": "cacheSeconds",
        "displayName": "Cache in seconds",
        "simpleValueType": true,
        "help": "Up to 3,600; 0 asks each time. Failures are never kept.",
        "defaultValue": "60",
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
  }
]


___SANDBOXED_JS_FOR_SERVER___

const getAllEventData = require('getAllEventData');
const getTimestampMillis = require('getTimestampMillis');
const getType = require('getType');
const JSON = require('JSON');
const makeInteger = require('makeInteger');
const makeString = require('makeString');
const makeTableMap = require('makeTableMap');
const Math = require('Math');
const sendHttpRequest = require('sendHttpRequest');
const sha256Sync = require('sha256Sync');
const templateDataStorage = require('templateDataStorage');

const KEPT_MAX = 500; // entries a server keeps: its storage forgets nothing by itself
const CACHE_S_MAX = 3600;
const UNKNOWN_MS_MAX = 10000; // who is unknown may log in at any moment

function timeoutMs() {
  const wanted = makeInteger(data.timeoutMs);
  return wanted >= 50 && wanted <= 4000 ? wanted : 500;
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

function cacheMs() {
  const wanted = makeInteger(data.cacheSeconds);
  return wanted > 0 ? Math.min(wanted, CACHE_S_MAX) * 1000 : 0;
}

function pick(attributes) {
  if (!data.attribute) return attributes;
  const value = attributes[data.attribute];
  return value === undefined || value === null ? data.fallback : value;
}

function fromCache(key) {
  const kept = cacheMs() > 0 ? templateDataStorage.getItemCopy(key) : undefined;
  return getType(kept) === 'object' && kept.expires > getTimestampMillis() ? kept : undefined;
}

function keep(key, attributes, isFound) {
  const ms = isFound ? cacheMs() : Math.min(cacheMs(), UNKNOWN_MS_MAX);
  if (ms === 0) return;
  const keys = templateDataStorage.getItemCopy('keys') || [];
  if (keys.indexOf(key) < 0) keys.push(key);
  while (keys.length > KEPT_MAX) templateDataStorage.removeItem(keys.shift());
  templateDataStorage.setItemCopy('keys', keys);
  templateDataStorage.setItemCopy(key, {found: isFound, attributes: attributes, expires: getTimestampMillis() + ms});
}

const event = getAllEventData();
// Default deny: without a grant in the event nobody is asked, and no cache either.
if (consentOf(event, 'analytics_storage') !== true) return data.fallback;

const table = makeTableMap(data.identifiers || [], 'type', 'value') || {};
const identifiers = {};
let count = 0;
for (const type in table) {
  if (table[type]) {
    identifiers[type] = makeString(table[type]);
    count = count + 1;
  }
}
if (count === 0) return data.fallback;

const key = sha256Sync(JSON.stringify([data.serviceUrl, data.view, identifiers]));
const cached = fromCache(key);
if (cached) return cached.found ? pick(cached.attributes) : data.fallback;

const body = {
  identifiers: identifiers,
  consent: {analytics_storage: true},
  deadline_ms: Math.floor(timeoutMs() * 0.8)
};
if (data.view) body.view = data.view;

return ask(data.serviceUrl, body).then((answer) => {
  if (!answer || getType(answer.attributes) !== 'object') return data.fallback;
  const isWhole = getType(answer.degraded) === 'array' && answer.degraded.length === 0;
  if (isWhole && (answer.found === true || answer.reason === 'UNKNOWN_PROFILE')) {
    keep(key, answer.attributes, answer.found === true);
  }
  return answer.found === true ? pick(answer.attributes) : data.fallback;
});


___SERVER_PERMISSIONS___

[
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
- name: One attribute of a known visitor
  code: |-
    answer(200, known());
    return runCode(mockData).then((value) => {
      assertThat(value).isEqualTo('Gold');
      assertThat(sent.identifiers).isEqualTo({client_id: '1.2'});
    });
- name: The whole profile
  code: |-
    mockData.attribute = '';
    answer(200, known());
    return runCode(mockData).then((value) => assertThat(value).isEqualTo({tier: 'Gold'}));
- name: A second look is answered by the cache, until it is over
  code: |-
    answer(200, known());
    return runCode(mockData).then(() => {
      assertThat(runCode(mockData)).isEqualTo('Gold');
      mock('getTimestampMillis', now + 60001);
      return runCode(mockData);
    }).then(() => assertThat(asked).isEqualTo(2));
- name: Another visitor has another place in the cache
  code: |-
    answer(200, known());
    return runCode(mockData).then(() => {
      mockData.identifiers = [{type: 'client_id', value: '9.9'}];
      return runCode(mockData);
    }).then(() => assertThat(asked).isEqualTo(2));
- name: An unknown visitor is remembered for seconds
  code: |-
    answer(200, JSON.stringify({found: false, reason: 'UNKNOWN_PROFILE', attributes: {}, degraded: []}));
    return runCode(mockData).then((value) => {
      assertThat(value).isEqualTo('none');
      assertThat(runCode(mockData)).isEqualTo('none');
      mock('getTimestampMillis', now + 10001);
      return runCode(mockData);
    }).then(() => assertThat(asked).isEqualTo(2));
- name: A timeout gives the fallback, and is not kept
  code: |-
    mock('sendHttpRequest', () => Promise.create((resolve, reject) => reject({reason: 'timed_out'})));
    return runCode(mockData).then((value) => {
      assertThat(value).isEqualTo('none');
      answer(200, known());
      return runCode(mockData);
    }).then((value) => assertThat(value).isEqualTo('Gold'));
- name: An error of the service gives the fallback, and is not kept
  code: |-
    answer(500, '{}');
    return runCode(mockData).then((value) => {
      assertThat(value).isEqualTo('none');
      answer(200, known());
      return runCode(mockData);
    }).then((value) => assertThat(value).isEqualTo('Gold'));
- name: A degraded answer is not kept
  code: |-
    answer(200, JSON.stringify({found: true, attributes: {tier: 'Old'}, degraded: ['profile']}));
    return runCode(mockData).then((value) => {
      assertThat(value).isEqualTo('Old');
      answer(200, known());
      return runCode(mockData);
    }).then((value) => assertThat(value).isEqualTo('Gold'));
- name: Bad JSON gives the fallback
  code: |-
    answer(200, '<html>');
    return runCode(mockData).then((value) => assertThat(value).isEqualTo('none'));
- name: Denied consent asks nobody, not even the cache
  code: |-
    answer(200, known());
    return runCode(mockData).then(() => {
      event['x-ga-gcs'] = 'G110';
      assertThat(runCode(mockData)).isEqualTo('none');
      assertThat(asked).isEqualTo(1);
    });
- name: Silence about consent asks nobody
  code: |-
    mock('getAllEventData', {event_name: 'purchase'});
    assertThat(runCode(mockData)).isEqualTo('none');
    assertApi('sendHttpRequest').wasNotCalled();
- name: A denial in one signal wins over a grant in another
  code: |-
    event.consent_state = {analytics_storage: 'denied'};
    assertThat(runCode(mockData)).isEqualTo('none');
    assertApi('sendHttpRequest').wasNotCalled();
- name: A grant in x-ga-gcd is a grant
  code: |-
    answer(200, known());
    mock('getAllEventData', {event_name: 'purchase', 'x-ga-gcd': '13r3r3r2r5l1'});
    return runCode(mockData).then((value) => assertThat(value).isEqualTo('Gold'));
- name: A signal that cannot be read is a denial
  code: |-
    event['x-ga-gcd'] = '13r!';
    assertThat(runCode(mockData)).isEqualTo('none');
    event['x-ga-gcd'] = undefined;
    event['x-ga-gcs'] = 'yes';
    assertThat(runCode(mockData)).isEqualTo('none');
- name: Without an identifier nobody is asked
  code: |-
    mockData.identifiers = [{type: 'client_id', value: undefined}];
    assertThat(runCode(mockData)).isEqualTo('none');
- name: Attributes of somebody who was not found are not used
  code: |-
    answer(200, JSON.stringify({found: false, reason: 'CONSENT_DENIED', attributes: {tier: 'Gold'}, degraded: []}));
    return runCode(mockData).then((value) => assertThat(value).isEqualTo('none'));
- name: Another view has another place in the cache
  code: |-
    answer(200, known());
    return runCode(mockData).then(() => {
      mockData.view = 'other';
      return runCode(mockData);
    }).then(() => {
      assertThat(asked).isEqualTo(2);
      assertThat(sent.view).isEqualTo('other');
    });
- name: Nothing is kept longer than an hour
  code: |-
    mockData.cacheSeconds = '99999';
    answer(200, known());
    return runCode(mockData).then(() => {
      mock('getTimestampMillis', now + 3600001);
      return runCode(mockData);
    }).then(() => assertThat(asked).isEqualTo(2));
- name: Without a cache each look asks
  code: |-
    mockData.cacheSeconds = '0';
    answer(200, known());
    return runCode(mockData).then(() => runCode(mockData)).then(() => assertThat(asked).isEqualTo(2));
- name: A server keeps the last 500 visitors
  code: |-
    const many = [];
    while (many.length < 500) many.push('visitor ' + many.length);
    const removed = [];
    mockObject('templateDataStorage', {
      getItemCopy: (key) => key === 'keys' ? many : null,
      setItemCopy: () => undefined,
      removeItem: (key) => removed.push(key)
    });
    answer(200, known());
    return runCode(mockData).then(() => assertThat(removed).isEqualTo(['visitor 0']));
setup: |-
  const JSON = require('JSON');
  const Promise = require('Promise');
  const now = 1763700000000;
  const event = {event_name: 'purchase', client_id: '1.2', 'x-ga-gcs': 'G111'};
  const mockData = {
    serviceUrl: 'https://stitch.example.com',
    apiKey: 'k',
    timeoutMs: '300',
    identifiers: [{type: 'client_id', value: '1.2'}],
    attribute: 'tier',
    fallback: 'none',
    cacheSeconds: '60'
  };
  let asked = 0;
  let sent;
  function known() {
    return JSON.stringify({found: true, reason: 'KNOWN_PROFILE', attributes: {tier: 'Gold'}, degraded: []});
  }
  function answer(status, body) {
    mock('sendHttpRequest', (url, options, text) => {
      asked = asked + 1;
      sent = JSON.parse(text);
      return Promise.create((resolve) => resolve({statusCode: status, headers: {}, body: body}));
    });
  }
  mock('getAllEventData', event);
  mock('getTimestampMillis', now);


___NOTES___

The value is a promise: tags and conditions wait for it.
