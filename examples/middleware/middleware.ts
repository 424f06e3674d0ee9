// Next.js middleware: asks Tagstitch what the page may know about this browser, hands it over as a
// cookie, and lets the request go on, whatever happens.

import { NextResponse, type NextRequest } from "next/server";

import { personalize, settingsOf } from "./personalization.js";

// Each name by itself, because the edge runtime is given only those that the source spells out.
// None begins with NEXT_PUBLIC_: those are built into what the browser loads.
const settings = settingsOf({
  url: process.env.TAGSTITCH_URL,
  key: process.env.TAGSTITCH_KEY,
  view: process.env.TAGSTITCH_VIEW,
  timeoutMs: process.env.TAGSTITCH_TIMEOUT_MS,
  consentCookie: process.env.TAGSTITCH_CONSENT_COOKIE,
  nodeEnv: process.env.NODE_ENV,
});

export const config = {
  matcher: [
    {
      // Pages: neither Next's own files, nor API routes, nor anything with an extension.
      source: "/((?!_next/|api/|.*\\..*).*)",
      // What is fetched ahead may never be looked at.
      missing: [
        { type: "header", key: "next-router-prefetch" },
        { type: "header", key: "purpose", value: "prefetch" },
      ],
    },
  ],
};

export async function middleware(request: NextRequest): Promise<NextResponse> {
  const cookies = request.headers.get("cookie") ?? "";
  const { requestCookies, setCookies } = await personalize(cookies, settings);
  const headers = new Headers(request.headers);
  if (requestCookies) {
    headers.set("cookie", requestCookies); // the page sees them while it is rendered
  } else {
    headers.delete("cookie");
  }
  const response = NextResponse.next({ request: { headers } });
  for (const line of setCookies) {
    response.headers.append("set-cookie", line);
  }
  if (setCookies.length > 0) {
    // A shared cache would give one visitor's identifier to everybody.
    response.headers.set("cache-control", "private, no-store");
  }
  return response;
}
