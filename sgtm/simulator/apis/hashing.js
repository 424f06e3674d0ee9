// @ts-check
/** APIs that hash. */

import { createHash, createHmac } from "node:crypto";

/** @param {import("../runtime.js").Runtime} runtime */
export function hashingApis({ permissions, credentials, report }) {
  return {
    sha256: (
      /** @type {string} */ input,
      /** @type {(digest: string) => void} */ onSuccess,
      /** @type {{outputEncoding?: any}} */ options = {},
    ) => {
      const digest = sha256(input, options.outputEncoding);
      setImmediate(() => report.run(() => onSuccess(digest)));
    },
    sha256Sync: (/** @type {string} */ input, /** @type {{outputEncoding?: any}} */ options = {}) =>
      sha256(input, options.outputEncoding),
    hmacSha256: (
      /** @type {string} */ input,
      /** @type {string} */ keyId,
      /** @type {{outputEncoding?: any}} */ options = {},
    ) => {
      permissions.needKey(keyId);
      const key = credentials.keys[keyId];
      if (!key) throw new Error(`the key file has no key ${keyId}`);
      return createHmac("sha256", Buffer.from(key, "base64"))
        .update(input, "utf8")
        .digest(options.outputEncoding ?? "base64url");
    },
  };
}

/** @param {string} input @param {"base64" | "hex" | "base64url"} [encoding] */
function sha256(input, encoding = "base64") {
  return createHash("sha256").update(input, "utf8").digest(encoding);
}
