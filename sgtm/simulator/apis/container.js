// @ts-check
/** APIs about the container itself: claiming, running, its storage, its log. */

/** @param {import("../runtime.js").Runtime} runtime */
export function containerApis(runtime) {
  const { copyIn, copyOut, permissions, exchange, container, storage } = runtime;
  return {
    claimRequest: () => exchange.claim(runtime.name),
    runContainer: (
      /** @type {any} */ event,
      /** @type {() => void} */ onComplete,
      /** @type {(bindToEvent: (api: any) => any) => void} */ onStart,
    ) => {
      permissions.need("run_container");
      container.run(exchange, copyOut(event), {
        onComplete: () => onComplete && runtime.report.run(onComplete),
        onStart: (/** @type {Map<string, any>} */ messages) =>
          onStart && runtime.report.run(() => onStart((api) => runtime.bindToEvent(api, messages))),
      });
    },
    getClientName: () => (permissions.need("read_container_data"), exchange.clientName),
    getContainerVersion: () => {
      permissions.need("read_container_data");
      return copyIn({
        containerId: "GTM-SIMULATOR",
        debugMode: false,
        previewMode: false,
        version: "1",
      });
    },
    logToConsole: (/** @type {any[]} */ ...values) => {
      permissions.need("logging");
      runtime.log({ kind: "console", name: runtime.name, values: values.map(copyOut) });
    },
    templateDataStorage: storageApi(copyIn, copyOut, permissions, storage),
  };
}

/**
 * @param {(value: any) => any} copyIn
 * @param {(value: any) => any} copyOut
 * @param {import("../permissions.js").Permissions} permissions
 * @param {Map<string, any>} storage of this template on this server
 */
function storageApi(copyIn, copyOut, permissions, storage) {
  const need = () => permissions.need("access_template_storage");
  return {
    getItemCopy: (/** @type {string} */ key) => (need(), copyIn(storage.get(key) ?? null)),
    setItemCopy: (/** @type {string} */ key, /** @type {any} */ value) => (
      need(),
      void storage.set(key, copyOut(value))
    ),
    removeItem: (/** @type {string} */ key) => (need(), void storage.delete(key)),
    clear: () => (need(), storage.clear()),
  };
}
