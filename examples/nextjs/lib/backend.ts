import { cookies } from "next/headers";
import { APP_ORIGIN, OVER_HTTPS } from "@/lib/origin";

/*
 * The thin backend for this frontend. It passes calls on to Latchkey and keeps what a script must never read:
 * the refresh token and the token of a remembered device leave every answer here and live in HttpOnly cookies.
 */

const LATCHKEY_URL = process.env.LATCHKEY_URL ?? "http://127.0.0.1:5000";
const BEHIND_PROXY = process.env.BEHIND_PROXY === "true";
const PATIENCE_MS = 15_000;
// For each of two tries of a refresh: the second must come within 10 seconds of the first, or Latchkey takes the token for stolen.
const REFRESH_PATIENCE_MS = 4_000;
const LARGEST_BODY = 64 * 1024; // Latchkey takes no more either
const DEVICE_LIFE_S = 30 * 24 * 3600; // as long as Latchkey remembers a device

// With __Host- no other subdomain can plant a cookie of this name; browsers want it Secure, so only over https.
const prefix = OVER_HTTPS ? "__Host-" : "";
const REFRESH = `${prefix}latchkey-refresh`;
const DEVICE = `${prefix}latchkey-device`;
const GUARDED = { httpOnly: true, secure: OVER_HTTPS, sameSite: "strict", path: "/" } as const;

type Json = Record<string, unknown>;

/** True for a write that one of our own pages asked for. Every browser sends Origin with a POST. */
export function isOurs(request: Request): boolean {
  const site = request.headers.get("sec-fetch-site");
  return request.headers.get("origin") === APP_ORIGIN && (site === null || site === "same-origin");
}

/** An error in the form of Latchkey's own: RFC 9457, with a stable `code`. */
export function problem(status: number, code: string, detail: string): Response {
  const headers = { "Content-Type": "application/problem+json", "Cache-Control": "no-store" };
  return new Response(JSON.stringify({ title: code, status, code, detail }), { status, headers });
}

/** The body of a request as an object; null if it is too large or no JSON object. */
export async function bodyOf(request: Request): Promise<Json | null> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of request.body ?? []) {
    size += piece.length;
    if (size > LARGEST_BODY) return null;
    pieces.push(piece);
  }
  try {
    const parsed: unknown = JSON.parse(Buffer.concat(pieces).toString("utf8") || "{}");
    return typeof parsed === "object" && parsed !== null && !Array.isArray(parsed) ? (parsed as Json) : null;
  } catch {
    return null;
  }
}

/** Add to a body the secret that the browser keeps for us: to a refresh or sign-out its token, to a sign-in its device's. */
export async function withSecrets(path: string, body: Json): Promise<Json> {
  const jar = await cookies();
  if (path === "refresh" || path === "logout") return { ...body, refresh_token: jar.get(REFRESH)?.value };
  const device = path === "login" ? jar.get(DEVICE)?.value : undefined;
  return device ? { ...body, device_token: device } : body;
}

/** Call Latchkey in the name of the request, with a body or none. */
export async function passOn(request: Request, path: string, body?: Json): Promise<Response> {
  const headers = new Headers({ Accept: "application/json" });
  // The list of sessions names the browser, messages are in its language, and request ids run through both logs.
  const passed = ["authorization", "user-agent", "accept-language", "x-request-id"];
  // X-Forwarded-For as it came, for LATCHKEY_URL leads past Latchkey's own proxy: that would append this server's address.
  for (const name of BEHIND_PROXY ? [...passed, "x-forwarded-for"] : passed) {
    const value = request.headers.get(name);
    if (value) headers.set(name, value);
  }
  if (body) headers.set("Content-Type", "application/json");
  // The answer with its whole body: one that ends early or hangs counts as none.
  const send = async (patience: number) => {
    const from = await fetch(`${LATCHKEY_URL}/api/auth/${path}`, {
      method: request.method,
      headers,
      body: body ? JSON.stringify(body) : undefined,
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.timeout(patience),
    });
    return new Response(await from.arrayBuffer(), { status: from.status, headers: from.headers });
  };
  try {
    // The answer of a refresh may be lost once: the token is spent by then, and the same one gets the same answer again.
    if (path === "refresh") return await send(REFRESH_PATIENCE_MS).catch(() => send(REFRESH_PATIENCE_MS));
    return await send(PATIENCE_MS);
  } catch {
    return problem(503, "unavailable", "The sign-in service cannot be reached. Try again in a moment.");
  }
}

/** Latchkey's answer for the browser: the same, but for the tokens that go into cookies. */
export async function answer(path: string, from: Response): Promise<Response> {
  const headers = new Headers({ "Cache-Control": "no-store" });
  for (const name of ["content-type", "retry-after", "x-request-id"]) {
    const value = from.headers.get(name);
    if (value) headers.set(name, value);
  }
  const kind = headers.get("content-type") ?? "";
  if (from.ok && !kind.startsWith("application/json")) return problem(502, "unavailable", "LATCHKEY_URL is not Latchkey's.");
  const text = await from.text();
  const jar = await cookies();
  const over = path === "logout" ? from.ok || from.status === 401 : path === "refresh" && from.status === 401;
  if (over) jar.set(REFRESH, "", { ...GUARDED, maxAge: 0 });
  if (!from.ok) return new Response(text, { status: from.status, headers });

  const { refresh_token, refresh_expires_in, device_token, ...shown } = JSON.parse(text) as Json;
  if (typeof refresh_token === "string")
    jar.set(REFRESH, refresh_token, { ...GUARDED, maxAge: Number(refresh_expires_in) });
  if (typeof device_token === "string") jar.set(DEVICE, device_token, { ...GUARDED, maxAge: DEVICE_LIFE_S });
  return new Response(JSON.stringify(shown), { status: from.status, headers });
}
