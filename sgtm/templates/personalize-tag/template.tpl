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
  "displayName": "Tagstitch: personalize",
  "categories": [
    "PERSONALIZATION"
  ],
  "brand": {
    "id": "brand_dummy",
    "displayName": "Tagstitch"
  },
  "description": "Sets the cookies that Tagstitch decided on, and passes its values to the client by a message.",
  "containerContexts": [
    "SERVER"
  ]
}


___TEMPLATE_PARAMETERS___

[
  {
    "type": "RADIO",
    "name": "source",
    "displayName": "Where the actions come from",
    "simpleValueType": true,
    "defaultValue": "decision",
    "radioItems": [
      {
        "value": "decision",
        "displayValue": "the decided event: no further call"
      },
      {
        "value": "request",
        "displayValue": "ask decide"
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
        "displayName": "URL of decide, with /decide at its end",
        "simpleValueType": true,
        "valueHint": "https://…",
        "enablingConditions": [
          {
            "paramName": "source",
            "paramValue": "request",
            "type": "EQUALS"
          }
        ]
      },
      {
        "type": "TEXT",
        "name": "apiKey",
        "displayName": "Key",
        "simpleValueType": true,
        "help": "The secret of one of TAGSTITCH_KEYS.",
        "enablingConditions": [
          {
            "paramName": "source",
            "paramValue": "request",
            "type": "EQUALS"
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
        ],
        "enablingConditions": [
          {
            "paramName": "source",
            "paramValue": "request",
            "type": "EQUALS"
          }
        ]
      }
    ]
  },
  {
    "type": "GROUP",
    "name": "cookies",
    "displayName": "Cookies",
    "groupStyle": "ZIPPY_OPEN",
    "subParams": [
      {
        "type": "TEXT",
        "name": "cookieNames",
        "displayName": "Cookies that may be set",
        "simpleValueType": true,
        "help": "Separated by commas; a * at the end of a name stands for any ending.",
        "valueValidators": [
          {
            "type": "NON_EMPTY"
          }
        ]
      },
      {
        "type": "CHECKBOX",
        "name": "httpOnly",
        "checkboxText": "Hide the cookies from scripts",
        "simpleValueType": true,
        "defaultValue": false
      },
      {
        "type": "TEXT",
        "name": "purpose",
        "displayName": "Consent purpose",
        "simpleValueType": true,
        "help": "No cookie is set where the event denies it.",
        "defaultValue": "ad_personalization",
        "valueValidators": [
          {
            "type": "NON_EMPTY"
          }
        ]
      }
    ]
  }
]


___SANDBOXED_JS_FOR_SERVER___

const createRegex = require('createRegex');
const getAllEventData = require('getAllEventData');
const getType = require('getType');
const hasMessageListener = require('hasMessageListener');
const JSON = require('JSON');
const makeInteger = require('makeInteger');
const makeString = require('makeString');
const Math = require('Math');
const Object = require('Object');
const sendHttpRequest = require('sendHttpRequest');
const sendMessage = require('sendMessage');
const setCookie = require('setCookie');
const testRegex = require('testRegex');

const RESERVED = 'x-tagstitch';
const MESSAGE = 'tagstitch_personalization';
const COOKIE_BYTES_MAX = 4096;
const COOKIE_MINUTES_MAX = 400 * 24 * 60; // browsers keep no cookie longer

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

// Names that the fields list, exactly or up to a final *: no action may touch another cookie.
function isAllowedCookie(name) {
  if (!testRegex(createRegex('^[A-Za-z0-9_.~-]+$', ''), name)) return false;
  return listed(data.cookieNames).some((each) => {
    const end = each.length - 1;
    return each.charAt(end) === '*' ? end > 0 && name.indexOf(each.substring(0, end)) === 0 : each === name;
  });
}

function setOne(action) {
  const value = makeString(action.value);
  const minutes = Math.min(makeInteger(action.expiry_minutes), COOKIE_MINUTES_MAX);
  if (!isAllowedCookie(makeString(action.name)) || !(minutes > 0)) return;
  if (action.name.length + value.length > COOKIE_BYTES_MAX) return;
  const isEncoded = testRegex(createRegex('^[A-Za-z0-9._~%-]*$', ''), value);
  setCookie(action.name, value, {
    domain: 'auto',
    path: '/',
    'max-age': minutes * 60,
    secure: true,
    sameSite: 'lax',
    httpOnly: data.httpOnly === true
  }, isEncoded);
}

function perform(actions) {
  if (getType(actions) !== 'array') return;
  const values = {};
  actions.forEach((action) => {
    if (getType(action) !== 'object') return;
    if (action.type === 'set_cookie') setOne(action);
    if (action.type === 'value') values[makeString(action.key)] = action.value;
  });
  if (Object.keys(values).length > 0 && hasMessageListener(MESSAGE)) sendMessage(MESSAGE, values);
}

const event = getAllEventData();
if (consentOf(event, data.purpose) === false) return data.gtmOnSuccess();

if (data.source === 'decision') {
  const mark = event[RESERVED];
  perform(getType(mark) === 'object' ? mark.actions : undefined);
  return data.gtmOnSuccess();
}

const asked = {};
for (const name in event) if (name !== RESERVED) asked[name] = event[name];
ask(data.serviceUrl, {
  event: asked,
  include: ['personalization'],
  deadline_ms: Math.floor(timeoutMs() * 0.8)
}).then((answer) => {
  const part = answer && answer.personalization;
  if (getType(part) !== 'object') return data.gtmOnFailure();
  perform(part.actions);
  data.gtmOnSuccess();
});


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
        "publicId": "set_cookies",
        "versionId": "1"
      },
      "param": [
        {
          "key": "allowedCookies",
          "value": {
            "type": 2,
            "listItem": [
              {
                "type": 3,
                "mapKey": [
                  {
                    "type": 1,
                    "string": "name"
                  },
                  {
                    "type": 1,
                    "string": "domain"
                  },
                  {
                    "type": 1,
                    "string": "path"
                  },
                  {
                    "type": 1,
                    "string": "secure"
                  },
                  {
                    "type": 1,
                    "string": "session"
                  }
                ],
                "mapValue": [
                  {
                    "type": 1,
                    "string": "*"
                  },
                  {
                    "type": 1,
                    "string": "*"
                  },
                  {
                    "type": 1,
                    "string": "/"
                  },
                  {
                    "type": 1,
                    "string": "secure"
                  },
                  {
                    "type": 1,
                    "string": "any"
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
- name: Several cookies of the decided event are set
  code: |-
    event['x-tagstitch'] = {actions: [cookie('show_banner', 'a'), cookie('show_bar', 'b')]};
    runCode(mockData);
    assertApi('setCookie').wasCalledWith('show_banner', 'a', options, true);
    assertApi('setCookie').wasCalledWith('show_bar', 'b', options, true);
    assertApi('gtmOnSuccess').wasCalled();
- name: Values are passed by one message
  code: |-
    event['x-tagstitch'] = {actions: [
      {type: 'value', key: 'variant', value: 'b'}, {type: 'value', key: 'limit', value: 3}
    ]};
    runCode(mockData);
    assertApi('sendMessage').wasCalledWith('tagstitch_personalization', {variant: 'b', limit: 3});
- name: A cookie that is not listed is not set
  code: |-
    event['x-tagstitch'] = {actions: [cookie('FPID', 'a'), cookie('show', 'a'), cookie('show_a;b', 'a')]};
    runCode(mockData);
    assertApi('setCookie').wasNotCalled();
    assertApi('gtmOnSuccess').wasCalled();
- name: A lone star allows nothing
  code: |-
    mockData.cookieNames = '*';
    event['x-tagstitch'] = {actions: [cookie('anything', 'a')]};
    runCode(mockData);
    assertApi('setCookie').wasNotCalled();
- name: A value that is not encoded yet is encoded
  code: |-
    event['x-tagstitch'] = {actions: [cookie('show_banner', 'a; Domain=example.com')]};
    runCode(mockData);
    assertApi('setCookie').wasCalledWith('show_banner', 'a; Domain=example.com', options, false);
- name: A cookie that browsers would not keep is not set
  code: |-
    let long = 'aaaaaaaa';
    while (long.length < 4096) long = long + long;
    event['x-tagstitch'] = {actions: [cookie('show_banner', long)]};
    runCode(mockData);
    assertApi('setCookie').wasNotCalled();
- name: Actions that are no actions do no harm
  code: |-
    event['x-tagstitch'] = {actions: [null, 'x', {}, {type: 'set_cookie'}]};
    runCode(mockData);
    event['x-tagstitch'] = 'x';
    runCode(mockData);
    assertApi('setCookie').wasNotCalled();
    assertApi('gtmOnFailure').wasNotCalled();
- name: Denied consent sets nothing
  code: |-
    event['x-tagstitch'] = {actions: [cookie('show_banner', 'a')]};
    event['x-sst-system_properties'] = {consent: {consentGrantedState: {ad_personalization: false}}};
    runCode(mockData);
    assertApi('setCookie').wasNotCalled();
    assertApi('gtmOnSuccess').wasCalled();
- name: Denied consent in x-ga-gcd sets nothing
  code: |-
    event['x-tagstitch'] = {actions: [cookie('show_banner', 'a')]};
    event['x-ga-gcd'] = '13t3t3t3q5';
    runCode(mockData);
    assertApi('setCookie').wasNotCalled();
- name: It can ask for the actions itself
  code: |-
    mockData.source = 'request';
    answer(200, JSON.stringify({personalization: {actions: [cookie('show_banner', 'a')]}}));
    runCode(mockData);
    callLater(() => {
      assertApi('setCookie').wasCalledWith('show_banner', 'a', options, true);
      assertApi('gtmOnSuccess').wasCalled();
    });
- name: A timeout sets nothing
  code: |-
    mockData.source = 'request';
    mock('sendHttpRequest', () => Promise.create((resolve, reject) => reject({reason: 'timed_out'})));
    runCode(mockData);
    callLater(() => {
      assertApi('setCookie').wasNotCalled();
      assertApi('gtmOnFailure').wasCalled();
    });
- name: An error of the service sets nothing
  code: |-
    mockData.source = 'request';
    answer(500, '');
    runCode(mockData);
    callLater(() => assertApi('gtmOnFailure').wasCalled());
- name: Bad JSON sets nothing
  code: |-
    mockData.source = 'request';
    answer(200, 'null');
    runCode(mockData);
    callLater(() => assertApi('gtmOnFailure').wasCalled());
- name: No cookie is kept longer than browsers do
  code: |-
    const action = cookie('variant', 'a');
    action.expiry_minutes = 99999999;
    event['x-tagstitch'] = {actions: [action]};
    let age;
    mock('setCookie', (name, value, given) => {
      age = given['max-age'];
    });
    runCode(mockData);
    assertThat(age).isEqualTo(400 * 24 * 3600);
- name: Cookies are hidden from scripts where the field says so
  code: |-
    mockData.httpOnly = true;
    event['x-tagstitch'] = {actions: [cookie('variant', 'a')]};
    let hidden;
    mock('setCookie', (name, value, given) => {
      hidden = given.httpOnly;
    });
    runCode(mockData);
    assertThat(hidden).isTrue();
- name: No message is sent for nothing
  code: |-
    event['x-tagstitch'] = {actions: [cookie('show_banner', 'a')]};
    runCode(mockData);
    assertApi('sendMessage').wasNotCalled();
- name: Decide is not told of the mark
  code: |-
    mockData.source = 'request';
    event['x-tagstitch'] = {guard: 'g'};
    let sent;
    mock('sendHttpRequest', (url, given, text) => {
      sent = JSON.parse(text);
      return Promise.create(() => {});
    });
    runCode(mockData);
    assertThat(sent.event).isEqualTo({event_name: 'view_item', client_id: '1.2'});
    assertThat(sent.include).isEqualTo(['personalization']);
setup: |-
  const callLater = require('callLater');
  const JSON = require('JSON');
  const Promise = require('Promise');
  const event = {event_name: 'view_item', client_id: '1.2'};
  const mockData = {
    source: 'decision',
    serviceUrl: 'https://decide.example.com/decide',
    apiKey: 'k',
    timeoutMs: '300',
    cookieNames: 'show_*, variant',
    purpose: 'ad_personalization'
  };
  const options = {domain: 'auto', path: '/', 'max-age': 3600, secure: true, sameSite: 'lax', httpOnly: false};
  function cookie(name, value) {
    return {type: 'set_cookie', name: name, value: value, expiry_minutes: 60};
  }
  function answer(status, body) {
    mock('sendHttpRequest', () => Promise.create((resolve) => resolve({statusCode: status, headers: {}, body: body})));
  }
  mock('getAllEventData', event);
  mock('hasMessageListener', true);


___NOTES___

Fire it on decided events alone: a browser can send actions of its own.
