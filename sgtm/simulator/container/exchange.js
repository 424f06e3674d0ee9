// @ts-check
/** One request and its response, as clients and tags see them. */

/**
 * @typedef {{
 *   method: string,
 *   path: string,
 *   query: string,
 *   headers: Record<string, string>,
 *   body: string,
 *   remoteAddress: string,
 * }} IncomingRequest
 * @typedef {{status: number, headers: Array<[string, string]>, body: Buffer}} Response
 */

/** What a response is until it leaves. */
class ResponseDraft {
  status = 200;
  /** @type {Buffer} */
  body = Buffer.alloc(0);
  /** @type {Map<string, string[]>} lower-case name → values; only cookies have several */
  headers = new Map();
  isSent = false;

  /** @param {(what: string) => void} onLate told what came after the response had left */
  constructor(onLate) {
    this.onLate = onLate;
  }

  /** @param {number} status */
  setStatus(status) {
    if (this.#mayWrite("status")) this.status = status;
  }

  /** @param {Buffer} body */
  setBody(body) {
    if (this.#mayWrite("body")) this.body = body;
  }

  /** Overwrites: a second Set-Cookie by this way loses the first. @param {string} name @param {string} value */
  setHeader(name, value) {
    if (this.#mayWrite(`header ${name}`)) this.headers.set(name.toLowerCase(), [String(value)]);
  }

  /** @param {string} cookie */
  addCookie(cookie) {
    if (!this.#mayWrite("cookie")) return;
    this.headers.set("set-cookie", [...(this.headers.get("set-cookie") ?? []), cookie]);
  }

  /** @param {string} what */
  #mayWrite(what) {
    if (this.isSent) this.onLate(what);
    return !this.isSent;
  }
}

export class Exchange {
  clientName = "";
  /** @type {(response: Response) => void} */
  #resolve = () => {};
  #isClaimable = false;

  /**
   * @param {IncomingRequest} request
   * @param {(entry: Record<string, any>) => void} log
   */
  constructor(request, log) {
    this.request = request;
    this.log = log;
    this.response = new ResponseDraft((what) => log({ kind: "too_late", what }));
    /** @type {Promise<Response>} */
    this.answered = new Promise((resolve) => (this.#resolve = resolve));
  }

  /** Let a client decide whether the request is its own; only now, synchronously. @param {() => void} decide */
  offer(decide) {
    this.#isClaimable = true;
    decide();
    this.#isClaimable = false;
    return this.clientName !== "";
  }

  /** @param {string} clientName */
  claim(clientName) {
    if (!this.#isClaimable) throw new Error("claimRequest must be called synchronously");
    if (this.clientName) throw new Error("the request is claimed already");
    this.clientName = clientName;
  }

  returnResponse() {
    if (this.response.isSent) return;
    const { status, body } = this.response;
    const headers = [...this.response.headers].flatMap(([name, values]) =>
      values.map((value) => /** @type {[string, string]} */ ([name, value])),
    );
    this.response.isSent = true;
    const cookies = headers.filter(([name]) => name === "set-cookie");
    this.log({
      kind: "response",
      client: this.clientName,
      status,
      cookies: cookies.map(([, value]) => value.split("=")[0]),
    });
    this.#resolve({ status, headers, body });
  }
}
