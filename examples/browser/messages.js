// Hears the messages of `push_message` rules by server-sent events. As with cookies, a message
// brings a code and the page has the texts.

/**
 * Listen until the token ends, 15 minutes at most. A page that comes again hears only what is new.
 *
 * @param {object} options
 * @param {string} options.url of the push service
 * @param {string} options.token the value `push_token` of a decision
 * @param {(message: {channel: string, payload: any}) => void} options.onMessage
 * @returns {() => void} stops it: to be called when consent is withdrawn
 */
export function listenForMessages({ url, token, onMessage }) {
  const question = new URLSearchParams({ token, after: sessionStorage.getItem("lastPush") ?? "" });
  const source = new EventSource(`${url}?${question}`);
  source.onmessage = ({ data, lastEventId }) => {
    sessionStorage.setItem("lastPush", lastEventId);
    onMessage(JSON.parse(data));
  };
  source.addEventListener("end", () => source.close()); // the next decision has another token
  return () => source.close();
}
