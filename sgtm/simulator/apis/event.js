// @ts-check
/** APIs that read the event, and messages about it. */

/** @param {import("../runtime.js").Runtime} runtime */
export function eventApis({ copyIn, copyOut, permissions, event, messages, report }) {
  return {
    getAllEventData: () => (permissions.needEventData(), copyIn(event)),
    getEventData: (/** @type {string} */ path) => {
      permissions.needEventData(path);
      return copyIn(valueAt(event, path));
    },
    addMessageListener: (
      /** @type {string} */ type,
      /** @type {(type: string, message: any) => void} */ listen,
    ) => {
      permissions.needMessage(type, "listen");
      const heard = (/** @type {any} */ message) => report.run(() => listen(type, copyIn(message)));
      messages.set(type, [...(messages.get(type) ?? []), heard]);
    },
    hasMessageListener: (/** @type {string} */ type) => {
      permissions.needMessage(type, "send");
      return messages.has(type);
    },
    sendMessage: (/** @type {string} */ type, /** @type {any} */ message) => {
      permissions.needMessage(type, "send");
      for (const heard of messages.get(type) ?? []) heard(copyOut(message));
    },
  };
}

/** @param {any} event @param {string} path keys joined by dots; a key with a dot wins over a path */
export function valueAt(event, path) {
  if (event && Object.hasOwn(event, path)) return event[path];
  let value = event;
  for (const key of path.split(".")) {
    if (value === null || typeof value !== "object" || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}
