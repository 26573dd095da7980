/*
 * What Latchkey answers, and how a page asks. Calls go to this app's own server, under the same paths.
 */

export type Channel = "email" | "sms" | "totp" | "passkey";
export type Method = "email" | "sms" | "totp" | "backup_code" | "passkey";

export type Challenge = {
  challenge_id: string;
  channel: Channel;
  destination: string;
  expires_in: number;
  resend_in: number;
};

export type Delivery = Challenge & { delivery: "queued" | "sent" | "delivered" | "failed" };

export type User = {
  id: string;
  name: string | null;
  username: string | null;
  email: string | null;
  phone: string | null;
  role: string;
  mfa: string[];
  created_at: string;
  last_login_at: string | null;
};

export type Tokens = { status: "complete"; access_token: string; expires_in: number; user: User };
export type Step = Challenge & { status: "otp_required"; methods: Method[] };

type FieldError = { field: string; code: string; message: string };
type Problem = { code?: string; detail?: string; errors?: FieldError[]; retry_after?: number; attempts_left?: number };

/** A no that a page can act on: `code` is stable, the rest helps. `offline` is ours, for an answer that never came. */
export class Refusal extends Error {
  readonly code: string;
  readonly errors: FieldError[];
  readonly attemptsLeft?: number;
  readonly until?: number; // when another try makes sense, milliseconds since 1970

  constructor(
    readonly status: number,
    problem: Problem,
  ) {
    super(problem.detail ?? "");
    this.code = problem.code ?? "internal_error";
    this.errors = problem.errors ?? [];
    this.attemptsLeft = problem.attempts_left;
    this.until = problem.retry_after ? Date.now() + problem.retry_after * 1000 : undefined;
  }

  /** True if the challenge takes no more answers: it is gone, or this was the last guess. */
  get closes(): boolean {
    return this.code === "challenge_closed" || this.attemptsLeft === 0;
  }
}

/** Ask; give what was answered. Throws a Refusal. */
export async function call<T>(
  method: "GET" | "POST",
  path: string,
  body?: object,
  { token, patience }: { token?: string; patience?: number } = {}, // patience: milliseconds until it counts as unanswered
): Promise<T> {
  const headers: Record<string, string> = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  // keepalive: a refresh whose page is left in mid-air still brings the new cookie, for the old token is spent.
  const keepalive = method === "POST";
  const signal = patience === undefined ? undefined : AbortSignal.timeout(patience);
  const request = { method, headers, body: body && JSON.stringify(body), cache: "no-store", keepalive, signal } as const;
  const response = await fetch(`/api/auth/${path}`, request).catch(() => null);
  const answered = await response?.json().catch(() => null);
  if (response && !response.ok) throw new Refusal(response.status, answered ?? {});
  if (!answered) throw new Refusal(0, { code: "offline" }); // not even the end of a good one
  return answered as T;
}
