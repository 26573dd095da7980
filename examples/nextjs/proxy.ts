import { NextResponse, type NextRequest } from "next/server";
import { OVER_HTTPS } from "@/lib/origin";

/**
 * A Content-Security-Policy with a nonce for each page: a script that somebody smuggles in does not run, so it
 * cannot read the access token out of the page's memory. Next.js puts the nonce on its own scripts.
 */
export function proxy(request: NextRequest) {
  const nonce = btoa(crypto.randomUUID());
  const developing = process.env.NODE_ENV === "development"; // React and the reloading of styles want more then
  const policy = [
    "default-src 'self'",
    `script-src 'self' 'nonce-${nonce}' 'strict-dynamic'${developing ? " 'unsafe-eval'" : ""}`,
    `style-src 'self' ${developing ? "'unsafe-inline'" : `'nonce-${nonce}'`}`,
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    ...(OVER_HTTPS ? ["upgrade-insecure-requests"] : []),
  ].join("; ");
  const headers = new Headers(request.headers);
  headers.set("Content-Security-Policy", policy);
  const response = NextResponse.next({ request: { headers } });
  response.headers.set("Content-Security-Policy", policy);
  if (OVER_HTTPS) response.headers.set("Strict-Transport-Security", "max-age=31536000");
  return response;
}

export const config = { matcher: "/((?!api/|_next/static/|icon.svg).*)" };
